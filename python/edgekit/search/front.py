"""Plans that were measured, and those that none of the others is better than."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.choosing.closest import to_decibels
from edgekit.search.space import Choice

MEASURED, MODELLED = "measured here", "modelled from the board's profile"


@dataclass(frozen=True)
class Point:
    """A plan and what it was measured to be.

    Attributes:
        name: How it was found, in words.
        choice: Formats of its parts, None for one that was not made of parts.
        noise: Power of the differences on calibration samples over that of float's answers.
        milliseconds: Of a run, None where it is not known.
        plan_bytes: Of the file.
        memory_bytes: What the native form holds while it runs, plan included.
        figure: What the caller's measure says, None where it was not asked.
        moved: The share of answers that may be others, as calibration samples tell it, where outputs are distributions
            alone; None elsewhere.
    """

    name: str
    choice: Choice | None
    noise: float
    milliseconds: float | None
    plan_bytes: int
    memory_bytes: int
    figure: float | None = None
    moved: float | None = None

    @property
    def distance(self) -> float:
        """How far answers are from float's: the square of the share that moved, or the noise where there is none."""
        return self.noise if self.moved is None else self.moved**2

    @property
    def goals(self) -> tuple[float, ...]:
        """What is to be small: distance from float, time, bytes of the file and of memory."""
        return (self.distance, self.milliseconds or 0.0, self.plan_bytes, self.memory_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "name": self.name,
            "formats": None if self.choice is None else self.choice.to_dict(),
            "noise": self.noise,
            "snr_db": to_decibels(self.noise),
            "milliseconds": self.milliseconds,
            "plan_bytes": self.plan_bytes,
            "memory_bytes": self.memory_bytes,
            "figure": self.figure,
            "moved": self.moved,
        }

    def __str__(self) -> str:
        time = "" if self.milliseconds is None else f"{self.milliseconds:.3g} ms, "
        figure = "" if self.figure is None else f", figure {self.figure:.4g}"
        moved = "" if self.moved is None else f"{100 * self.moved:.2g} % of the answers moved, "
        return (
            f"{self.name}: {to_decibels(self.noise):.1f} dB, {moved}{time}{self.plan_bytes / 1e6:.3g} MB, "
            f"{self.memory_bytes / 1e6:.3g} MB of memory{figure}"
        )


@dataclass(frozen=True)
class Front:
    """Plans of which none is better than another in everything, from the least noise on.

    Attributes:
        points: These, and the chosen one.
        latency: Where times come from: measured or modelled.
        tried: How many plans were built and run.
        chosen: The name of the point that the deployment holds.
        undecided: Which faster plan may keep what was promised too, but was seen on too few samples; "" for none.
    """

    points: tuple[Point, ...]
    latency: str
    tried: int
    chosen: str = ""
    undecided: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "latency": self.latency,
            "tried": self.tried,
            "chosen": self.chosen,
            "undecided": self.undecided,
            "points": [point.to_dict() for point in self.points],
        }

    def to_json(self) -> str:
        """Returns `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def describe(self) -> str:
        """Returns what a report says of it."""
        chosen = next(point for point in self.points if point.name == self.chosen)
        told = (
            f"{self.tried} plans were tried, {len(self.points)} of which none is better than (latency {self.latency}); "
            f"the fastest and smallest that keeps what was promised: {chosen}"
        )
        return f"{told}; {self.undecided}" if self.undecided else told

    def __str__(self) -> str:
        """Returns a line for each point, the chosen one marked."""
        rows = [f"{'> ' if p.name == self.chosen else '  '}{p}" for p in self.points]
        return "\n".join([f"{self.tried} plans, latency {self.latency}", *rows])


def is_better(a: Sequence[float], b: Sequence[float]) -> bool:
    """Returns whether ``a`` is no larger than ``b`` anywhere and smaller somewhere.

    >>> is_better((1, 2), (1, 3)), is_better((1, 2), (2, 1)), is_better((1, 2), (1, 2))
    (True, False, False)
    """
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def keep_front(points: Sequence[Point]) -> list[Point]:
    """Returns the points that no other is better than, from the least noise on; of equals the first."""
    kept: list[Point] = []
    for point in points:
        rest = [other for other in points if other is not point]
        beaten = any(is_better(other.goals, point.goals) for other in rest)
        if not beaten and all(other.goals != point.goals for other in kept):
            kept.append(point)
    return sorted(kept, key=lambda point: point.goals)
