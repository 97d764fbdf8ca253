"""ONNX Runtime's `quantize_static`, after its page "Quantize ONNX models": pre-process, QDQ, scales by channel.

Its calibration by histograms (entropy, percentile) keeps every activation of all samples that it is given at once. So
samples are given `_AT_ONCE` at a time (`CalibStridedMinMax`): the histograms merge, and all samples count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.data import Sample
from edgekit.peers.contestant import Package, Prepared, Problem, Run, Signature
from edgekit.peers.contestants import REFERENCE
from edgekit.peers.onnxruntime import raise_opset
from quantizers.quantizer import Quantizer

# Samples whose activations are in memory together; what is left over when they are divided by it is not used.
_AT_ONCE = 2


@dataclass(frozen=True)
class OnnxRuntimeStatic(Quantizer):
    """`quantize_static` with a way to calibrate: "minmax", "entropy" or "percentile"."""

    @property
    def tool(self) -> str:
        """The tool's name."""
        return "ONNX Runtime"

    @property
    def packages(self) -> tuple[Package, ...]:
        """ONNX Runtime alone."""
        return (Package("onnxruntime", "onnxruntime"),)

    def quantize(self, problem: Problem) -> Prepared:
        """Pre-processes, calibrates and quantizes: activations uint8, weights int8 or int4 by channel."""
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        clean, file = problem.folder / "preprocessed.onnx", problem.folder / "model.onnx"
        quant_pre_process(raise_opset(problem.model), str(clean))
        count = len(problem.samples) // _AT_ONCE * _AT_ONCE
        quantize_static(
            str(clean),
            str(file),
            make_reader(problem.samples[:count]),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8 if self.weights == 8 else QuantType.QInt4,
            per_channel=True,
            calibrate_method=methods[self.setting],
            extra_options={"CalibStridedMinMax": _AT_ONCE},
        )
        how = f"quant_pre_process, quantize_static: QDQ, U8S{self.weights}, per channel"
        return Prepared(file, f"{how}, {self.setting}, {count} samples")

    def open(self, file: Path, signature: Signature) -> Run:
        """Makes a session of ONNX Runtime."""
        return REFERENCE.open(file, signature, threads=1)


def make_reader(samples: Sequence[Sample]) -> Any:
    """Returns the samples as ONNX Runtime reads them, in strides."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Sample] = iter(samples)

        def __len__(self) -> int:
            return len(samples)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(samples[start_index:end_index])

        def get_next(self) -> Sample | None:
            return next(self._left, None)

    return Reader()
