"""Keeps int8 from ruining the answers: other ranges for noisy values, and float32 for those that stay noisy."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.closest import Candidate, Reference, compare, prefer_wide
from edgekit.choosing.float_search import (
    ACCURACY,
    FloatSearch,
    IsGood,
    give_reasons,
    loudest,
)
from edgekit.choosing.goal import WANTED_CHANGED, WANTED_SNR_DB
from edgekit.choosing.precision import (
    FLOAT,
    INT8,
    MIXED,
    Contest,
    slow_down,
    time_forms,
)
from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.choose_float import noise_left, weights_of
from edgekit.converters.noise import (
    CUT_OFF,
    Switched,
    choose_ranges,
    list_grids,
    measure_noise,
    noise_of_answers,
    tells_answers,
)
from edgekit.converters.quantizable import has_recurrent_codes
from edgekit.data import Sample
from edgekit.forms import Recipe, build_forms
from edgekit.progress import Progress
from edgekit.sizes import is_of
from edgekit.targets.errors import ModelError

_ALLOWED = 10 ** (-WANTED_SNR_DB / 10)
# Forms that a search made anew builds.
_REBUILT = 3
# Values that get ranges of their own when layers are settled.
_BY_VALUE = 4
# How much longer than int8 dynamic layers may take, conversions left out, where it isn't asked whether fewer would do.
_SMALL_SLOWDOWN = 1.5
# Noise that is not looked into further, of what is allowed.
_SMALL = 0.02
# Elements of the inputs that noise is measured on, and samples at least and at most.
_MEASURED_ELEMENTS = 1 << 20
_FEWEST, _MOST = 4, 16
# Samples at most where noise is told by answers: how chances moved is seen in each of them.
_MOST_OF_ANSWERS = 8

# How much the costs of layers may overrate a slowdown.
_DOUBT = 1.2

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
        # What took no part in calibration, where that is known.
        held = reference.held or range(len(reference.samples))
        self._apart = Reference(
            [reference.samples[place] for place in held],
            [reference.outputs[place] for place in held],
        )
        self._of_answers = tells_answers(reference.outputs)
        self._samples = spread_samples(
            [sample for sample in self._apart.samples if is_of(graph, sample)],
            _MOST_OF_ANSWERS if self._of_answers else _MOST,
        )
        self._smallest = _SMALL * (WANTED_CHANGED**2 if self._of_answers else _ALLOWED)
        self._noise: Mapping[str, float] | None = None
        self._measured: RangeChoice | None = None
        self._recurrent = {
            node.name or "": node for node in graph.graph if has_recurrent_codes(node)
        }
        self._recurrent_noise: Mapping[str, float] | None = None

    def improve_ranges(self, best: Candidate) -> Candidate:
        """Returns ``best``, or its like with other ranges for its noisiest values if that comes closer to float.

        Samples that took no part in calibration decide, where there are some: others have only what ranges hold.
        """
        noise = self._measure(best)
        choice, after = self._choose_ranges(best, best.forms.quantized, noise, self._samples)
        if choice == best.forms.ranges:
            return best
        forms = build_forms(
            self._graph, self._calibration, choice, self._recipe, self._folder / "ranges"
        )
        candidate = compare(forms, self._reference)
        if not self._is_closer(candidate, best):
            return best
        self._noise, self._measured = after, choice
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
            choice = replace(ranges, method=method, exceptions={})
            if choice == ranges:
                tried.append(best)
                continue
            forms = build_forms(
                self._graph,
                self._calibration,
                choice,
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
            search = FloatSearch(
                self._graph.graph, version, noise, self._power(best), self._of_answers
            )
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
        noise = loudest(self._graph.graph, self._measure(best))
        reasons = give_reasons(names, contest, noise, self._of_answers)
        decided = replace(contest, chosen=FLOAT, keep_float=reasons)
        return self.build(best, decided, "restored-float"), decided

    def build(self, best: Candidate, decided: Contest, name: str) -> Candidate:
        """Returns the like of ``best`` whose layers have the precisions ``decided``.

        Args:
            best: Forms whose ranges are kept.
            decided: Which layers are float32, and which dynamic.
            name: How the folder to build in begins.
        """
        for known, other in self._tried:
            if (
                known.forms.ranges == best.forms.ranges
                and other.keep_float.keys() == decided.keep_float.keys()
                and other.dynamic_layers == decided.dynamic_layers
            ):
                return known
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
        """Returns what weighs least, where none that was built is good.

        The ranges of what weighs least are chosen once more, for all values, and layers with these: what was noisy by
        the ranges that all in int8 is least ruined by need not be so by others. Then ranges by value.

        Args:
            best: The forms that the contest chose.
            contest: With the costs of all layers.
            weigh: What a candidate costs that is so many times slower than ``best``.
        """

        def weigh_pair(pair: tuple[Candidate, Contest]) -> float:
            return weigh(pair[0], slow_down(contest, pair[1]))

        found = min([(best, contest), *self._tried], key=weigh_pair)
        if found[0] is best:
            return found
        again = self.choose_again(found, lambda candidate: candidate.distance < found[0].distance)
        noise = self._measure(again[0])
        for decided in self._list_worth(again, contest, noise, weigh):
            # A form cannot hold one of the layers in float32.
            with contextlib.suppress(ModelError):
                again = min(
                    again, (self.build(again[0], decided, "settled"), decided), key=weigh_pair
                )
        return self._improve_settled(again, noise)

    def _list_worth(
        self,
        found: tuple[Candidate, Contest],
        contest: Contest,
        noise: Mapping[str, float],
        weigh: Callable[[Candidate, float], float],
    ) -> list[Contest]:
        """Returns the decisions that would weigh least by the noise of values, least first; not that of ``found``."""
        candidate, decided = found
        graph = self._graph.graph
        whole = {**noise, **self._measure_recurrent(candidate, contest)}
        search = FloatSearch(graph, contest, whole, self._power(candidate), self._of_answers)
        left = max(noise_left(graph, whole, decided.keep_float.keys()), 1e-30)

        def foresee(other: Contest, rest: float) -> float:
            # The share of answers grows like the noise's amplitude.
            share = (candidate.expected or 0.0) * math.sqrt(rest / left)
            return weigh(replace(candidate, expected=share), slow_down(contest, other))

        foreseen = [
            (foresee(other, rest), place, other)
            for place, (other, rest) in enumerate(search.list_decisions())
            if other.keep_float.keys() != decided.keep_float.keys()
        ]
        return [other for _, _, other in sorted(foreseen)[:_REBUILT]]

    def _improve_settled(
        self, found: tuple[Candidate, Contest], noise: Mapping[str, float]
    ) -> tuple[Candidate, Contest]:
        """Returns ``found``, or its like with other ranges for the noisiest of the values that are still in codes."""
        candidate, decided = found
        if self._ranges != "auto" or not self._of_answers:
            return found
        written = candidate.forms.written
        grids = {name: grid for name, grid in list_grids(written).items() if name in noise}
        loud = sorted(grids, key=lambda name: -noise[name])[:_BY_VALUE]
        # What is cut off of few samples is to be seen in more than what all of them are rounded by.
        samples = spread_samples(
            [sample for sample in self._apart.samples if is_of(self._graph, sample)]
        )
        switched = Switched(
            self._graph, {name: grids[name] for name in loud}, samples, noise_of_answers
        )
        measured = {name: switched.measure((name,)) for name in loud}
        choice, _ = self._choose_ranges(candidate, written, measured, samples)
        # One after the other: that each leaves less noise alone does not say that all of them do.
        for name in loud:
            ranges = candidate.forms.ranges
            if choice.of(name) == ranges.of(name):
                continue
            self._builds += 1
            forms = build_forms(
                self._graph,
                self._calibration,
                replace(ranges, exceptions={**ranges.exceptions, name: choice.of(name)}),
                self._recipe,
                self._folder / f"by-value-{self._builds}",
                decided.keep_float,
                decided.dynamic_layers,
            )
            better = compare(forms, self._reference)
            # As elsewhere, what cuts off more would have to leave a fifth less noise.
            order = list(METHODS)
            cuts_less = order.index(choice.of(name)) < order.index(ranges.of(name))
            if self._is_closer(better, candidate, CUT_OFF if cuts_less else 1.0):
                candidate = better
        return candidate, decided

    def _power(self, candidate: Candidate) -> float:
        """Returns the noise of ``candidate`` in the unit that values' is in."""
        return candidate.distance if self._of_answers else candidate.noise

    def _is_closer(self, candidate: Candidate, best: Candidate, handicap: float = 1.0) -> bool:
        """Returns whether ``candidate`` comes closer to float on samples that took no part.

        Args:
            candidate: The forms that may be closer.
            best: Those that are known.
            handicap: What the distance of ``candidate`` counts.
        """
        pair = (candidate, best)
        if len(self._apart.samples) < len(self._reference.samples):
            pair = (compare(candidate.forms, self._apart), compare(best.forms, self._apart))
        return handicap * pair[0].distance < pair[1].distance

    def _choose_ranges(
        self,
        best: Candidate,
        quantized: ir.Model,
        noise: Mapping[str, float],
        samples: Sequence[Sample],
    ) -> tuple[RangeChoice, dict[str, float]]:
        return choose_ranges(
            self._graph,
            quantized,
            self._calibration,
            best.forms.ranges,
            samples,
            noise,
            smallest=self._smallest,
            distance=noise_of_answers,
        )

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
                    found[weights_of(node)] = self._power(self.build(best, decided, "recurrent"))
            self._recurrent_noise = found
        return self._recurrent_noise

    def _measure(self, best: Candidate) -> Mapping[str, float]:
        """Returns the noise of all values by the ranges of ``best``, those that its float32 layers make among them."""
        if self._noise is None or self._measured != best.forms.ranges:
            self._measured = best.forms.ranges
            self._noise = measure_noise(
                self._graph,
                best.forms.quantized,
                self._samples,
                smallest=self._smallest,
                progress=lambda done, total: self._progress("measuring noise", done, total),
                distance=noise_of_answers,
            )
        return self._noise


def describe_gain(best: Candidate, better: Candidate, decided: Contest) -> Contest:
    """Returns ``decided`` with what its float32 layers do for the answers, in words."""
    layers = sum(reason.startswith(ACCURACY) for reason in decided.keep_float.values())
    dynamic = len(decided.dynamic_layers)
    more = f", {dynamic} of them with int8 weights and codes made at run time" if dynamic else ""
    gain = f"{layers} layers {ACCURACY}{more}: {better.snr_db:.1f} dB instead of {best.snr_db:.1f}"
    return replace(decided, gain=gain)


def spread_samples(samples: Sequence[Sample], most: int = _MOST) -> list[Sample]:
    """Returns some of the samples, spread evenly: the fewer the larger they are, ``most`` at most."""
    if not samples:
        return []
    elements = sum(array.size for array in samples[0].values())
    count = min(len(samples), max(_FEWEST, min(most, _MEASURED_ELEMENTS // max(elements, 1))))
    return [samples[index * len(samples) // count] for index in range(count)]
