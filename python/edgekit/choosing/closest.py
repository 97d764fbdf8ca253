"""Chooses how ranges are taken from a calibration: by trying, and comparing the outputs with float."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgekit.agreement import Proportion, relative_error
from edgekit.converters.answers import Outputs, same_answer
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.changed_answers import (
    reads_sequences,
    share_changed,
    share_leaning,
    share_unsettled,
    without_distributions,
)
from edgekit.converters.noise import CUT_OFF, relative_noise, worst_noise
from edgekit.converters.turned_answers import Turned, share_turned
from edgekit.data import Sample, Samples
from edgekit.forms import Forms, Recipe, build_forms
from edgekit.progress import Progress
from edgekit.session import Session

# How many calibration samples the int8 forms are compared with float on.
_COMPARED_SAMPLES = 64
_LEAST_NOISE = 1e-30
# How many times as far answers have to lean to be told from others on so few samples.
_TOLD_APART = 1.1


@dataclass(frozen=True)
class Reference:
    """What the float model answers on some of the samples.

    Attributes:
        samples: These.
        outputs: The answers to each.
        held: The places among them of those that took no part in what is compared; empty where that is not known.
        counts_answers: Whether it is asked which share of answers may be others.
    """

    samples: list[Sample]
    outputs: list[Outputs]
    held: Sequence[int] = ()
    counts_answers: bool = False


@dataclass(frozen=True)
class Candidate:
    """The forms with one way to choose ranges, compared with float.

    Attributes:
        forms: The files.
        error: Mean over the samples of the squared error of the outputs, relative to float's squares.
        noise: The power of the differences over that of float's answers, of the output that suffers most.
        worst: The same of the sample that suffers most, over the mean power of float's answers.
        agreement: On how many samples the largest output is the same.
        changed: The share of answers that are others than float's (`share_changed`), None where no output has any. Of
            answers at single places it is the larger one of all samples and of those that took no part.
        expected: The share of answers to other inputs that may be others: the larger one of ``changed`` and of
            `share_unsettled`, None as ``changed``; of answers at places that follow each other the latter.
        plain_noise: The noise of outputs that are no distributions, whose closeness decibels tell; 0 where all are.
        plain_worst: The same of the sample that suffers most.
        leaning: How far answers lean where outputs are distributions or may be logits (`share_leaning`), or None.
        turned: The share of answers that may be others (`share_turned`), where that is asked for; None where outputs
            are no answers.
    """

    forms: Forms
    error: float
    noise: float
    worst: float
    agreement: Proportion
    changed: float | None
    expected: float | None
    plain_noise: float
    plain_worst: float
    leaning: float | None
    turned: Turned | None = None

    @property
    def snr_db(self) -> float:
        """Power of float's answers over that of the noise, in decibels; 300 where there is none."""
        return to_decibels(self.noise)

    @property
    def moved(self) -> float | None:
        """The share of answers that may be others, where outputs are distributions alone; None elsewhere."""
        return self.expected if self.plain_noise == 0 else None

    @property
    def loss(self) -> float:
        """The square of the share that moved, or the noise where there is none: what adds up over layers."""
        return self.noise if self.moved is None else self.moved**2

    @property
    def distance(self) -> float:
        """How far the answers are from float's, comparable between candidates for one network; it grows like noise.

        Where all outputs are distributions that is the square of the share of answers that changed, which grows like
        the noise's amplitude, where some may be logits that of how far they lean, and else the noise.
        """
        if self.moved is not None:
            return self.moved**2
        return self.noise if self.leaning is None else self.leaning**2


def to_decibels(noise: float) -> float:
    """Returns the signal to noise ratio for a relative power of noise, in decibels, within 300 of 0.

    >>> to_decibels(0.01), to_decibels(0.0)
    (20.0, 300.0)
    """
    return -10.0 * math.log10(min(max(noise, _LEAST_NOISE), 1 / _LEAST_NOISE))


