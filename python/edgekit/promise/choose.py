"""Chooses the fastest of several plans that keeps every promise, or says that none does and which comes nearest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.promise.drop import DropPromise, promise_drop
from edgekit.promise.latency import LatencyPromise, bound_median, promise_latency
from edgekit.promise.order import accept_in_order
from edgekit.promise.scored import Scores
from edgekit.promise.size import SizePromise, promise_size
from edgekit.promise.verdict import CONFIDENCE
from edgekit.targets.errors import EdgekitError

# Of plans that hold so much of what another does, neither is called smaller.
_ALIKE = 1.02


@dataclass(frozen=True)
class Plan:
    """A way to deploy a network.

    Attributes:
        name: To be told by.
        noise: Power of the answers' differences from float's over that of float's answers, on samples that it was made
            with: the less, the safer.
        score: Returns its scores on the samples that promises are tested on; called for few plans.
        milliseconds: Of a run: medians of rounds, None where it was not timed.
        bytes: That it holds, None where that is not known.
    """

    name: str
    noise: float
    score: Callable[[], Scores]
    milliseconds: Sequence[float] | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Tried:
    """What may be promised of a plan; None for what was not asked for, or not tested since another promise fails."""

    plan: Plan
    size: SizePromise | None = None
    latency: LatencyPromise | None = None
    drop: DropPromise | None = None

    @property
    def is_kept(self) -> bool:
        """Whether all promises that were tested are kept."""
        return all(promise is None or promise.is_kept for promise in self._promises)

    @property
    def excess(self) -> float:
        """By how much of what is allowed the worst promise is exceeded; 0 where all are kept."""
        shares = [0.0]
        if self.size is not None and not self.size.is_kept:
            shares.append(self.size.bytes / 1e6 / self.size.max_mb - 1)
        if self.latency is not None and not self.latency.is_kept:
            shares.append(self.latency.high_ms / self.latency.max_ms - 1)
        if self.drop is not None and not self.drop.is_kept:
            allowed = max(abs(self.drop.max_drop), 1e-9)
            shares.append((self.drop.upper - self.drop.max_drop) / allowed)
        return max(shares)

    @property
    def _promises(self) -> tuple[SizePromise | LatencyPromise | DropPromise | None, ...]:
        return self.size, self.latency, self.drop

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        names = ("size", "latency", "drop")
        return {
            "plan": self.plan.name,
            **{
                name: None if promise is None else promise.to_dict()
                for name, promise in zip(names, self._promises, strict=True)
            },
        }

    def __str__(self) -> str:
        return "; ".join([self.plan.name, *(str(each) for each in self._promises if each)])


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        chosen: The fastest plan that keeps all, None where there is none.
        nearest: Where there is none, the plan whose worst promise is exceeded by the smallest share of itself.
        tried: All plans, the safest first.
    """

    chosen: Tried | None
    nearest: Tried | None
    tried: tuple[Tried, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "chosen": self.chosen and self.chosen.plan.name,
            "nearest": self.nearest and self.nearest.plan.name,
            "tried": [tried.to_dict() for tried in self.tried],
        }


def choose_plan(
    plans: Sequence[Plan],
    reference: Scores | None = None,
    *,
    max_drop: float | None = None,
    max_ms: float | None = None,
    max_mb: float | None = None,
    confidence: float = CONFIDENCE,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Choice:
    """Returns the fastest plan that keeps every promise.

    Of plans whose times cannot be told apart, and where none was timed, it is the smallest, and of those that are as
    small, within a fiftieth, the safest.

    Sizes are exact, and times know nothing of the samples that drops are tested on, so both are looked at first; what
    is left is tested in order of its noise, from the safest on, until one fails. The confidence holds for each of
    ``max_drop`` and ``max_ms`` by itself, whichever plan is chosen: times of several plans share what may go wrong.

    Args:
        plans: At least one. With ``max_drop`` the float model should be one, or whatever comes nearest to it.
        reference: The float model's scores; float64 [samples].
        max_drop: How much of the mean score may be lost on as many unseen samples.
        max_ms: The most milliseconds that the median of a run may take, when it is timed anew.
        max_mb: The most that a plan may hold, in 10^6 bytes.
        confidence: Of each promise.
        bounds: The least and the largest score that there can be.

    Raises:
        EdgekitError: There are no plans, or what was asked cannot be told of one.
    """
    if not plans:
        raise EdgekitError("there is no plan to choose from")
    tried = {
        id(plan): Tried(
            plan, _test_size(plan, max_mb), _test_latency(plan, max_ms, confidence, len(plans))
        )
        for plan in sorted(plans, key=lambda plan: plan.noise)
    }
    able = [row for row in tried.values() if row.is_kept]
    if max_drop is None:
        accepted = able
    else:
        if reference is None:
            raise EdgekitError("max_drop needs the scores of the float model")

        def test(row: Tried) -> Tried:
            drop = promise_drop(
                reference, row.plan.score(), max_drop, confidence=confidence, bounds=bounds
            )
            tried[id(row.plan)] = replace(row, drop=drop)
            return tried[id(row.plan)]

        accepted = [tried[id(row.plan)] for row in accept_in_order(able, test).plans]
    rows = tuple(tried.values())
    if accepted:
        smallest = _list_smallest(_list_fastest(accepted))
        return Choice(min(smallest, key=lambda row: row.plan.noise), None, rows)
    looked = [row for row in rows if row.excess > 0]
    return Choice(None, min(looked, key=lambda row: row.excess), rows)


def _list_fastest(rows: Sequence[Tried]) -> list[Tried]:
    """Returns the plan of the least median time, and those whose median is within the bounds of that one."""
    timed = [row for row in rows if row.plan.milliseconds]
    if len(timed) < len(rows):
        return list(rows)
    medians = [statistics.median(row.plan.milliseconds or ()) for row in rows]
    fastest = rows[medians.index(min(medians))]
    most = bound_median(fastest.plan.milliseconds or ())[1]
    return [row for row, time in zip(rows, medians, strict=True) if time <= most]


def _list_smallest(rows: Sequence[Tried]) -> list[Tried]:
    """Returns the plan that holds least, and those that hold hardly more."""
    most = _ALIKE * min(row.plan.bytes or 0 for row in rows)
    return [row for row in rows if (row.plan.bytes or 0) <= most]


def _test_size(plan: Plan, max_mb: float | None) -> SizePromise | None:
    if max_mb is None:
        return None
    if plan.bytes is None:
        raise EdgekitError(f"{plan.name}: max_mb needs what it holds, which is not known")
    return promise_size(plan.bytes, max_mb)


def _test_latency(
    plan: Plan, max_ms: float | None, confidence: float, count: int
) -> LatencyPromise | None:
    if max_ms is None:
        return None
    if plan.milliseconds is None:
        raise EdgekitError(f"{plan.name}: max_ms needs times, and it was not timed")
    return promise_latency(plan.milliseconds, max_ms, confidence=confidence, among=count)
