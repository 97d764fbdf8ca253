"""A deployment: its folder, its forms, its report, and what can be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgekit.benchmark import benchmark
from edgekit.converters.calibrate import Calibration
from edgekit.converters.program import Program
from edgekit.converters.read_model import Source
from edgekit.converters.recover.report import RecoveryReport
from edgekit.forms import runs_here
from edgekit.report import Latency, Report
from edgekit.search.front import Front
from edgekit.session import Session, load
from edgekit.targets.profile import Profile

if TYPE_CHECKING:
    from edgekit.delivery.flash import FlashResult
    from edgekit.delivery.measurement import Measurement

FLOAT_FORM = "float, ONNX Runtime"
ONNX_FORM = "int8, ONNX Runtime"
NATIVE_FORM = "int8, native"


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made.

    Attributes:
        path: The folder: a bundle where the native form is in it.
        source: The float model that was given.
        target: The board.
        calibration: What calibration learned of the model, None where the model's own scales were kept.
        report: Sizes, latency, accuracy, layers.
        program: The lowered network of the native form, None where that was not asked for.
        recovery: What was done so that int8 loses less, pass by pass and layer by layer.
        quantized: The quantized graph that the forms were written from.
        front: The plans that none is better than, where promises were to be kept; None otherwise.
    """

    path: Path
    source: Source
    target: Profile
    calibration: Calibration | None
    report: Report
    program: Program | None = None
    recovery: RecoveryReport = field(default_factory=RecoveryReport)
    front: Front | None = None
    quantized: ir.Model | None = None

    @property
    def plan(self) -> Path | None:
        """The native form, None where it was not asked for."""
        path = self.path / "model.plan"
        return path if path.is_file() else None

    @property
    def onnx(self) -> Path | None:
        """The ONNX form, None where it was not asked for."""
        path = self.path / "model.onnx"
        return path if path.is_file() else None

    @property
    def tflite(self) -> Path | None:
        """The TFLite form, None where it was not asked for."""
        path = self.path / "model.tflite"
        return path if path.is_file() else None

    def load(self, *, threads: int = 1) -> Session:
        """Makes a session of the deployed network on this machine.

        Raises:
            PlanError: It was made for an instruction set that this CPU lacks.
        """
        return load(self.path, threads=threads)

    def benchmark(self, threads: Sequence[int] = (1,), *, seconds: float = 3.0) -> list[Latency]:
        """Times every form that runs on this machine against the float model in ONNX Runtime.

        Args:
            threads: Numbers of threads to time with.
            seconds: About how long to measure for each number of threads.
        """
        return benchmark(
            self.timed_files(), batch=self.report.batch, threads=threads, seconds=seconds
        )

    def benchmark_on(self, address: str, **how: Any) -> Measurement:
        """Measures the bundle on a device: latency, layers, heat and energy; an emulated one gets no times.

        Args:
            address: The device's.
            how: Further arguments of `edgekit.benchmark_on`.

        Raises:
            EdgekitError: As `edgekit.benchmark_on` does.
        """
        from edgekit.delivery.measure import benchmark_on

        return benchmark_on(self.path, address, **how)

    def flash(self, to: str, **how: Any) -> FlashResult:
        """Brings the bundle to a device, has it checked there, and switches to it.

        Args:
            to: The device's address.
            how: Further arguments of `edgekit.flash`.

        Raises:
            EdgekitError: As `edgekit.flash` does.
        """
        from edgekit.delivery.flash import flash

        return flash(self.path, to, **how)

    def timed_files(self) -> dict[str, Path]:
        """Returns the float model and the forms that run on this machine, by the names to show."""
        files = {FLOAT_FORM: self.source.reference}
        if self.onnx:
            assert self.report.onnx_arithmetic is not None
            files[f"{self.report.onnx_arithmetic}, ONNX Runtime"] = self.onnx
        if self.tflite:
            assert self.report.tflite is not None
            files[f"{self.report.tflite.arithmetic}, LiteRT"] = self.tflite
        if self.plan and runs_here(self.report.isa):
            files[NATIVE_FORM] = self.plan
        return files