def spread_places(total: int) -> list[int]:
    """Returns the places of the samples that forms are compared on, of ``total``.

    >>> spread_places(3)
    [0, 1, 2]
    """
    count = min(total, _COMPARED_SAMPLES)
    return [index * total // count for index in range(count)]


def run_float(session: Session, samples: Samples, progress: Progress) -> Reference:
    """Runs the float model on samples that are spread evenly over all there are."""
    chosen = [samples[place] for place in spread_places(len(samples))]
    outputs: list[Outputs] = []
    for index, sample in enumerate(chosen):
        outputs.append(session.run(sample))
        progress("running float", index + 1, len(chosen))
    return Reference(chosen, outputs)


def build_closest(
    graph: ir.Model,
    calibration: Calibration,
    methods: Sequence[str],
    recipe: Recipe,
    reference: Reference,
    folder: Path,
    progress: Progress,
    is_good: Callable[[Candidate], bool],
) -> Candidate:
    """Builds the forms with each way to choose ranges; returns those closest to float, the first of equals.

    Where these are not good, it returns what `prefer_wide` does.
    """
    candidates = []
    for index, method in enumerate(methods):
        progress("quantizing", index, len(methods))
        forms = build_forms(
            graph,
            calibration,
            RangeChoice(method, symmetric=recipe.symmetric, narrow_weights=recipe.narrow_weights),
            recipe,
            folder / method,
        )
        candidates.append(compare(forms, reference))
    progress("quantizing", len(methods), len(methods))
    closest = find_closest(candidates)
    return closest if is_good(closest) else prefer_wide(candidates)


def find_closest(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the candidate whose answers are closest to float's, the first of equals.

    Where outputs may be logits, so few samples do not tell leanings apart that are within a tenth of each other: of
    these candidates the noise has its say too, and the product of both is compared. EfficientNet-Lite0's ranges by
    percentile lean .0404 at 23.2 dB on 64 samples, those by squares .0410 at 23.3; 815 others have 93.1 and 94.9 % of
    float's answers.
    """
    first = candidates[0]
    if first.leaning is None and first.plain_noise > 0:
        return min(candidates, key=lambda candidate: candidate.error)
    least = min(candidate.distance for candidate in candidates)
    if first.plain_noise > 0:
        near = [each for each in candidates if each.distance <= _TOLD_APART**2 * least]
        return min(near, key=lambda candidate: candidate.noise * math.sqrt(candidate.distance))
    return min(candidates, key=lambda candidate: (candidate.distance, candidate.error))


def prefer_wide(candidates: Sequence[Candidate]) -> Candidate:
    """Returns the candidate with the least noise, those preferred whose ranges cut off less.

    What is cut off is what calibration saw least of, so that a range that cuts off more has to leave a fifth less noise
    (1 dB) than one that cuts off less: silero-vad with the loudest squares cut off had 1.4 dB less than without, and
    .001 less area under its curve on other speakers. Answers that changed are counted on samples that took no part, and
    compared as they are.

    Args:
        candidates: By ranges that cut off more and more, as ``METHODS`` are ordered.
    """
    best = candidates[0]
    for candidate in candidates[1:]:
        handicap = CUT_OFF if candidate.plain_noise > 0 else 1.0
        if candidate.distance < handicap * best.distance:
            best = candidate
    return best


def compare(forms: Forms, reference: Reference) -> Candidate:
    """Runs the samples of ``reference`` on ``forms``."""
    same, error = 0, 0.0
    given: list[Outputs] = []
    for sample, wanted in zip(reference.samples, reference.outputs, strict=True):
        outputs = forms.session.run(sample)
        same += same_answer(wanted, outputs)
        error += relative_error(wanted, outputs)
        given.append(outputs)
    count = len(reference.samples)
    noise = relative_noise(reference.outputs, given)
    worst = worst_noise(reference.outputs, given)
    changed = share_changed(reference.outputs, given)
    rest = without_distributions(reference.outputs)
    plain = relative_noise(rest, given), worst_noise(rest, given)
    agreement = Proportion(same, count)
    leaning = share_leaning(reference.outputs, given)
    # Samples that calibration saw answer closer: of magika's plans up to half as many answers change on such files.
    if reference.held and changed is not None and leaning is not None:
        wanted_apart = [reference.outputs[place] for place in reference.held]
        apart = share_changed(wanted_apart, [given[place] for place in reference.held])
        changed = max(changed, apart or 0.0)
    unsettled = share_unsettled(reference.outputs, given)
    expected = changed if changed is None else max(changed, unsettled or 0.0)
    if reads_sequences(reference.outputs):
        # Edits are too few to count; all of them are in what moved.
        expected = unsettled
    return Candidate(
        forms,
        error / count,
        noise,
        worst,
        agreement,
        changed,
        expected,
        *plain,
        leaning,
        share_turned(reference.outputs, given) if reference.counts_answers else None,
    )
