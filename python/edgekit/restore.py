"""Keeps int8 from ruining the answers: other ranges for noisy values, and float32 for those that stay noisy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.closest import Candidate, Reference, compare
from edgekit.converters.calibrate import Calibration
from edgekit.converters.choose_float import choose_within, noise_left
from edgekit.converters.noise import choose_ranges, measure_noise
from edgekit.data import Sample
from edgekit.forms import Recipe, build_forms
from edgekit.goal import WANTED_SNR_DB
from edgekit.precision import FLOAT, MIXED, WORTH, Contest
from edgekit.progress import Progress

_ALLOWED = 10 ** (-WANTED_SNR_DB / 10)
# Noise that is not looked into further, of what is allowed.
_SMALL = 0.02
# Forms that are built before all of the network is left float.
_ATTEMPTS = 4
# Elements of the inputs that noise is measured on, and samples at least and at most.
_MEASURED_ELEMENTS = 1 << 20
_FEWEST, _MOST = 4, 16

IsGood = Callable[[Candidate], bool]


class Restoration:
    """The noise of one network's values, and what is done about it.

    Args:
        graph: The float model, simplified.
        calibration: What calibration learned of it.
        recipe: What is built.
        reference: What the float model answers.
        folder: Where forms are tried.
        progress: Is told of the noise that has been measured.
    """

    def __init__(
        self,
        graph: ir.Model,
        calibration: Calibration,
        recipe: Recipe,
        reference: Reference,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._graph = graph
        self._calibration = calibration
        self._recipe = recipe
        self._reference = reference
        self._folder = folder
        self._progress = progress
        self._samples = _spread(reference.samples)
        self._noise: Mapping[str, float] | None = None

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
        if candidate.noise >= best.noise:
            return best
        self._noise = after
        return candidate

    def leave_float(
        self, best: Candidate, contest: Contest, is_good: IsGood
    ) -> tuple[Candidate, Contest]:
        """Returns ``best`` if it is good, or its like with the cheapest layers in float32 that make it so.

        Where no few layers do, all of them are left float.

        Args:
            best: The forms that the contest chose.
            contest: With the costs of all layers.
            is_good: Whether answers are close enough.
        """
        if contest.costs is None or is_good(best):
            return best, contest
        noise = self._measure(best)
        graph = self._graph.graph
        kept = frozenset(contest.keep_float)
        target = max(WANTED_SNR_DB, best.snr_db + 3)
        candidate = best
        for attempt in range(_ATTEMPTS):
            # What was left in fact, over what should have been.
            factor = candidate.noise / max(noise_left(graph, noise, kept), 1e-30)
            found = choose_within(
                graph, contest.costs, noise, 10 ** (-target / 10) / factor, margin=WORTH
            )
            if found is None:
                break
            if found == kept:
                target += 2
                continue
            kept = found
            reasons = give_reasons(kept, contest)
            candidate = self._build(best, reasons, f"restored-{attempt}")
            if is_good(candidate):
                return candidate, replace(contest, chosen=MIXED, keep_float=reasons)
            target = max(target, candidate.snr_db) + 1
        return self.leave_all_float(best, contest)

    def leave_all_float(self, best: Candidate, contest: Contest) -> tuple[Candidate, Contest]:
        """Returns the like of ``best`` with every layer in float32."""
        names = frozenset(node.name or "" for node in self._graph.graph)
        reasons = give_reasons(names, contest)
        candidate = self._build(best, reasons, "restored-float")
        return candidate, replace(contest, chosen=FLOAT, keep_float=reasons)

    def _build(self, best: Candidate, reasons: Mapping[str, str], name: str) -> Candidate:
        forms = build_forms(
            self._graph,
            self._calibration,
            best.forms.ranges,
            self._recipe,
            self._folder / name,
            reasons,
        )
        return compare(forms, self._reference)

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


def give_reasons(kept: frozenset[str], contest: Contest) -> dict[str, str]:
    """Returns why each node is float: it was faster so already, or int8 costs the answers too much."""
    reason = "int8 takes too much from the answers"
    return {name: contest.keep_float.get(name, reason) for name in kept}


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """Returns some of the samples, spread evenly: the fewer the larger they are."""
    elements = sum(array.size for array in samples[0].values())
    count = min(len(samples), max(_FEWEST, min(_MOST, _MEASURED_ELEMENTS // max(elements, 1))))
    return [samples[index * len(samples) // count] for index in range(count)]
