"""Tests of how much more often one of two networks is right than the other, on the same samples.

Of n samples, B are those on which the reference alone is right, and C those on which the candidate alone is. (B, C) is
trinomial with chances (q + d, q), where d is the true drop and q is not known. To show that d is less than m:

    T(b, c) = (b - c - n m) / sqrt(n (2 q~ + m - m^2)),   q~: q's likeliest value where d = m
    p(b, c) = gamma + max over q of P_{q, m}[T(B, C) <= T(b, c)]

T is the score statistic (Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", 1998). P is summed over all outcomes, so that the test is exact at any number of samples: the
unconditional test of Barnard's kind (Hsueh, Liu and Chen, "Unconditional exact tests for equivalence or noninferiority
for paired binary endpoints", 2001). q is sought where B + C leave it, with a chance of gamma to be elsewhere (Berger
and Boos, "P values maximized over a confidence set for the nuisance parameter", 1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

# Of alpha, for q to be outside of where it is sought.
_GAMMA = 1 / 50
# Values of q that are tried: a quarter of B + C's standard deviation apart.
_STEPS = 24
# Samples that differ above which T's distribution is taken as normal: that changes p by less than gamma then.
_MANY = 1000
# Outcomes so many standard deviations away, and a few for counts near 0, are counted as if they spoke for more drop.
_REACH, _MARGIN = 5.0, 15
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Discordant:
    """On how many samples one of two networks alone is right.

    Attributes:
        more: The reference alone.
        less: The candidate alone.
        total: All samples.

    >>> round(Discordant(8, 1, 100).mcnemar, 4)
    0.0391
    """

    more: int
    less: int
    total: int

    @classmethod
    def of(cls, reference: Reals, candidate: Reals) -> Discordant:
        """Counts in scores that are 0 or 1; float64 [samples]."""
        return cls(
            int((reference > candidate).sum()),
            int((candidate > reference).sum()),
            reference.size,
        )

    @property
    def drop(self) -> float:
        """The reference's share of right answers less the candidate's."""
        return (self.more - self.less) / self.total

    @property
    def mcnemar(self) -> float:
        """Two-sided p-value of both being right equally often.

        Exact: given B + C, each of these is as likely to be either's (McNemar, "Note on the sampling error of the
        difference between correlated proportions or percentages", 1947).
        """
        differing = self.more + self.less
        if not differing:
            return 1.0
        fewer = np.arange(min(self.more, self.less) + 1)
        logs = _log_factorials(differing)
        chances = np.exp(
            logs[differing] - logs[fewer] - logs[differing - fewer] - differing * math.log(2)
        )
        return min(1.0, 2 * float(chances.sum()))

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "reference_alone_right": self.more,
            "candidate_alone_right": self.less,
            "mcnemar_p": self.mcnemar,
        }


@lru_cache(maxsize=4096)
def find_p(counts: Discordant, drop: float, alpha: float) -> float:
    """Returns the p-value of the true drop being at least ``drop``, to be compared with ``alpha``.

    Args:
        counts: What was observed.
        drop: Of the share that is right, in (-1, 1).
        alpha: The level at which it will be judged; a part of it goes to where q is sought.
    """
    if counts.drop >= drop:
        return 1.0
    gamma = alpha * _GAMMA
    n, m = counts.total, drop
    observed = _score(np.float64(counts.more), np.float64(counts.less), n, m)
    differing = counts.more + counts.less
    if differing > _MANY:
        return min(1.0, gamma + 0.5 * math.erfc(-float(observed) / math.sqrt(2)))
    low, high = _bound_share(differing, n, gamma)
    # Shares of samples that differ, 2 q + m, which allow a drop of m.
    low, high = max(low, abs(m)), min(high, 1.0)
    if low > high:
        return gamma
    shares = np.linspace(math.sqrt(low), math.sqrt(high), _STEPS) ** 2
    least = 1e-12 / n
    less = np.maximum((shares - m) / 2, least)
    more = np.maximum((shares + m) / 2, least)
    b, c = _reach(more, n)[:, None], _reach(less, n)[None, :]
    against = (b + c <= n) & (_score(b, c, n, m) > observed + 1e-9)
    b, c = (array[against] for array in np.broadcast_arrays(b, c))
    logs = _log_factorials(n)
    ways = logs[n] - logs[b] - logs[c] - logs[n - b - c]
    largest = 0.0
    for p, q in zip(more, less, strict=True):
        chances = ways + b * math.log(p) + c * math.log(q)
        chances += (n - b - c) * math.log(max(1 - p - q, least))
        largest = max(largest, 1 - float(np.exp(chances).sum()))
    return min(1.0, gamma + largest)


@lru_cache(maxsize=4096)
def bound_drop(counts: Discordant, alpha: float) -> float:
    """Returns the least drop that the true one is below, but for a chance of ``alpha``."""
    return _invert(lambda drop: find_p(counts, drop, alpha) <= alpha, counts.drop, 1.0)


def bound_drop_below(counts: Discordant, alpha: float) -> float:
    """Returns the largest drop that the true one is above, but for a chance of ``alpha``."""
    return -bound_drop(Discordant(counts.less, counts.more, counts.total), alpha)


def count_needed(counts: Discordant, drop: float, alpha: float) -> int | None:
    """Returns how many samples like these would be enough to promise ``drop``; None where no number would."""
    if counts.drop >= drop:
        return None

    def suffices(total: int) -> bool:
        # Rounded to the worse side.
        more = -(-counts.more * total // counts.total)
        grown = Discordant(more, counts.less * total // counts.total, total)
        return find_p(grown, drop, alpha) <= alpha

    return find_least(suffices, counts.total)


def find_least(suffices: Callable[[int], bool], total: int) -> int | None:
    """Returns about the least number above ``total`` that suffices, to a hundredth; None where 10^9 do not."""
    low, high = total, 2 * total
    while not suffices(high):
        low, high = high, 2 * high
        if high > 10**9:
            return None
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _invert(is_rejected: Callable[[float], bool], low: float, high: float) -> float:
    """Returns the least value in [low, high] from which on values are rejected, to a millionth."""
    # The first steps grow, for a bound is near the estimate where there are many samples.
    step = (high - low) / 64
    while low + step < high and not is_rejected(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, high)
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if is_rejected(middle) else (middle, high)
    return high


def _score(b: Any, c: Any, n: int, m: float) -> Any:
    """Returns T(b, c) for a drop of ``m``; of any shape."""
    if m < 0:
        return -_score(c, b, n, -m)
    half = b + c + m * (b - c) - 2 * n * m
    q = (half + np.sqrt(half * half + 8 * n * c * m * (1 - m))) / (4 * n)
    variance = n * np.maximum(2 * q + m - m * m, 0)
    distance = b - c - n * m
    return np.where(variance > 0, distance / np.sqrt(np.maximum(variance, 1e-300)), 0.0)


def _bound_share(count: int, total: int, gamma: float) -> tuple[float, float]:
    """Returns an interval that misses the true share with a chance of at most ``gamma``.

    It holds the shares p with n KL(count / n || p) <= log(2 / gamma) (Chernoff, "A measure of asymptotic efficiency for
    tests of a hypothesis based on the sum of observations", 1952).
    """
    share, most = count / total, math.log(2 / gamma) / total

    def distance(p: float) -> float:
        kept = share * math.log(share / p) if share else 0.0
        return kept + ((1 - share) * math.log((1 - share) / (1 - p)) if share < 1 else 0.0)

    ends = []
    for outside in (0.0, 1.0):
        inside = share
        for _ in range(60):
            middle = (inside + outside) / 2
            if 0 < middle < 1 and distance(middle) <= most:
                inside = middle
            else:
                outside = middle
        ends.append(outside)
    return ends[0], ends[1]


def _reach(chances: Reals, n: int) -> npt.NDArray[np.int64]:
    """Returns the counts that are not beyond reach for any of ``chances``."""
    low, high = float(chances.min()) * n, float(chances.max()) * n
    first = low - _REACH * math.sqrt(low) - _MARGIN
    last = high + _REACH * math.sqrt(high) + _MARGIN
    return np.arange(max(0, math.floor(first)), min(n, math.ceil(last)) + 1)


@lru_cache(maxsize=8)
def _log_factorials(most: int) -> Reals:
    """Returns log(k!) for k from 0 to ``most``; [most + 1]."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1, dtype=np.float64)))])
