"""What a deployment is and what it was measured to be; every figure says how it was come by."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.agreement import Proportion
from edgekit.timing import Machine, Timing

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


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
    """

    name: str
    kind: str
    kernel: str
    shape: tuple[int, ...]
    microseconds: float | None = None
    int8_microseconds: float | None = None
    float_microseconds: float | None = None

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


@dataclass(frozen=True)
class Report:
    """The account of one deployment. ``print`` it, or take ``to_dict`` and ``to_json``.

    Attributes:
        model: Name of the source file.
        source_digest: SHA-256 of the source model.
        target: The board's profile.
        isa: Instruction set of the native form.
        batch: Leading dimension of the native form.
        calibration: Where the calibration samples came from, in words.
        ranges: How ranges were chosen from the calibration, "" where the forms need none.
        machine: Where the figures were measured.
        versions: Of edgekit and of what it was compared with.
        sizes: Of each form.
        latencies: Of each form and number of threads; empty where the target is not this machine.
        memory: Of the native form.
        layers: Of the native form.
        precision: Of the native form's layers.
        onnx_arithmetic: Of the ONNX form: "int8", "16x8", "int4 weights" or "float32"; None where there is none.
        fusion: Of the ONNX form.
        tflite: Of the TFLite form.
        accuracy: By the caller's measure.
        snr_db: Power of the float model's answers to calibration samples over that of the differences, in decibels, for
            the output that suffers most; 300 where they are equal.
        agreement: How many calibration samples get the same answer (largest output) from float and int8.
        notes: What a reader must know: what was not measured, and what is worse than float.
    """

    model: str
    source_digest: str
    target: str
    isa: str
    batch: int
    calibration: str
    ranges: str
    machine: Machine
    versions: dict[str, str]
    sizes: list[Size]
    latencies: list[Latency] = field(default_factory=list)
    memory: Memory | None = None
    layers: list[Layer] = field(default_factory=list)
    precision: Precision | None = None
    onnx_arithmetic: str | None = None
    fusion: Fusion | None = None
    tflite: Tflite | None = None
    accuracy: Accuracy | None = None
    snr_db: float | None = None
    agreement: Proportion | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "model": self.model,
            "source_digest": self.source_digest,
            "target": self.target,
            "isa": self.isa,
            "batch": self.batch,
            "calibration": self.calibration,
            "ranges": self.ranges,
            "machine": self.machine.to_dict(),
            "versions": self.versions,
            "sizes": [size.to_dict() for size in self.sizes],
            "latencies": [latency.to_dict() for latency in self.latencies],
            "memory": self.memory and self.memory.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "precision": self.precision and self.precision.to_dict(),
            "onnx_arithmetic": self.onnx_arithmetic,
            "fusion": self.fusion and self.fusion.to_dict(),
            "tflite": self.tflite and self.tflite.to_dict(),
            "accuracy": self.accuracy and self.accuracy.to_dict(),
            "snr_db": self.snr_db,
            "agreement": self.agreement and self.agreement.to_dict(),
            "notes": self.notes,
        }

    def to_json(self) -> str:
        """Returns `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        """Returns the report as plain text, 100 columns wide."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=100, no_color=True).print(self)
        return text.getvalue()

    def __rich__(self) -> Group:
        from rich.console import Group

        parts: list[Any] = [self._summary()]
        if self.latencies:
            parts.append(make_latency_table(self.latencies, self.batch))
        if self.layers:
            parts.append(self._layer_table())
        parts.extend(f"note: {note}" for note in self.notes)
        return Group(*parts)

    def _summary(self) -> Table:
        table = make_table(f"{self.model} on {self.target} ({self.isa})", "", "")
        for size in self.sizes:
            table.add_row(f"size, {size.form}", _format_bytes(size.bytes))
        if self.memory:
            arena, bound = self.memory.arena_bytes, self.memory.lower_bound_bytes
            table.add_row(
                "activations, native",
                f"{_format_bytes(arena)}, {arena / max(bound, 1):.3f} times the lower bound",
            )
            table.add_row(
                "memory, native, 1 thread",
                f"{_format_bytes(self.memory.resident_bytes())} beside the program",
            )
        if self.accuracy:
            a = self.accuracy
            table.add_row(
                "accuracy, evaluated",
                f"float {a.float_value:.4g}, int8 {a.int8_value:.4g}, drop {a.drop:.4g}",
            )
        if self.snr_db is not None:
            table.add_row("answers over noise, worst output", f"{self.snr_db:.1f} dB")
        if self.agreement:
            table.add_row("same answer as float", str(self.agreement))
        if self.precision:
            label = f"precision, {' and '.join(self.precision.forms)}"
            table.add_row(label, str(self.precision))
            if self.precision.float_layers:
                table.add_row("float32 there", "; ".join(self.precision.float_layers))
        if self.fusion:
            fused = ", ".join(
                f"{count} {kind}" for kind, count in sorted(self.fusion.fused.items())
            )
            table.add_row(f"integer in {self.fusion.runtime}", fused or "nothing")
            if self.fusion.left_float:
                table.add_row("left float there", "; ".join(self.fusion.left_float))
        if self.tflite:
            table.add_row("operators, TFLite", _count(self.tflite.operators))
            table.add_row("transposes, TFLite", str(self.tflite.transposes))
            total = sum(self.tflite.operators.values())
            table.add_row("in XNNPACK, TFLite", f"{self.tflite.delegated} of {total}")
            if self.tflite.left:
                table.add_row("left to plain kernels there", _count(self.tflite.left))
            if self.tflite.left_float:
                table.add_row("left float there", "; ".join(self.tflite.left_float))
        chosen = f"ranges by {self.ranges}" if self.ranges else "no ranges are chosen"
        table.add_row("calibration", f"{self.calibration}; {chosen}")
        table.add_row("measured on", str(self.machine))
        table.add_row("versions", ", ".join(f"{k} {v}" for k, v in self.versions.items()))
        return table

    def _layer_table(self) -> Table:
        timed = any(layer.microseconds is not None for layer in self.layers)
        columns = ["layer", "operator", "kernel", "output"] + (["time"] if timed else [])
        table = make_table(f"{len(self.layers)} layers of the native form", *columns)
        for layer in self.layers:
            cells = [layer.name, layer.kind, layer.kernel or "-", "x".join(map(str, layer.shape))]
            if timed:
                cells.append("-" if layer.microseconds is None else f"{layer.microseconds:.0f} us")
            table.add_row(*cells)
        return table


