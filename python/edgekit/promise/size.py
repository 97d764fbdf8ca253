"""Promises of what is known exactly: bytes of a file, or of memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.promise.verdict import Verdict, check_most, judge


@dataclass(frozen=True)
class SizePromise:
    """A number of bytes, and whether it is within what was promised.

    Attributes:
        max_mb: The most, in 10^6 bytes.
        bytes: How many there are.
        verdict: Kept or broken: bytes are counted.
    """

    max_mb: float
    bytes: int
    verdict: Verdict

    @property
    def is_kept(self) -> bool:
        """Whether there are at most so many."""
        return self.verdict is Verdict.KEPT

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {**asdict(self), "verdict": self.verdict.value}

    def __str__(self) -> str:
        return f"{self.bytes / 1e6:.4g} MB (max_mb={self.max_mb:.4g}): {self.verdict}"


def promise_size(count: int, max_mb: float) -> SizePromise:
    """Compares a number of bytes with the most that was promised, in 10^6 bytes.

    Raises:
        EdgekitError: ``max_mb`` is no number above 0.
    """
    check_most("max_mb", max_mb)
    return SizePromise(float(max_mb), count, judge(count, count, max_mb * 1e6))
