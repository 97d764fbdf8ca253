"""What the layers of a deployment are computed in, and what engines make of its forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """An operator of the native form.

    Attributes:
        name: The node of the source model.
        kind: The table of csrc/runtime/plan.fbs.
        kernel: The row of a kernels.inc, "" where the operator has none.
        shape: Of the output, in the plan's order.
        microseconds: Median time on this machine, None where the plan does not run here.
        int8_microseconds: What the node took in int8 when precisions were compared, or would take by the model of the
            board's instruction set at 1 GHz; None where it was not compared.
        float_microseconds: The same in float32.
        format: What it computes in, a `NumberFormat`'s name; "" where nobody said.
        reason: Why that is not int8, "" where it is or nobody said.
        noise_db: Power of the answers over that of the noise which this layer alone leaves in them, in decibels, as
            `Report.noise` says that it was measured; None where it was not.
    """

    name: str
    kind: str
    kernel: str
    shape: tuple[int, ...]
    microseconds: float | None = None
    int8_microseconds: float | None = None
    float_microseconds: float | None = None
    format: str = ""
    reason: str = ""
    noise_db: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "name": self.name,
            "kind": self.kind,
            "kernel": self.kernel,
            "shape": list(self.shape),
            "microseconds": self.microseconds,
            "int8_microseconds": self.int8_microseconds,
            "float_microseconds": self.float_microseconds,
            "format": self.format,
            "reason": self.reason,
            "noise_db": self.noise_db,
        }


@dataclass(frozen=True)
class Precision:
    """Which layers are int8, and why.

    Attributes:
        forms: The forms whose layers these are.
        chosen: "int8", "float32" or "mixed".
        how: "measured" on this machine, "modelled" for a board, "asked for", or why nothing was compared.
        int8_share: Of the multiplications.
        float_layers: The operators that compute in float32, with the reason where they were chosen to; their weights
            take four times the bytes.
        milliseconds: Of the whole network by precision, where they were timed.
    """

    forms: tuple[str, ...]
    chosen: str
    how: str
    int8_share: float
    float_layers: list[str]
    milliseconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "forms": list(self.forms),
            "chosen": self.chosen,
            "how": self.how,
            "int8_share": self.int8_share,
            "float_layers": self.float_layers,
            "milliseconds": self.milliseconds,
        }

    def __str__(self) -> str:
        times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in self.milliseconds.items())
        text = f"{self.chosen} ({self.how}), {100 * self.int8_share:.0f} % of the products in int8"
        return f"{text}; {times}" if times else text


@dataclass(frozen=True)
class Fusion:
    """What ONNX Runtime makes of the ONNX form.

    Attributes:
        runtime: Its version and the processor that it optimized for.
        fused: How many nodes of each operator it computes in integers.
        left_float: The nodes that it leaves float, and why.
    """

    runtime: str
    fused: dict[str, int]
    left_float: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {"runtime": self.runtime, "fused": self.fused, "left_float": self.left_float}


@dataclass(frozen=True)
class Tflite:
    """What the TFLite form consists of, and what its interpreter makes of it here.

    Attributes:
        arithmetic: "int8", "16x8", "float32", "float16" (weights) or "dynamic" (int8 weights, float32 activations).
        runtime: The interpreter, and the processor that it ran on.
        operators: How many operators of each kind the file has.
        transposes: How many of them only change the order of dimensions.
        delegated: How many the XNNPACK delegate computes.
        left: The kinds of the others, and how many there are of each.
        left_float: The nodes that int8 could hold and that are float32, and why.
    """

    arithmetic: str
    runtime: str
    operators: dict[str, int]
    transposes: int
    delegated: int
    left: dict[str, int]
    left_float: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return dict(vars(self))
