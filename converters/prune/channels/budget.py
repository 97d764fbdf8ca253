"""What a pruned network may cost: multiplications, bytes of weights, or milliseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgekit.targets.errors import EdgekitError

Measure = Literal["macs", "bytes", "ms"]
MEASURES: tuple[Measure, ...] = ("macs", "bytes", "ms")
_TEXT = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(%?)\s*([A-Za-z]*)")
# What a unit is of which measure.
_UNITS: dict[str, tuple[Measure, float]] = {
    "macs": ("macs", 1.0),
    "kmacs": ("macs", 1e3),
    "mmacs": ("macs", 1e6),
    "gmacs": ("macs", 1e9),
    "b": ("bytes", 1.0),
    "bytes": ("bytes", 1.0),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "us": ("ms", 1e-3),
    "ms": ("ms", 1.0),
}
_FORMS = 'a share such as 0.5, "50% bytes" or "50% ms", or an amount such as "30 MMACs", "800 kB" or "1.5 ms"'


@dataclass(frozen=True)
class Budget:
    """What a pruned network may cost.

    Attributes:
        share: Of what the unpruned one costs, above 0 and at most 1.
        measure: Products of layers ("macs"), bytes of their weights as int8 ("bytes"), or time ("ms").
        times: By name of a node, its time in the unpruned network, where time is the measure; empty where it is to be
            measured yet. That of nodes without weights stays.
        panel: Output channels that a kernel computes together; where time is the measure, a part of them costs as much.
        amount: In the measure's unit, in place of the share.
    """

    share: float
    measure: Measure = "macs"
    times: Mapping[str, float] | None = None
    panel: int = 16
    amount: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise EdgekitError(
                f"a budget is a share of what the network costs now, above 0 and at most 1, not {self.share}"
            )
        if self.measure not in MEASURES:
            raise EdgekitError(f"a budget is in {', '.join(MEASURES)}, not {self.measure!r}")
        if self.measure == "ms" and self.times is None:
            raise EdgekitError("a budget in milliseconds needs the time of each layer")
        if self.amount is not None and not self.amount > 0:
            raise EdgekitError(f"a budget is more than nothing, not {self.amount:g} {self.measure}")

    @property
    def needs_times(self) -> bool:
        """Whether it is in milliseconds, and the time of each node is not known yet."""
        return self.measure == "ms" and not self.times

    def resolve(self, whole: float) -> Budget:
        """Returns the budget as a share of what a network's layers cost.

        Raises:
            EdgekitError: What cannot be cut costs more than the amount, or times are missing.
        """
        if self.needs_times:
            raise EdgekitError("a budget in milliseconds needs the time of each layer")
        others = 0.0
        if self.measure == "ms" and self.times:
            others = max(sum(self.times.values()) - whole, 0.0)
        allowed = self.share * (whole + others) if self.amount is None else self.amount
        left = allowed - others
        if left <= 0 or whole <= 0:
            raise EdgekitError(
                f"{self} cannot be reached: what has no weights costs {others:.3g} of {whole + others:.3g} "
                f"{self.measure}, and is not cut: allow more"
            )
        return replace(self, share=min(left / whole, 1.0), amount=None)

    def __str__(self) -> str:
        if self.amount is not None:
            return f"{self.amount:g} {self.measure}"
        return f"{self.share:g}" if self.measure == "macs" else f"{self.share:.0%} {self.measure}"


def parse_budget(value: object) -> Budget:
    """Reads a share of the multiplications, or a text with a unit.

    >>> parse_budget("800 kB").amount, parse_budget("50% ms").measure, parse_budget(0.5).share
    (800000.0, 'ms', 0.5)

    Raises:
        EdgekitError: It is neither.
    """
    wrong = f"a budget for channels is {_FORMS}, not {value!r}"
    if isinstance(value, str):
        found = _TEXT.fullmatch(value.strip())
        if found is None:
            raise EdgekitError(wrong)
        try:
            number = float(found[1])
        except ValueError as error:
            raise EdgekitError(wrong) from error
        percent, unit = found[2], found[3].lower()
        if unit and unit not in _UNITS:
            raise EdgekitError(wrong)
        measure, size = _UNITS[unit or "macs"]
        if unit and not percent:
            return Budget(1.0, measure, {} if measure == "ms" else None, amount=number * size)
        if percent and size != 1:
            raise EdgekitError(wrong)
        share = number / 100 if percent else number
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        measure, share = "macs", float(value)
    else:
        raise EdgekitError(wrong)
    if not 0 < share < 1:
        raise EdgekitError(wrong)
    return Budget(share, measure, {} if measure == "ms" else None)