def _count(kinds: dict[str, int]) -> str:
    """Returns counts by kind in words.

    >>> _count({"PAD": 1, "CONV_2D": 2})
    '2 CONV_2D, 1 PAD'
    """
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _format_bytes(count: int) -> str:
    """Returns a size in the larger of kB and MB that it has one of.

    >>> _format_bytes(4_321), _format_bytes(4_321_000)
    ('4.32 kB', '4.32 MB')
    """
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.2f} kB"


def make_latency_table(latencies: Sequence[Latency], batch: int) -> Table:
    """Returns the latencies with their ratio to the first one of the same number of threads."""
    table = make_table(
        f"latency of batch {batch}, runs in turns",
        *("form", "threads", "median", "10 to 90 %", "runs", "speed"),
    )
    first: dict[int, float] = {}
    for latency in latencies:
        t = latency.timing
        base = first.setdefault(t.threads, t.median_ms)
        table.add_row(
            latency.form,
            str(t.threads),
            f"{t.median_ms:.2f} ms",
            f"{t.low_ms:.2f} to {t.high_ms:.2f} ms",
            str(t.runs),
            f"{base / t.median_ms:.2f} x",
        )
    return table


def make_table(title: str, *columns: str) -> Table:
    """Returns an empty table in the house style."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in ("", "layer"))
    return table
