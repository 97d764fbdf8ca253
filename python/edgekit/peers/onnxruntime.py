"""ONNX Runtime on the CPU.

int8 follows its page "Quantize ONNX models": pre-process (shape inference and fusing), then static quantization to QDQ
with a scale for each channel of the weights and MinMax calibration, its default. Of the types that the page offers it
is U8S8: on x86-64 with VNNI the default S8S8 takes 1.4 to 1.8 times as long (EfficientNet-Lite0, version 1.31.1).
Recurrent networks and those without a Conv are quantized dynamically, as that page recommends for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.version_converter

from edgekit.data import Sample
from edgekit.peers.contestant import (
    Contestant,
    Outputs,
    Package,
    Prepared,
    Problem,
    Run,
    Signature,
)

_LEAST_OPSET = 13
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})


class OnnxRuntime(Contestant):
    """ONNX Runtime with all graph optimizations."""

    runtime = "ONNX Runtime"
    packages = (Package("onnxruntime", "onnxruntime"),)

    def prepare(self, problem: Problem) -> Prepared:
        """Returns the float model itself, or quantizes it."""
        if self.form == "float":
            return Prepared(problem.model, "the model as it is")
        from onnxruntime.quantization.shape_inference import quant_pre_process

        clean, file = problem.folder / "preprocessed.onnx", problem.folder / "model.onnx"
        model = raise_opset(problem.model)
        kinds = {node.op_type for node in model.graph.node}
        quant_pre_process(model, str(clean))
        if kinds & _RECURRENT or "Conv" not in kinds:
            how = _quantize_dynamic(clean, file)
        else:
            how = _quantize_static(clean, file, problem.samples)
        return Prepared(file, f"quant_pre_process, {how}")

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Makes a session whose threads spin, as is the default."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        names = [spec.name for spec in signature.outputs]

        def run(sample: Sample) -> Outputs:
            outputs: Outputs = session.run(names, sample)
            return outputs

        return run

    def count_integer(self, file: Path) -> tuple[int, int] | None:
        """Counts the nodes of the file that ONNX Runtime's optimized graph computes on codes."""
        if self.form == "float":
            return None
        from edgekit.converters.fusion.onnxruntime import report_onnxruntime

        report = report_onnxruntime(file)
        return len(report.fused), len(report.nodes)


def _quantize_static(source: Path, target: Path, samples: Sequence[Sample]) -> str:
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    quantize_static(
        str(source),
        str(target),
        make_reader(samples),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )
    return "quantize_static: QDQ, U8S8, per channel, MinMax"


def _quantize_dynamic(source: Path, target: Path) -> str:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=["MatMul", "Gemm", "LSTM"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return "quantize_dynamic: U8S8, per channel"


def raise_opset(path: Path) -> onnx.ModelProto:
    """Returns the model in an opset that has scales for each channel, as that page asks for."""
    model = onnx.load(path)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= _LEAST_OPSET:
        return model
    return onnx.version_converter.convert_version(model, _LEAST_OPSET)


def make_reader(samples: Sequence[Sample]) -> Any:
    """Returns the samples as ONNX Runtime's tools read them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples: Iterator[Sample] = iter(samples)

        def get_next(self) -> Sample | None:
            return next(self._samples, None)

    return Reader()
