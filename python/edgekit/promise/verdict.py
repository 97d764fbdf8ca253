"""What can be said of a promise."""

from __future__ import annotations

import math
from enum import StrEnum
from statistics import NormalDist

from edgekit.targets.errors import EdgekitError

# Of a bound, where the caller names none: it is wrong for at most one network in twenty.
CONFIDENCE = 0.95


class Verdict(StrEnum):
    """Of a promise.

    Attributes:
        KEPT: The bound holds with the confidence that was asked for.
        BROKEN: What was measured itself is above what was promised.
        UNDECIDED: What was measured is within it, but there are too few measurements to promise it.
    """

    KEPT = "kept"
    BROKEN = "broken"
    UNDECIDED = "undecided"


def judge(measured: float, bound: float, most: float) -> Verdict:
    """Returns the verdict of a figure and the bound that holds with confidence, against the most that is allowed."""
    if bound <= most:
        return Verdict.KEPT
    return Verdict.UNDECIDED if measured <= most else Verdict.BROKEN


def check_most(name: str, value: float) -> None:
    """Checks a bound on time or memory.

    Raises:
        EdgekitError: It is no number above 0; says its ``name``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EdgekitError(f"{name} must be a number above 0, not {value!r}")
    if not 0 < value < float("inf"):
        raise EdgekitError(f"{name} must be a number above 0, not {value:g}")


def check_drop(value: float) -> None:
    """Checks a bound on what may be lost.

    Raises:
        EdgekitError: It is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise EdgekitError(f"max_drop must be a number, not {value!r}")


def check_confidence(confidence: float) -> float:
    """Returns how often a bound may be wrong.

    Raises:
        EdgekitError: The confidence is not between one half and one.

    >>> round(check_confidence(0.95), 9)
    0.05
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)):
        raise EdgekitError(f"confidence must be a number between 0.5 and 1, not {confidence!r}")
    if not 0.5 <= confidence < 1:
        raise EdgekitError(
            f"confidence must be between 0.5 and 1, such as 0.95, not {confidence:g}"
        )
    return 1 - confidence


def widen(alpha: float, tested: int, unseen: float) -> float:
    """Returns the level at which the mean of all has to be bounded, so that the one of ``unseen`` samples is.

    Chance moves both figures, so that a bound z sigma / sqrt(n) away from the one that was tested becomes
    z sigma sqrt(1 / n + 1 / unseen), as for prediction intervals (Hahn and Meeker, "Statistical Intervals", 1991).

    >>> widen(0.05, 100, math.inf)
    0.05
    >>> round(widen(0.05, 100, 100), 4)
    0.01
    """
    if math.isinf(unseen):
        return alpha
    normal = NormalDist()
    return normal.cdf(normal.inv_cdf(alpha) * math.sqrt(1 + tested / unseen))
