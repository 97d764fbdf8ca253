"""How a bundle goes through a fleet: a few devices first, then shares of it, and when to stop.

>>> strategy = Strategy(canary=2, stages=parse_stages("10%,50%,100%"), max_failures=Portion.parse("10%"))
>>> strategy.cut(20)
[2, 10, 20]
>>> strategy.is_exceeded(2, 20), strategy.is_exceeded(3, 20)
(False, True)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from edgekit.targets.errors import EdgekitError

_PORTION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(%?)")
_MOST_PARALLEL = 256


@dataclass(frozen=True)
class Portion:
    """A number of devices, or a share of those that there are.

    Attributes:
        value: Devices, or a share from 0 to 1.
        is_share: Which of the two.
    """

    value: Fraction
    is_share: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `3` or `10%`.

        Raises:
            EdgekitError: It is neither.
        """
        match = _PORTION.fullmatch(text.strip())
        if match is None or (match.group(2) and not match.group(3)):
            raise EdgekitError(
                f"'{text}' is neither a number of devices nor a share, like 3 or 10%"
            )
        value = Fraction(f"{match.group(1)}.{match.group(2) or 0}")
        if match.group(3) and value > 100:
            raise EdgekitError(f"'{text}': there is no more than 100%")
        return cls(value / 100 if match.group(3) else value, bool(match.group(3)))

    def of(self, total: int) -> Fraction:
        """Returns how many devices of `total` that is, not rounded."""
        return self.value * total if self.is_share else self.value

    def __str__(self) -> str:
        return f"{float(self.value * 100):g}%" if self.is_share else str(int(self.value))


ALL = Portion(Fraction(1), True)
NONE = Portion(Fraction(0), False)


def parse_stages(text: str) -> tuple[Portion, ...]:
    """Reads `10%,50%,100%`: how much of the fleet has the bundle at the end of each stage.

    Raises:
        EdgekitError: An entry is no portion, or nothing.
    """
    stages = tuple(Portion.parse(item) for item in text.split(","))
    if any(stage.value == 0 for stage in stages):
        raise EdgekitError(f"'{text}': a stage of no devices")
    return stages


@dataclass(frozen=True)
class Strategy:
    """How to go through a fleet.

    Attributes:
        canary: Devices that go first; where one of them fails, nothing follows.
        stages: How much of the fleet has the bundle at the end of each further stage.
        wait_s: Seconds between a stage's last device and the look at all that were updated.
        max_failures: The rollout stops when more devices than that have failed.
        parallel: Devices that are worked on at a time.
    """

    canary: int = 1
    stages: Sequence[Portion] = (ALL,)
    wait_s: float = 0.0
    max_failures: Portion = NONE
    parallel: int = 8

    def __post_init__(self) -> None:
        if self.canary < 0:
            raise EdgekitError("there are no fewer than 0 canaries")
        if not 1 <= self.parallel <= _MOST_PARALLEL:
            raise EdgekitError(f"{self.parallel} devices at a time: 1 to {_MOST_PARALLEL} can be")
        if not 0 <= self.wait_s < float("inf"):
            raise EdgekitError(f"a wait of {self.wait_s} s is none")

    def cut(self, total: int) -> list[int]:
        """Returns how many of `total` devices each stage ends with: growing, shares rounded up."""
        ends = [self.canary, *(-(-stage.of(total) // 1) for stage in self.stages)]
        found: list[int] = []
        for end in ends:
            count = min(int(end), total)
            if count > (found[-1] if found else 0):
                found.append(count)
        return found

    def is_exceeded(self, failures: int, total: int) -> bool:
        """Returns whether more devices have failed than may."""
        return failures > self.max_failures.of(total)
