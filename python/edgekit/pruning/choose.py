"""``prune="auto"``: tries recipes from the mildest on, and takes the fastest that answers well; never a slower one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

from edgekit.choosing.closest import Candidate
from edgekit.converters.prune.break_even import read_table
from edgekit.converters.prune.pattern import Blocks
from edgekit.converters.prune.sparsity import Zeros
from edgekit.data import Sample
from edgekit.forms import NATIVE, Recipe
from edgekit.progress import Progress
from edgekit.pruning.recipe import Pruning
from edgekit.report.pruning import PruningAccount
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError, PromiseError
from edgekit.timing import measure_interleaved

# Shares of weights that are 0, and of multiplications that stay, from the mildest on.
_ZEROS = (0.5, 0.75)
_CHANNELS = (0.75, 0.5)
# A plan that takes more of the dense one's time is not worth what it loses.
_FASTER = 0.97
_SECONDS = 1.0


class Made(Protocol):
    """Forms that were made of a graph."""

    @property
    def best(self) -> Candidate:
        """The forms."""


M = TypeVar("M", bound=Made)


@dataclass(frozen=True)
class Chosen(Generic[M]):
    """What `choose_pruning` took.

    Attributes:
        made: The forms.
        account: What pruning did.
        shares: By recipe, the time of its plan in parts of the dense one's, in turns.
    """

    made: M
    account: PruningAccount
    shares: Mapping[str, float] = field(default_factory=dict)


def list_recipes(recipe: Recipe) -> list[list[Pruning]]:
    """Returns what may be tried, in families, each from the mildest on.

    Zeros inside layers are for the native form alone, in the largest block that the instruction set has a kernel for.
    """
    found = [[Pruning(channels=share) for share in _CHANNELS]]
    blocks = {
        row.block for row in read_table() if row.isa == recipe.isa and isinstance(row.block, Blocks)
    }
    if recipe.formats == (NATIVE,) and blocks:
        block = max(blocks, key=lambda block: (block.rows * block.columns, str(block)))
        found.insert(0, [Pruning(zeros=Zeros(block, share)) for share in _ZEROS])
    return found


def choose_pruning(
    dense: M,
    recipe: Recipe,
    sample: Sample,
    is_good: Callable[[M], bool],
    make: Callable[[Pruning], tuple[M, PruningAccount]],
    tell: Progress,
) -> Chosen[M]:
    """Returns the fastest forms that answer well, ``dense`` where none is faster than it.

    Each family is gone through from its mildest recipe on, up to the first whose answers are not good enough, so that
    one that is bolder is not asked after. What is faster than ``dense`` is measured in turns with it, and the fastest
    of all once more, at the end; where this machine cannot run the board's plan, nothing is pruned, for nothing shows
    that it would pay.

    Args:
        dense: Forms of the network as it is.
        recipe: What is built.
        sample: What forms are timed on.
        is_good: Whether forms answer well enough.
        make: Prunes and makes the forms of a recipe.
        tell: Is told how far it is.
    """
    lines: list[str] = []
    nothing = PruningAccount("none", 1.0, 1.0, tried=lines)
    if NATIVE in recipe.formats and not recipe.runs_here:
        lines.append(
            f"this machine cannot time plans for {recipe.isa}: name a recipe, or measure on the board"
        )
        return Chosen(dense, nothing)
    families = list_recipes(recipe)
    shares: dict[str, float] = {}
    tried, total = 0, sum(map(len, families))
    found: list[tuple[float, M, PruningAccount]] = []
    for family in families:
        for pruning in family:
            tell("pruning", tried, total)
            tried += 1
            try:
                made, account = make(pruning)
            except EdgekitError as error:
                lines.append(f"{pruning}: {error}")
                break
            if not account.layers:
                lines.append(f"{pruning}: no layer would be faster")
                continue
            if not is_good(made):
                lines.append(f"{pruning}: answers at {made.best.snr_db:.1f} dB lose too much")
                break
            times = time_beside(dense, made, sample, recipe.threads)
            share = shares[str(pruning)] = times["pruned"] / times["dense"]
            lines.append(
                f"{pruning}: {times['pruned']:.3g} ms beside {times['dense']:.3g} ms, answers at "
                f"{made.best.snr_db:.1f} dB"
            )
            if share < _FASTER:
                found.append((share, made, account))
    tell("pruning", total, total)
    for _, made, account in sorted(found, key=lambda item: item[0]):
        times = time_beside(dense, made, sample, recipe.threads)
        if times["pruned"] < _FASTER * times["dense"]:
            taken = replace(
                account, dense_ms=times["dense"], pruned_ms=times["pruned"], tried=lines
            )
            return Chosen(made, taken, shares)
        lines.append(f"{account.recipe}: measured again, it was not faster")
    return Chosen(dense, nothing, shares)


def find_promised(
    broken: PromiseError, recipe: Recipe, make: Callable[[Pruning], tuple[M, PruningAccount]]
) -> tuple[M, PruningAccount]:
    """Returns the forms of the mildest recipe that keeps promises which the network as it is does not.

    Args:
        broken: What cannot be kept without pruning.
        recipe: What is built.
        make: Prunes and makes the forms of a recipe.

    Raises:
        PromiseError: No recipe keeps them: it is ``broken``.
    """
    lines = [f"without pruning: {broken}"]
    for family in list_recipes(recipe):
        for pruning in family:
            try:
                made, account = make(pruning)
            except EdgekitError as error:
                lines.append(f"{pruning}: {error}")
                continue
            return made, replace(account, tried=lines)
    raise broken


def time_beside(dense: Made, pruned: Made, sample: Sample, threads: int) -> Mapping[str, float]:
    """Returns the median milliseconds of two networks that take turns, by "dense" and "pruned"."""
    sessions: dict[str, Session] = {
        "dense": dense.best.forms.session,
        "pruned": pruned.best.forms.session,
    }
    timings = measure_interleaved(
        {name: partial(session.run, sample) for name, session in sessions.items()},
        threads=threads,
        seconds=_SECONDS,
    )
    return {name: timing.median_ms for name, timing in timings.items()}
