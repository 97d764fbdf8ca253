"""Makes the forms of a float graph: recovery, rounding, ranges, layers in float32, biases, and a search if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.choose_forms import choose_held_out
from edgekit.choosing.choose_rounding import ChosenRounding, choose_rounding
from edgekit.choosing.closest import Candidate, Reference
from edgekit.choosing.goal import Goal
from edgekit.choosing.held_out import Seen, hold_out
from edgekit.choosing.precision import Contest
from edgekit.choosing.recovery import choose_enough, correct_forms, recover_graph
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.recover.report import RecoveryReport
from edgekit.data import Samples
from edgekit.forms import Recipe
from edgekit.progress import Progress
from edgekit.request import Request
from edgekit.search import Effort, Found, Promises, Workshop, find_plan


@dataclass(frozen=True)
class Made:
    """Forms of a float graph.

    Attributes:
        graph: The float graph that was quantized.
        learned: Its calibration.
        best: The forms.
        contest: How the precision of layers was chosen, or None.
        recovery: What was done so that int8 loses less.
        rounded: How weights were rounded.
        recipe: What was built, with what rounding takes.
        found: What a search found, None where there was none.
    """

    graph: ir.Model
    learned: Calibration
    best: Candidate
    contest: Contest | None
    recovery: RecoveryReport
    rounded: ChosenRounding
    recipe: Recipe
    found: Found | None


@dataclass(frozen=True)
class Wanted:
    """What forms are made by, whatever graph they are made of.

    Attributes:
        request: The checked arguments.
        recover: As `deploy` was given it.
        promises: What has to be kept.
        effort: Of a search.
        goal: What answers are judged by.
        closeness: How close they are, whatever else they are judged by.
        reference: What float answers.
        samples: To calibrate with.
        tell: Is told how far it is.
        seen: What was learned of some samples.
    """

    request: Request
    recover: str | Sequence[str]
    promises: Promises
    effort: Effort
    goal: Goal
    closeness: Goal
    reference: Reference
    samples: Samples
    tell: Progress
    seen: Seen | None = None


def make_forms(
    graph: ir.Model, learned: Calibration, recipe: Recipe, wanted: Wanted, folder: Path
) -> Made:
    """Returns the forms of a float graph.

    Args:
        graph: Simplified.
        learned: Its calibration.
        recipe: What is built.
        wanted: What it is made by.
        folder: Where forms are tried.

    Raises:
        PromiseError: No plan keeps what was promised.
        EdgekitError: They cannot be made.
    """
    request, goal, tell = wanted.request, wanted.goal, wanted.tell
    samples, reference, promises = wanted.samples, wanted.reference, wanted.promises
    enough_db = choose_enough(graph, samples, recipe, promises.max_drop is not None)
    choice = None if request.ranges == "auto" else RangeChoice(request.ranges)
    graph, learned, recovery = recover_graph(
        graph, learned, samples, recipe, wanted.recover, tell, enough_db, choice
    )
    held = hold_out(graph, samples, reference, tell, wanted.seen)
    rounded = choose_rounding(
        request.rounding,
        graph,
        learned,
        request.ranges,
        recipe,
        samples,
        held,
        promises.max_drop is not None,
        folder / "rounding",
        tell,
    )
    searches = (promises or wanted.effort) and request.precision == "auto" and recipe.chooses_layers
    # A search makes its plans without asking what it is judged by.
    first = wanted.closeness if searches else goal
    best, contest, rounded = choose_held_out(
        graph,
        learned,
        held,
        samples,
        request.ranges,
        request.precision,
        request.rounding,
        rounded,
        reference,
        first,
        folder,
        tell,
    )
    recipe = rounded.recipe
    best, corrections = correct_forms(
        best,
        graph,
        samples,
        recipe,
        reference,
        request.recover,
        folder / "corrected",
        keep_always=wanted.recover != "auto",
        enough_db=enough_db,
    )
    recovery = RecoveryReport((*recovery.effects, *corrections))
    found = None
    if searches:
        workshop = Workshop(
            graph,
            learned,
            recipe,
            reference,
            folder / "search",
            tell,
            held,
            rounded.trial,
            request.ranges == "auto",
        )
        found = find_plan(workshop, best, contest, promises, goal, wanted.effort)
        best, contest = found.candidate, found.contest
    return Made(graph, learned, best, contest, recovery, rounded, recipe, found)
