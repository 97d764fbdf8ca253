"""Chooses the fastest and smallest plan that keeps every promise, or says that there is none and which is nearest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.choosing.closest import Candidate
from edgekit.choosing.goal import Goal
from edgekit.promise import CONFIDENCE, Verdict, accept_in_order, promise_latency, promise_size
from edgekit.search.front import MODELLED, Point
from edgekit.targets.errors import PromiseError

# Plans whose times are this near count as equally fast: the smaller one is taken, and of those as small the safest.
_EQUAL = 1.02


@dataclass(frozen=True)
class Promises:
    """What a plan has to keep; None is not asked for.

    Attributes:
        max_drop: How much of the caller's figure may be lost.
        max_ms: Milliseconds of a run, by the median.
        max_mb: What the native form holds in memory, in 10^6 bytes.
        confidence: That drop and time hold with, None to compare figures alone.
    """

    max_drop: float | None = None
    max_ms: float | None = None
    max_mb: float | None = None
    confidence: float | None = CONFIDENCE

    def __bool__(self) -> bool:
        return (self.max_drop, self.max_ms, self.max_mb) != (None, None, None)

    def __str__(self) -> str:
        asked = {"max_drop": self.max_drop, "max_ms": self.max_ms, "max_mb": self.max_mb}
        return ", ".join(f"{key}={value:g}" for key, value in asked.items() if value is not None)


@dataclass(frozen=True)
class _Kept:
    """Whether a plan keeps what is lost within bounds, for `accept_in_order`."""

    is_kept: bool
    is_undecided: bool = False
    told: str = ""


def choose_point(
    points: Sequence[Point],
    built: Mapping[str, Candidate],
    times: Mapping[str, Sequence[float]],
    promises: Promises,
    goal: Goal,
    latency: str,
) -> Point:
    """Returns the fastest point that keeps all promises; of those equally fast the smallest, of these the least noisy.

    Bytes and times say first which plans are in question. Those are tested from the one with the least noise on
    calibration samples on, each at the full confidence, until one fails: the order was made without the samples of the
    caller's measure. Where that gives no scores no confidence is at stake: they are tested from the fastest on, until
    what is left is slower than one that is kept.

    Args:
        points: With times.
        built: What was built, by the points' names.
        times: Milliseconds in rounds, by the points' names.
        promises: What has to be kept.
        goal: Measures what is lost.
        latency: Where times come from; modelled ones are told, and rule nothing out.

    Raises:
        PromiseError: None keeps all.
    """
    fitting = [p for p in points if _fits(p, times, promises, latency, len(points))]
    ordered = sorted(fitting, key=lambda point: point.goals)

    def test(point: Point) -> _Kept:
        return _test(built[point.name], promises, goal)

    if goal.is_scored:
        tried = accept_in_order(ordered, test)
        accepted, failed = tried.plans, tried.failed
        said = tried.promises[-1] if failed is not None else None
    else:
        accepted = _accept_fastest(ordered, test)
        failed = None if accepted or not ordered else ordered[0]
        said = None if failed is None else test(failed)
    if accepted:
        near = _list_near(accepted, min(map(_time, accepted)))
        least = min(p.memory_bytes for p in near)
        near = [p for p in near if p.memory_bytes <= _EQUAL * least]
        least = min(p.plan_bytes for p in near)
        near = [p for p in near if p.plan_bytes <= _EQUAL * least]
        return min(near, key=lambda p: p.goals)
    raise _tell_nearest(points, built, promises, goal, failed, said, latency)


def tell_undecided(
    points: Sequence[Point],
    built: Mapping[str, Candidate],
    chosen: Point,
    promises: Promises,
    goal: Goal,
) -> str:
    """Returns which faster plan may keep ``max_drop`` as well, where too few samples promise that it does, or "".

    What was not asked of the caller's measure is not asked for this.
    """
    if promises.max_drop is None or goal.confidence is None:
        return ""
    for point in sorted(points, key=lambda point: (_time(point), point.goals)):
        if _EQUAL * _time(point) >= _time(chosen):
            return ""
        memory = point.memory_bytes
        if promises.max_mb is not None and not promise_size(memory, promises.max_mb).is_kept:
            continue
        candidate = built[point.name]
        if goal.counts_answers and candidate.turned is not None:
            share, most = candidate.turned.share, goal.at_most(candidate)
            if share <= promises.max_drop < most:
                return (
                    f"too few calibration samples to promise it of '{point.name}', {_time(point):.3g} ms: "
                    f"{100 * share:.2g} % of the answers may be others, and at most {100 * most:.2g} %, by "
                    f"{candidate.turned.samples} samples that are held out"
                )
        elif goal.is_scored and goal.recall(candidate) is not None:
            promise = goal.promise(candidate)
            if promise is not None and promise.verdict is Verdict.UNDECIDED:
                return f"'{point.name}', {_time(point):.3g} ms, is undecided: {promise}"
    return ""


def _accept_fastest(points: Sequence[Point], test: Callable[[Point], _Kept]) -> list[Point]:
    """Returns the fastest point that is kept, and those that are kept of the equally fast."""
    for point in sorted(points, key=lambda point: (_time(point), point.goals)):
        if test(point).is_kept:
            rest = (p for p in _list_near(points, _time(point)) if p is not point)
            return [point, *(p for p in rest if _time(p) >= _time(point) and test(p).is_kept)]
    return []


def _list_near(points: Sequence[Point], milliseconds: float) -> list[Point]:
    return [point for point in points if _time(point) <= _EQUAL * milliseconds]


def _time(point: Point) -> float:
    return point.milliseconds or 0.0


def _fits(
    point: Point,
    times: Mapping[str, Sequence[float]],
    promises: Promises,
    latency: str,
    among: int,
) -> bool:
    if (
        promises.max_mb is not None
        and not promise_size(point.memory_bytes, promises.max_mb).is_kept
    ):
        return False
    own = times.get(point.name)
    if promises.max_ms is None or not own or latency == MODELLED:
        return True
    confidence = promises.confidence or CONFIDENCE
    return promise_latency(own, promises.max_ms, confidence=confidence, among=among).is_kept


def _test(candidate: Candidate, promises: Promises, goal: Goal) -> _Kept:
    if promises.max_drop is None:
        return _Kept(goal.is_sound(candidate))
    promise = goal.promise(candidate)
    if promise is not None:
        return _Kept(promise.is_kept, promise.verdict is Verdict.UNDECIDED, str(promise))
    accuracy = goal.measure(candidate)
    if accuracy is None:
        told = f"{100 * goal.at_most(candidate):.3g} % of the answers that may be others"
        return _Kept(goal.is_met(candidate), told=told)
    return _Kept(accuracy.drop <= promises.max_drop, told=f"drop {accuracy.drop:.4g}")


def _tell_nearest(
    points: Sequence[Point],
    built: Mapping[str, Candidate],
    promises: Promises,
    goal: Goal,
    failed: Point | None,
    said: _Kept | None,
    latency: str,
) -> PromiseError:
    """Returns the error that names the plan that misses least, in shares of what was asked."""

    def miss(point: Point) -> float:
        missed = []
        if promises.max_mb is not None:
            missed.append(point.memory_bytes / 1e6 / promises.max_mb - 1)
        if promises.max_ms is not None and point.milliseconds and latency != MODELLED:
            missed.append(point.milliseconds / promises.max_ms - 1)
        if promises.max_drop is None:
            missed.append(0.0 if goal.is_sound(built[point.name]) else 1.0)
        else:
            accuracy = goal.measure(built[point.name])
            drop = goal.at_most(built[point.name]) if accuracy is None else accuracy.drop
            least = max(abs(promises.max_drop), 1e-9)
            missed.append((drop - promises.max_drop) / least)
        return max(0.0, max(missed, default=math.inf))

    nearest = min(points, key=lambda point: (miss(point), point.goals))
    accuracy = goal.measure(built[nearest.name])
    if accuracy is not None:
        nearest = replace(nearest, figure=accuracy.int8_value)
    told = f"no plan of {len(points)} keeps {promises}; the nearest is {nearest}"
    if accuracy is not None:
        told += f" (float {accuracy.float_value:.4g})"
    elif promises.max_drop is not None:
        share = goal.at_most(built[nearest.name])
        told += f", with {100 * share:.3g} % of the answers that may be others than float's"
    if failed is not None and said is not None and said.told:
        few = "too few samples to promise more: " if said.is_undecided else ""
        told += f"; {few}the safest in question, '{failed.name}', has {said.told}"
    return PromiseError(told, nearest.to_dict())
