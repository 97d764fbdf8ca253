"""What the forms of a deployment take and answer: bytes, time, memory, and the caller's own figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.timing import Timing


@dataclass(frozen=True)
class Size:
    """Bytes of one form of the network, constants and graph together."""

    form: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {"form": self.form, "bytes": self.bytes}


@dataclass(frozen=True)
class Latency:
    """Time of one inference of one form, measured in turns with the other forms."""

    form: str
    timing: Timing

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {"form": self.form, **self.timing.to_dict()}


@dataclass(frozen=True)
class Memory:
    """What the native form holds in memory while it runs, beside the program itself.

    Attributes:
        plan_bytes: The mapped file.
        arena_bytes: Activations, as laid out.
        lower_bound_bytes: What no layout of the activations can go below.
        scratch_bytes: Working memory of one thread.
        external_bytes: Inputs and outputs.
    """

    plan_bytes: int
    arena_bytes: int
    lower_bound_bytes: int
    scratch_bytes: int
    external_bytes: int

    def resident_bytes(self, threads: int = 1) -> int:
        """Returns the sum for a number of threads: what `edgekit-run` needs beside its own size."""
        scratch = threads * self.scratch_bytes
        return self.plan_bytes + self.arena_bytes + scratch + self.external_bytes

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields and the sum for one thread in a form that JSON can hold."""
        return {
            "plan_bytes": self.plan_bytes,
            "arena_bytes": self.arena_bytes,
            "lower_bound_bytes": self.lower_bound_bytes,
            "scratch_bytes": self.scratch_bytes,
            "external_bytes": self.external_bytes,
            "resident_bytes": self.resident_bytes(),
        }


@dataclass(frozen=True)
class Accuracy:
    """What the caller's own ``evaluate`` said of the float model and of the int8 one."""

    float_value: float
    int8_value: float

    @property
    def drop(self) -> float:
        """How much was lost; negative where the int8 model is better."""
        return self.float_value - self.int8_value

    def to_dict(self) -> dict[str, Any]:
        """Returns the values and the drop in a form that JSON can hold."""
        return {"float": self.float_value, "int8": self.int8_value, "drop": self.drop}
