"""Looks for the layers whose float32 costs least time for what it does for the answers, by a price of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import onnx_ir as ir

from edgekit.choosing.closest import Candidate, to_decibels
from edgekit.choosing.precision import MIXED, WORTH, Contest, with_dynamic
from edgekit.converters.choose_float import choose_at_price, noise_left
from edgekit.targets.errors import ModelError

# Powers of two, up and down, that the price of noise may take; then halvings of the last one.
_OCTAVES = 12
_REFINEMENTS = 2
# Groups of neighbours that are tried in int8 again.
_GROUPS = 3

# Why a layer is float32 that int8 would hold, and what of a node's noise is too little to be named.
ACCURACY = "left float32 for accuracy"
_AUDIBLE_DB = 60.0

IsGood = Callable[[Candidate], bool]


class FloatSearch:
    """The layers that are float32 at each price of noise.

    Args:
        graph: Of the float model.
        contest: With the costs of all layers.
        noise: Of values by name, where they are held in codes.
        total: What all of them leave, in noise's unit.
        of_answers: Whether noise is the square of a share of answers.
    """

    def __init__(
        self,
        graph: ir.Graph,
        contest: Contest,
        noise: Mapping[str, float],
        total: float,
        of_answers: bool = False,
    ) -> None:
        assert contest.costs is not None
        self._graph = graph
        self._contest = contest
        self._noise = noise
        self._costs = with_dynamic(contest.costs, contest.dynamic)
        self._loudest = loudest(graph, noise)
        self._of_answers = of_answers
        whole = sum(self._costs.int8.values()) + sum(self._costs.real.values())
        self._unit = max(whole, 1e-9) / max(total, 1e-30)
        self._known: dict[frozenset[str], tuple[Candidate, Contest] | None] = {
            frozenset(contest.keep_float): None,
            frozenset(): None,
        }

    def find(
        self,
        build: Callable[[Contest, str], Candidate],
        is_good: IsGood,
        is_hopeless: Callable[[Contest], bool],
        name: str,
    ) -> tuple[Candidate, Contest] | None:
        """Returns the forms at the lowest price that gives good ones, less what may go back; None where none does.

        Args:
            build: Makes and runs the forms of a decision, in a folder of that name.
            is_good: Whether answers are close enough.
            is_hopeless: Whether a decision would take too long to be worth building.
            name: How folders begin.
        """

        def attempt(kept: frozenset[str]) -> tuple[Candidate, Contest] | None:
            if kept not in self._known:
                decided = self._decide(kept)
                try:
                    candidate = build(decided, f"{name}-{len(self._known)}")
                except ModelError:
                    # A form cannot hold one of them in float32.
                    self._known[kept] = None
                else:
                    self._known[kept] = (candidate, decided) if is_good(candidate) else None
            return self._known[kept]

        found = None
        low, high = -_OCTAVES, _OCTAVES
        while low < high:
            middle = (low + high) // 2
            kept = self._choose(middle)
            if is_hopeless(self._decide(kept)):
                high = middle
                continue
            made = attempt(kept)
            if made is None:
                low = middle + 1
            else:
                found, high = made, middle
        if found is None:
            return None
        step = 0.5
        octave = float(high)
        for _ in range(_REFINEMENTS):
            made = attempt(self._choose(octave - step))
            if made is not None:
                found, octave = made, octave - step
            step /= 2
        for group in self._list_groups(frozenset(found[1].keep_float)):
            found = attempt(frozenset(found[1].keep_float) - group) or found
        return found

    def list_decisions(self) -> list[tuple[Contest, float]]:
        """Returns the decisions at all prices, in their order, and the noise that each leaves by that of the values."""
        found: dict[frozenset[str], float] = {}
        for octave in range(-_OCTAVES, _OCTAVES + 1):
            kept = self._choose(octave)
            if kept not in found:
                found[kept] = noise_left(self._graph, self._noise, kept)
        return [(self._decide(kept), left) for kept, left in found.items()]

    def _decide(self, kept: frozenset[str]) -> Contest:
        reasons = give_reasons(kept, self._contest, self._loudest, self._of_answers)
        return replace(self._contest, chosen=MIXED, keep_float=reasons)

    def _choose(self, octave: float) -> frozenset[str]:
        price = self._unit * 2.0**octave
        return choose_at_price(self._graph, self._costs, self._noise, price, margin=WORTH)

    def _list_groups(self, kept: frozenset[str]) -> list[frozenset[str]]:
        """Returns the groups of neighbours among ``kept`` that int8 would make fastest by themselves, best first."""
        groups: dict[str, set[str]] = {}
        for node in self._graph:
            name = node.name or ""
            if name not in kept:
                continue
            group = {name}
            for value in node.inputs:
                maker = None if value is None else value.producer()
                if maker is not None and (maker.name or "") in groups:
                    group |= groups[maker.name or ""]
            groups.update(dict.fromkeys(group, group))
        saved = {
            frozenset(group): sum(
                self._costs.real.get(name, 0.0) - self._costs.int8.get(name, 0.0) for name in group
            )
            for group in groups.values()
        }
        worth = [group for group, saving in saved.items() if saving > 0 and group != kept]
        return sorted(worth, key=lambda group: -saved[group])[:_GROUPS]


def give_reasons(
    kept: frozenset[str], contest: Contest, noise: Mapping[str, float], of_answers: bool = False
) -> dict[str, str]:
    """Returns why each node is float: it was faster so already, or int8 costs the answers too much.

    Args:
        kept: Names of the nodes.
        contest: What was decided for speed.
        noise: Of nodes by name, as `loudest` returns it.
        of_answers: Whether that is the square of a share of answers.
    """

    def tell(name: str) -> str:
        decibels = to_decibels(noise.get(name, 0.0))
        if decibels > _AUDIBLE_DB:
            return ACCURACY
        if of_answers:
            share = 100 * math.sqrt(noise[name])
            return f"{ACCURACY}: {share:.1f} % of the answers may be others with it alone in int8"
        return f"{ACCURACY}: {decibels:.1f} dB were left with it alone in int8"

    return {name: contest.keep_float.get(name) or tell(name) for name in kept}


def loudest(graph: ir.Graph, noise: Mapping[str, float]) -> dict[str, float]:
    """Returns the noise of each node's noisiest value, that of what it makes or else of what it reads."""
    found = {}
    for node in graph:
        made = max((noise.get(str(value.name), 0.0) for value in node.outputs), default=0.0)
        read = (noise.get(str(value.name), 0.0) for value in node.inputs if value is not None)
        found[node.name or ""] = made or max(read, default=0.0)
    return found
