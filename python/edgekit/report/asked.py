"""What was asked of a deployment and what was kept of it, and the plans that there were to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Of `Asked.verdict`, beside those of `edgekit.promise.Verdict`.
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Asked:
    """A bound that was asked for.

    Attributes:
        what: The argument: "max_drop", "max_ms" or "max_mb".
        asked: The bound, with its unit.
        found: What there is, with its unit; "" where it was not measured.
        verdict: "kept", "broken", "undecided" or "not measured".
        how: How that was come by.
    """

    what: str
    asked: str
    found: str
    verdict: str
    how: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return dict(vars(self))

    def __str__(self) -> str:
        found = f", found {self.found}" if self.found else ""
        return f"{self.what} {self.asked}{found}: {self.verdict} ({self.how})"


@dataclass(frozen=True)
class Point:
    """A plan that was tried.

    Attributes:
        label: What it is.
        latency_ms: Milliseconds of a run.
        bytes: Of the form.
        quality: The larger the better: the caller's figure, or decibels; the same for all points of a front.
        chosen: Whether it is the one that was deployed.
        on_front: Whether no other plan is at least as good in all three and better in one.
    """

    label: str
    latency_ms: float
    bytes: int
    quality: float
    chosen: bool = False
    on_front: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return dict(vars(self))


@dataclass(frozen=True)
class Front:
    """The plans that a search tried.

    Attributes:
        quality: What `Point.quality` is: "accuracy" or "answers over noise, dB", say.
        latency: How latencies were come by: "measured on this machine" or "modelled for ...".
        points: Of the plans.
    """

    quality: str
    latency: str
    points: list[Point]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "quality": self.quality,
            "latency": self.latency,
            "points": [point.to_dict() for point in self.points],
        }
