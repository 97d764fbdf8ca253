"""Tells from few samples which share of answers to others may turn, by every margin and every sample's noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edgekit.converters.changed_answers import (
    DISTRIBUTION,
    LOGITS,
    name_kind,
    share_changed,
    share_unsettled,
)

Answer = Mapping[str, npt.NDArray[np.generic]]
Reals = npt.NDArray[np.float64]

# Rows of answers that are paired with each other at most, of all samples.
_MOST_ROWS = 512
# Answers of which so many turn tell how many turn by less noise, and the most that noise is raised by.
_MANY = 1 / 8
_MOST_FACTOR = 256
# Groups of samples that are left out in turns.
_GROUPS = 12


@dataclass(frozen=True)
class Turned:
    """A share of answers that may be others, as samples tell it.

    Attributes:
        share: The estimate.
        error: Its standard error: how far other samples, as many, would tell another one.
        samples: How many there were.
    """

    share: float
    error: float
    samples: int

    def at_most(self, confidence: float | None) -> float:
        """Returns what the share is below with a confidence, or the estimate for None.

        The logarithm of the share is taken as normal, since shares are positive and samples with narrow margins rare.

        >>> round(Turned(0.01, 0.003, 24).at_most(0.95), 4)
        0.0164
        """
        if confidence is None or self.share <= 0:
            return self.share
        return min(
            self.share * math.exp(NormalDist().inv_cdf(confidence) * self.error / self.share), 1.0
        )


def share_turned(wanted: Sequence[Answer], given: Sequence[Answer]) -> Turned | None:
    """Returns which share of float's answers may be another one, of the output with the most.

    Answers are where a row of logits is largest. That one of them turns is seen seldom, on samples as few as
    calibration has: of 48, one is two points. But what the logits of one sample lost may befall any other one. So all
    margins meet all differences, ``argmax(a[i] + k e[j])`` beside ``argmax(a[i])`` for each i and j: n^2 pairs of n
    rows. The share of them that turn is taken by 1/k, with k the smallest power of two that turns an eighth or more:
    as long as margins near 0 are spread evenly, the share that noise turns grows as its amplitude does, and more of
    them tell it. So plans are ordered as by noise. Of EfficientNet-Lite0's plans between 22.7 and 33.2 dB on 904
    pictures, 6.5 to 1.8 % of the answers turn: within a tenth of that law.

    Distributions are judged by `share_changed` and `share_unsettled`, the larger of both. The standard error leaves out
    groups of samples in turns (the jackknife: Tukey, 1958).

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it; all answers turn where they are not finite.

    Returns:
        None where any output of floats is neither a matrix of logits nor distributions.
    """
    found: list[Turned] = []
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f" or not first.size:
            continue
        real = [np.asarray(answer[name], np.float64) for answer in wanted]
        other = [np.asarray(answer[name], np.float64) for answer in given]
        kind = name_kind(real)
        if kind not in (LOGITS, DISTRIBUTION):
            return None
        tell = _pair(real, other) if kind == LOGITS else _count(real, other)
        found.append(_leave_out(tell, len(real)))
    return max(found, key=lambda turned: turned.share, default=None)


def _leave_out(tell: Callable[[Sequence[int]], float], count: int) -> Turned:
    """Returns what ``tell`` says of all samples, with the error that follows from leaving some out."""
    whole = tell(range(count))
    groups = min(count, _GROUPS)
    if groups < 2:
        return Turned(whole, 0.0, count)
    left = [tell([i for i in range(count) if i % groups != group]) for group in range(groups)]
    spread = sum((each - sum(left) / groups) ** 2 for each in left)
    return Turned(whole, math.sqrt(spread * (groups - 1) / groups), count)


def _pair(wanted: Sequence[Reals], given: Sequence[Reals]) -> Callable[[Sequence[int]], float]:
    """Returns the share among some samples of pairs of rows of which one's noise turns the other."""
    rows, others = np.concatenate(wanted), np.concatenate(given)
    homes = np.repeat(np.arange(len(wanted)), [len(array) for array in wanted])
    step = -(-len(rows) // _MOST_ROWS)
    rows, others, homes = rows[::step], others[::step], homes[::step]
    if not np.isfinite(others).all():
        return lambda _: 1.0
    answers = rows.argmax(axis=1)
    factor, turned = 1, np.zeros((len(rows), len(rows)), bool)
    while factor <= _MOST_FACTOR:
        turned = np.stack(
            [(rows + factor * each).argmax(axis=1) != answers for each in others - rows]
        )
        if turned.mean() >= _MANY:
            break
        factor *= 2

    def tell(places: Sequence[int]) -> float:
        kept = np.isin(homes, list(places))
        return float(turned[np.ix_(kept, kept)].mean()) / factor if kept.any() else 0.0

    return tell


def _count(wanted: Sequence[Reals], given: Sequence[Reals]) -> Callable[[Sequence[int]], float]:
    """Returns what tells the share of answers of some samples' distributions that are, or may be, others."""

    def tell(places: Sequence[int]) -> float:
        real = [{"": wanted[place]} for place in places]
        other = [{"": given[place]} for place in places]
        return max(share_changed(real, other) or 0.0, share_unsettled(real, other) or 0.0)

    return tell
