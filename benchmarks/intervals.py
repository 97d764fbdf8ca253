"""Figures of accuracy with the interval that their number of samples allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# Of the normal distribution, for intervals that hold the true value in 95 of 100 cases.
_Z = 1.959964
_RESAMPLES = 1000


class Evidence(Protocol):
    """The samples that a figure rests on, for comparing it with another that rests on the same ones."""

    def resample(self) -> npt.NDArray[np.float64]:
        """Returns the figure for sets of as many samples drawn with repeats; equal numbers of them, equal draws."""


@dataclass(frozen=True)
class Figure:
    """A measure of accuracy.

    Attributes:
        name: What is measured.
        value: In [0, 1], or nan where it can't be had.
        low: Lower end of its 95 % interval.
        high: Upper end.
        count: How many samples it rests on.
        unit: What a sample is.
        higher_is_better: False for a rate of errors.
        evidence: The samples, where they were kept.
    """

    name: str
    value: float
    low: float
    high: float
    count: int
    unit: str
    higher_is_better: bool = True
    evidence: Evidence | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold: everything but the samples."""
        fields = asdict(replace(self, evidence=None))
        del fields["evidence"]
        return fields


@dataclass(frozen=True)
class Loss:
    """How much worse one figure is than another on the same samples; below 0 where it is better.

    Attributes:
        value: The difference, in the figures' unit.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} [{100 * self.low:+.2f}, {100 * self.high:+.2f}]"


@dataclass(frozen=True)
class _Ratios:
    """A ratio of sums over samples."""

    parts: npt.NDArray[np.float64]
    wholes: npt.NDArray[np.float64]

    def resample(self) -> npt.NDArray[np.float64]:
        random, count = np.random.default_rng(0), len(self.parts)
        rates = np.empty(_RESAMPLES)
        for index in range(_RESAMPLES):
            picks = random.integers(0, count, count)
            rates[index] = self.parts[picks].sum() / max(self.wholes[picks].sum(), 1e-30)
        return rates


@dataclass(frozen=True)
class _Ranks:
    """Scores of positive and of negative samples."""

    positive: npt.NDArray[np.float64]
    negative: npt.NDArray[np.float64]

    def resample(self) -> npt.NDArray[np.float64]:
        random = np.random.default_rng(0)
        areas = np.empty(_RESAMPLES)
        for index in range(_RESAMPLES):
            high = random.integers(0, len(self.positive), len(self.positive))
            low = random.integers(0, len(self.negative), len(self.negative))
            areas[index] = _find_area(self.positive[high], np.sort(self.negative[low]))
        return areas


def describe_evidence(evidence: Evidence) -> dict[str, Any]:
    """Returns what JSON can hold of the samples of a figure that was made here."""
    assert isinstance(evidence, _Ratios | _Ranks)
    arrays = {name: array.tolist() for name, array in vars(evidence).items()}
    return {"kind": type(evidence).__name__, **arrays}


def read_evidence(told: dict[str, Any]) -> Evidence:
    """Returns the samples that `describe_evidence` described."""
    kinds = {kind.__name__: kind for kind in (_Ratios, _Ranks)}
    arrays = {name: np.asarray(told[name], np.float64) for name in told if name != "kind"}
    return kinds[told["kind"]](**arrays)


def measure_loss(before: Figure, after: Figure) -> Loss | None:
    """Returns how much worse ``after`` is, with an interval by resampling the samples of both together (Efron, 1979).

    None where the samples were not kept or are not as many.

    >>> same = share_of("right", [True] * 9 + [False], "photos")
    >>> str(measure_loss(same, same))
    '+0.00 [+0.00, +0.00]'
    """
    if before.evidence is None or after.evidence is None or before.count != after.count:
        return None
    sign = 1 if before.higher_is_better else -1
    differences = sign * (before.evidence.resample() - after.evidence.resample())
    low, high = np.quantile(differences, [0.025, 0.975])
    return Loss(sign * (before.value - after.value), float(low), float(high))


def share_of(name: str, right: Sequence[bool], unit: str) -> Figure:
    """Returns the share of samples that are right, with Wilson's interval; keeps which these are."""
    figure = share(name, sum(map(bool, right)), len(right), unit)
    parts = np.asarray(right, np.float64)
    return replace(figure, evidence=_Ratios(parts, np.ones_like(parts))) if len(right) else figure


def share(name: str, hits: int, count: int, unit: str) -> Figure:
    """Returns a proportion with Wilson's interval ("Probable inference", 1927).

    >>> str(share("right", 18, 20, "photos"))
    '0.9000 [0.6990, 0.9721]'
    """
    if not count:
        return Figure(name, math.nan, 0.0, 1.0, 0, unit)
    rate, square = hits / count, _Z * _Z
    centre = (rate + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(rate * (1 - rate) / count + square / (4 * count * count))
    half /= 1 + square / count
    low, high = min(max(centre - half, 0.0), rate), max(min(centre + half, 1.0), rate)
    return Figure(name, rate, low, high, count, unit)


def ratio_of_sums(
    name: str, parts: Sequence[float], wholes: Sequence[float], unit: str, *, errors: bool = False
) -> Figure:
    """Returns ``sum(parts) / sum(wholes)`` over samples, with an interval by resampling them (Efron, 1979)."""
    part, whole = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    evidence = _Ratios(part, whole)
    low, high = np.quantile(evidence.resample(), [0.025, 0.975])
    value = float(part.sum() / max(whole.sum(), 1e-30))
    return Figure(name, value, float(low), float(high), len(part), unit, not errors, evidence)


def area_under_curve(
    name: str, positive: npt.ArrayLike, negative: npt.ArrayLike, unit: str
) -> Figure:
    """Returns the chance that a positive sample scores above a negative one, ties counted half.

    The interval is Hanley and McNeil's ("The meaning and use of the area under a receiver operating characteristic
    curve", 1982); where scores do not overlap it is that of Wilson for as many pairs as there are in the smaller class.

    >>> area_under_curve("area", [3.0, 2.0], [1.0, 2.0], "clips").value
    0.875
    """
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    area = _find_area(high, np.sort(low))
    count = len(high) + len(low)
    evidence = _Ranks(high, low)
    if area == 1.0:
        whole = share(name, min(len(high), len(low)), min(len(high), len(low)), unit)
        return Figure(name, 1.0, whole.low, 1.0, count, unit, evidence=evidence)
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (
        area * (1 - area)
        + (len(high) - 1) * (q1 - area * area)
        + (len(low) - 1) * (q2 - area * area)
    )
    half = _Z * math.sqrt(max(variance, 0.0) / (len(high) * len(low)))
    ends = max(area - half, 0.0), min(area + half, 1.0)
    return Figure(name, area, *ends, count, unit, evidence=evidence)


def _find_area(positive: npt.NDArray[np.float64], ordered: npt.NDArray[np.float64]) -> float:
    """Returns the share of pairs in which the positive score is above the negative one, these in their order."""
    below = np.searchsorted(ordered, positive, "left")
    upto = np.searchsorted(ordered, positive, "right")
    return float(((below + upto) / 2).mean() / len(ordered))
