"""Figures of accuracy with the interval that their number of samples allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Of the normal distribution, for intervals that hold the true value in 95 of 100 cases.
_Z = 1.959964
_RESAMPLES = 1000


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
    """

    name: str
    value: float
    low: float
    high: float
    count: int
    unit: str
    higher_is_better: bool = True

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


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
    picks = np.random.default_rng(0).integers(0, len(part), (_RESAMPLES, len(part)))
    rates = part[picks].sum(axis=1) / np.maximum(whole[picks].sum(axis=1), 1e-30)
    low, high = np.quantile(rates, [0.025, 0.975])
    value = float(part.sum() / max(whole.sum(), 1e-30))
    return Figure(name, value, float(low), float(high), len(part), unit, not errors)


def area_under_curve(
    name: str, positive: npt.ArrayLike, negative: npt.ArrayLike, unit: str
) -> Figure:
    """Returns the chance that a positive sample scores above a negative one, ties counted half.

    The interval is Hanley and McNeil's ("The meaning and use of the area under a receiver operating characteristic
    curve", 1982); where scores do not overlap it is that of Wilson for as many pairs as there are in the smaller class.

    >>> area_under_curve("area", [3.0, 2.0], [1.0, 2.0], "clips").value
    0.875
    """
    high, low = np.asarray(positive, np.float64), np.sort(np.asarray(negative, np.float64))
    below, upto = np.searchsorted(low, high, "left"), np.searchsorted(low, high, "right")
    area = float(((below + upto) / 2).mean() / len(low))
    count = len(high) + len(low)
    if area == 1.0:
        whole = share(name, min(len(high), len(low)), min(len(high), len(low)), unit)
        return Figure(name, 1.0, whole.low, 1.0, count, unit)
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (
        area * (1 - area)
        + (len(high) - 1) * (q1 - area * area)
        + (len(low) - 1) * (q2 - area * area)
    )
    half = _Z * math.sqrt(max(variance, 0.0) / (len(high) * len(low)))
    return Figure(name, area, max(area - half, 0.0), min(area + half, 1.0), count, unit)
