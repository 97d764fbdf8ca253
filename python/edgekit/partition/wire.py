"""What lies between two devices: how many bits a second, and how long a word takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.serving.frames import HEADER_SIZE
from edgekit.targets.errors import EdgekitError

_RATE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<prefix>[kKMG]?)(?P<unit>bit|B)/s")
_TIME = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>us|ms|s)")
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Wire:
    """A link.

    Attributes:
        bits_per_s: What a frame is sent with.
        latency_ms: From a question to its answer, besides what their bytes take: the round trip that `ping` prints.
    """

    bits_per_s: float
    latency_ms: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.bits_per_s < float("inf") or not 0 <= self.latency_ms < float("inf"):
            raise EdgekitError(
                f"a link has bits a second above 0 and a latency of at least 0, not {self}"
            )

    @classmethod
    def parse(cls, rate: str, latency: str = "0ms") -> Wire:
        """Reads a rate and a time.

        Raises:
            EdgekitError: They are none.

        >>> Wire.parse("10Mbit/s", "5ms")
        Wire(bits_per_s=10000000.0, latency_ms=5.0)
        """
        speed = _RATE.fullmatch(rate.strip())
        if speed is None:
            raise EdgekitError(
                f"{rate!r} is no speed of a link: write 10Mbit/s, 200kbit/s or 1.5MB/s"
            )
        time = _TIME.fullmatch(latency.strip())
        if time is None:
            raise EdgekitError(f"{latency!r} is no time: write 5ms, 300us or 1s")
        bits = 8 if speed["unit"] == "B" else 1
        return cls(
            float(speed["number"]) * _PREFIXES[speed["prefix"]] * bits,
            float(time["number"]) * _MS[time["unit"]],
        )

    def carry_us(self, sent_bytes: int, answer_bytes: int) -> float:
        """Returns the microseconds of a request and its answer, whose frames have headers."""
        bits = 8 * (sent_bytes + answer_bytes + 2 * HEADER_SIZE)
        return 1e6 * bits / self.bits_per_s + 1e3 * self.latency_ms
