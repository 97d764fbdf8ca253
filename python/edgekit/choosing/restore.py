"""Keeps int8 from ruining the answers: other ranges for noisy values, and float32 for those that stay noisy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.closest import Candidate, Reference, compare, prefer_wide, to_decibels
from edgekit.choosing.goal import WANTED_SNR_DB
from edgekit.choosing.precision import (
    FLOAT,
    INT8,
    MIXED,
    WORTH,
    Contest,
    slow_down,
    time_forms,
    with_dynamic,
)
from edgekit.converters.calibrate import METHODS, Calibration
from edgekit.converters.choose_float import choose_at_price, weights_of
from edgekit.converters.noise import choose_ranges, measure_noise
from edgekit.converters.quantizable import has_recurrent_codes
from edgekit.data import Sample
from edgekit.forms import Recipe, build_forms
from edgekit.progress import Progress
from edgekit.sizes import is_of
from edgekit.targets.errors import ModelError

_ALLOWED = 10 ** (-WANTED_SNR_DB / 10)
# Powers of two, up and down, that the price of noise may take; then halvings of the last one.
_OCTAVES = 12
_REFINEMENTS = 2
# Groups of neighbours that are tried in int8 again.
_GROUPS = 3
# How much longer than int8 dynamic layers may take, conversions left out, where it isn't asked whether fewer would do.
_SMALL_SLOWDOWN = 1.5
# Noise that is not looked into further, of what is allowed.
_SMALL = 0.02
# Elements of the inputs that noise is measured on, and samples at least and at most.
_MEASURED_ELEMENTS = 1 << 20
_FEWEST, _MOST = 4, 16

# Why a layer is float32 that int8 would hold, and what of a node's noise is too little to be named.
ACCURACY = "left float32 for accuracy"
_AUDIBLE_DB = 60.0

# How much the costs of layers may overrate a slowdown.
_DOUBT = 1.2

IsGood = Callable[[Candidate], bool]
IsWorth = Callable[[float], bool]


class Restoration:
    """The noise of one network's values, and what is done about it.

    Args:
        graph: The float model, simplified.
        calibration: What calibration learned of it.
        recipe: What is built.
        reference: What the float model answers.
        folder: Where forms are tried.
        ranges: "auto" where they are to be chosen.
        progress: Is told of the noise that has been measured.
    """

    def __init__(
        self,
        graph: ir.Model,
        calibration: Calibration,
        recipe: Recipe,
        reference: Reference,
        folder: Path,
        ranges: str,
        progress: Progress,
    ) -> None:
        self._graph = graph
        self._calibration = calibration
        self._recipe = recipe
        self._reference = reference
        self._folder = folder
        self._ranges = ranges
        self._builds = 0
        self._tried: list[tuple[Candidate, Contest]] = []
        self._progress = progress
        self._samples = spread_samples(
            [sample for sample in reference.samples if is_of(graph, sample)]
        )
        self._noise: Mapping[str, float] | None = None
        self._recurrent = {
            node.name or "": node for node in graph.graph if has_recurrent_codes(node)
        }
        self._recurrent_noise: Mapping[str, float] | None = None

    def improve_ranges(self, best: Candidate) -> Candidate:
        """Returns ``best``, or its like with other ranges for its noisiest values if that comes closer to float."""
        noise = self._measure(best)
        choice, after = choose_ranges(
            self._graph,
            best.forms.quantized,
            self._calibration,
            best.forms.ranges,
            self._samples,
            noise,
            smallest=_SMALL * _ALLOWED,
        )
        if choice == best.forms.ranges:
            return best
        forms = build_forms(
            self._graph, self._calibration, choice, self._recipe, self._folder / "ranges"
        )
        candidate = compare(forms, self._reference)
        if candidate.distance >= best.distance:
            return best
        self._noise = after
        return candidate

    def choose_again(
        self, found: tuple[Candidate, Contest], is_good: IsGood
    ) -> tuple[Candidate, Contest]:
        """Returns ``found``, or its like with other ranges for all values if that is better and good.

        Ranges were chosen while all layers were in codes, whose noisiest values may be float32 now.
        """
        best, decided = found
        ranges = best.forms.ranges
        if self._ranges != "auto":
            return found
        self._builds += 1
        tried = []
        for method in METHODS:
            forms = build_forms(
                self._graph,
                self._calibration,
                replace(ranges, method=method, exceptions={}),
                self._recipe,
                self._folder / f"again-{method}-{self._builds}",
                decided.keep_float,
                decided.dynamic_layers,
            )
            tried.append(compare(forms, self._reference))
        better = prefer_wide([*tried, best])
        return (better, decided) if is_good(better) else found

    def take_dynamic(
        self, best: Candidate, contest: Contest, is_good: IsGood
    ) -> tuple[Candidate, Contest] | None:
        """Returns the like of ``best`` with all layers dynamic that can be, if that is good and takes little longer.

        The others are float32, recurrent ones with int8 weights where those are faster. Whether few layers would do is
        then not asked: that takes many times as long as this.

        Args:
            best: Forms in int8 that are not good.
            contest: With the costs of all layers.
            is_good: Whether answers are close enough.
        """
        costs = contest.costs
        if costs is None or not contest.dynamic:
            return None
        names = frozenset(
            name
            for name in (node.name or "" for node in self._graph.graph)
            if name not in self._recurrent or costs.int8.get(name, 0.0) > costs.real.get(name, 0.0)
        )
        decided = replace(contest, chosen=MIXED, keep_float=give_reasons(names, contest, {}))
        if slow_down(replace(contest, chosen=INT8, keep_float={}), decided) > _SMALL_SLOWDOWN:
            return None
        candidate = self.build(best, decided, "dynamic")
        return (candidate, decided) if is_good(candidate) else None

    def leave_float(
        self, best: Candidate, contest: Contest, is_good: IsGood, is_worth: IsWorth
    ) -> tuple[Candidate, Contest]:
        """Returns ``best`` if it is good, or its like with the cheapest layers in float32 that make it so.

        With codes made at run time where that is faster and good enough, and without them otherwise; where no few
        layers do, all of them are left float. What takes far longer than is worth it, by the costs of the layers, is
        not even built; where that leaves nothing, the contest comes back as it is.

        Args:
            best: The forms that the contest chose.
            contest: With the costs of all layers.
            is_good: Whether answers are close enough.
            is_worth: Whether ``best`` is to be given up for forms so many times slower.
        """
        if contest.costs is None or is_good(best):
            return best, contest

        def is_hopeless(decided: Contest) -> bool:
            return not is_worth(slow_down(contest, decided) / _DOUBT)

        tried = [contest, replace(contest, dynamic={})] if contest.dynamic else [contest]
        noise = {**self._measure(best), **self._measure_recurrent(best, contest)}
        for number, version in enumerate(tried):
            search = _Search(self._graph.graph, version, noise, best)
            found = search.find(
                lambda decided, name: self.build(best, decided, name),
                is_good,
                is_hopeless,
                f"restored-{number}",
            )
            if found is not None:
                return found
        names = frozenset(node.name or "" for node in self._graph.graph)
        whole = replace(contest, chosen=FLOAT, keep_float=give_reasons(names, contest, {}))
        return (best, contest) if is_hopeless(whole) else self.leave_all_float(best, contest)

    def time_engine(self, best: Candidate, better: Candidate, decided: Contest) -> Contest:
        """Returns ``decided`` with the times of both in their engine, where that is one of this machine's.

        Args:
            best: All in int8.
            better: With float32 layers.
            decided: Which these are.
        """
        if better.forms.plan is not None or self._recipe.profile.isa != "auto":
            return decided
        return time_forms(
            decided,
            {INT8: best.forms.session, decided.chosen: better.forms.session},
            self._reference.samples[0],
            threads=self._recipe.threads,
        )

    def leave_all_float(self, best: Candidate, contest: Contest) -> tuple[Candidate, Contest]:
        """Returns the like of ``best`` with every layer in float32."""
        names = frozenset(node.name or "" for node in self._graph.graph)
        reasons = give_reasons(names, contest, loudest(self._graph.graph, self._measure(best)))
        decided = replace(contest, chosen=FLOAT, keep_float=reasons)
        return self.build(best, decided, "restored-float"), decided

    def build(self, best: Candidate, decided: Contest, name: str) -> Candidate:
        """Returns the like of ``best`` whose layers have the precisions ``decided``.

        Args:
            best: Forms whose ranges are kept.
            decided: Which layers are float32, and which dynamic.
            name: How the folder to build in begins.
        """
        self._builds += 1
        forms = build_forms(
            self._graph,
            self._calibration,
            best.forms.ranges,
            self._recipe,
            self._folder / f"{name}-{self._builds}",
            decided.keep_float,
            decided.dynamic_layers,
        )
        candidate = compare(forms, self._reference)
        self._tried.append((candidate, decided))
        return candidate

    def settle(
        self, best: Candidate, contest: Contest, weigh: Callable[[Candidate, float], float]
    ) -> tuple[Candidate, Contest]:
        """Returns what weighs least of all that was built, where none is good.

        Args:
            best: The forms that the contest chose.
            contest: With the costs of all layers.
            weigh: What a candidate costs that is so many times slower than ``best``.
        """

        def weigh_pair(pair: tuple[Candidate, Contest]) -> float:
            return weigh(pair[0], slow_down(contest, pair[1]))

        tried = list(self._tried)
        found = min([(best, contest), *tried], key=weigh_pair)
        if found[0] is best:
            return found
        again, decided = self.choose_again(
            found, lambda candidate: candidate.distance < found[0].distance
        )
        if again is found[0]:
            return found
        # What other layers are worth with the ranges that the first ones chosen need.
        least = weigh(again, 1.0)
        others = {frozenset(other.keep_float): other for _, other in tried}
        others.pop(frozenset(decided.keep_float), None)
        pairs = [
            (self.build(again, other, "settled"), other)
            for other in others.values()
            if slow_down(contest, other) < least
        ]
        return min([(again, decided), *pairs], key=weigh_pair)

    def _measure_recurrent(self, best: Candidate, contest: Contest) -> Mapping[str, float]:
        """Returns the noise of each recurrent node's int8 weights: that of answers where nothing else is int8."""
        if self._recurrent_noise is None:
            names = frozenset(node.name or "" for node in self._graph.graph)
            found = {}
            for name, node in self._recurrent.items():
                alone = give_reasons(names - {name}, contest, {})
                decided = replace(contest, chosen=MIXED, keep_float=alone, dynamic={})
                # Where a form cannot hold the others in float32 it isn't known.
                with contextlib.suppress(ModelError):
                    found[weights_of(node)] = self.build(best, decided, "recurrent").noise
            self._recurrent_noise = found
        return self._recurrent_noise

    def _measure(self, best: Candidate) -> Mapping[str, float]:
        if self._noise is None:
            self._noise = measure_noise(
                self._graph,
                best.forms.quantized,
                self._samples,
                smallest=_SMALL * _ALLOWED,
                progress=lambda done, total: self._progress("measuring noise", done, total),
            )
        return self._noise


