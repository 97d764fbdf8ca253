"""Promises of the median time of a run: a bound by order statistics, whatever the distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.promise.verdict import CONFIDENCE, Verdict, check_confidence, check_most, judge, widen
from edgekit.targets.errors import EdgekitError


@dataclass(frozen=True)
class LatencyPromise:
    """The median time of a run, and whether that may be promised.

    Attributes:
        max_ms: The most milliseconds that it may take.
        confidence: That each bound holds with; None where bounds are not known, and the median is taken as it is.
        median_ms: Of the runs.
        low_ms, high_ms: Bounds of the median of as many other runs; infinite where there are too few runs for any.
        runs: How many were timed.
        verdict: Kept where `high_ms` is at most `max_ms`; broken where the median itself is above it.
        where: What was timed where.
    """

    max_ms: float
    confidence: float | None
    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    verdict: Verdict
    where: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the median is at most `max_ms`, with the confidence."""
        return self.verdict is Verdict.KEPT

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold: bounds that there are not are null."""
        facts = {**asdict(self), "verdict": self.verdict.value}
        return {
            key: None if isinstance(value, float) and math.isinf(value) else value
            for key, value in facts.items()
        }

    def __str__(self) -> str:
        bound = (
            "without a bound"
            if self.confidence is None
            else f"at most {self.high_ms:.3g} ms with {100 * self.confidence:g} % confidence"
        )
        return (
            f"median {self.median_ms:.3g} ms of {self.runs} measurements, {bound} (max_ms={self.max_ms:.4g}): "
            f"{self.verdict}"
        )


def promise_latency(
    milliseconds: Sequence[float],
    max_ms: float,
    *,
    confidence: float = CONFIDENCE,
    among: int = 1,
    where: str = "",
) -> LatencyPromise:
    """Tests whether the median time of a run will be at most ``max_ms`` when it is timed anew, as often as here.

    Runs are taken as independent. They are not on a machine with slow minutes: time in several rounds that lie apart,
    and give the median of each.

    Args:
        milliseconds: Of each run, or round.
        max_ms: The most that the median may be.
        confidence: Of the promise.
        among: Of how many networks the fastest will be taken: they share what may go wrong.
        where: What was timed where, in words.

    Raises:
        EdgekitError: There are no times, or arguments make no sense.
    """
    check_most("max_ms", max_ms)
    alpha = check_confidence(confidence) / among
    low, high = bound_median(milliseconds, 1 - widen(alpha, 1, 1))
    median = statistics.median(milliseconds)
    return LatencyPromise(
        float(max_ms),
        float(confidence),
        median,
        low,
        high,
        len(milliseconds),
        judge(median, high, max_ms),
        where,
    )


def compare_latency(
    median_ms: float, max_ms: float, *, runs: int, where: str = ""
) -> LatencyPromise:
    """Compares a median with ``max_ms`` where no more is known than the median, such as of a record or a model.

    Args:
        median_ms: Of the runs.
        max_ms: The most that it may be.
        runs: How many there were, 0 of a model.
        where: What was timed where, in words.

    Raises:
        EdgekitError: Arguments make no sense.
    """
    check_most("max_ms", max_ms)
    verdict = judge(median_ms, median_ms, max_ms)
    return LatencyPromise(float(max_ms), None, median_ms, -math.inf, math.inf, runs, verdict, where)


def bound_median(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns bounds of the median of what ``values`` were drawn from, each of which holds with the confidence.

    The k-th smallest of n values is below the median with the chance that at least k of n fair coins show heads,
    whatever the distribution (Thompson, "On confidence ranges for the median and other expectation distributions for
    populations of unknown distribution form", 1936).

    Raises:
        EdgekitError: There are no values, or the confidence makes no sense.

    >>> bound_median([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    (1.0, 6.0)
    >>> bound_median([1.0, 2.0])
    (-inf, inf)
    """
    alpha = check_confidence(confidence)
    ordered = sorted(float(value) for value in values)
    n = len(ordered)
    if not n or not all(map(math.isfinite, ordered)):
        raise EdgekitError("a median needs values that are numbers")
    # The largest number of values that may be left out at one end: P[heads <= left] <= alpha.
    left, ways, seen = -1, 1, 1
    while seen <= alpha * 2**n:
        left += 1
        ways = ways * (n - left) // (left + 1)
        seen += ways
    if left < 0:
        return -math.inf, math.inf
    return ordered[left], ordered[n - 1 - left]