class _Search:
    """Looks for the cheapest layers to leave float, by building and running what a price of noise chooses."""

    def __init__(
        self, graph: ir.Graph, contest: Contest, noise: Mapping[str, float], best: Candidate
    ) -> None:
        assert contest.costs is not None
        self._graph = graph
        self._contest = contest
        self._noise = noise
        self._costs = with_dynamic(contest.costs, contest.dynamic)
        self._loudest = loudest(graph, noise)
        whole = sum(self._costs.int8.values()) + sum(self._costs.real.values())
        self._unit = max(whole, 1e-9) / max(best.noise, 1e-30)
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

        def decide(kept: frozenset[str]) -> Contest:
            reasons = give_reasons(kept, self._contest, self._loudest)
            return replace(self._contest, chosen=MIXED, keep_float=reasons)

        def attempt(kept: frozenset[str]) -> tuple[Candidate, Contest] | None:
            if kept not in self._known:
                decided = decide(kept)
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
            if is_hopeless(decide(kept)):
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


def describe_gain(best: Candidate, better: Candidate, decided: Contest) -> Contest:
    """Returns ``decided`` with what its float32 layers do for the answers, in words."""
    layers = sum(reason.startswith(ACCURACY) for reason in decided.keep_float.values())
    dynamic = len(decided.dynamic_layers)
    more = f", {dynamic} of them with int8 weights and codes made at run time" if dynamic else ""
    gain = f"{layers} layers {ACCURACY}{more}: {better.snr_db:.1f} dB instead of {best.snr_db:.1f}"
    return replace(decided, gain=gain)


def give_reasons(
    kept: frozenset[str], contest: Contest, noise: Mapping[str, float]
) -> dict[str, str]:
    """Returns why each node is float: it was faster so already, or int8 costs the answers too much.

    Args:
        kept: Names of the nodes.
        contest: What was decided for speed.
        noise: Of nodes by name, as `loudest` returns it.
    """

    def tell(name: str) -> str:
        decibels = to_decibels(noise.get(name, 0.0))
        if decibels > _AUDIBLE_DB:
            return ACCURACY
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


def spread_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Returns some of the samples, spread evenly: the fewer the larger they are."""
    if not samples:
        return []
    elements = sum(array.size for array in samples[0].values())
    count = min(len(samples), max(_FEWEST, min(_MOST, _MEASURED_ELEMENTS // max(elements, 1))))
    return [samples[index * len(samples) // count] for index in range(count)]
