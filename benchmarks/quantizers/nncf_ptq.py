"""NNCF's `nncf.quantize`, after OpenVINO's page "Basic Quantization Flow"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.peers.contestant import Package, Prepared, Problem, Run, Signature
from edgekit.peers.contestants import REFERENCE
from edgekit.peers.onnxruntime import raise_opset
from edgekit.peers.openvino import OpenVino
from quantizers.quantizer import Quantizer

_OPENVINO = OpenVino("int8")


@dataclass(frozen=True)
class NncfOnnx(Quantizer):
    """`nncf.quantize` of the ONNX model: "" with its defaults, "mixed" with that preset and slow bias correction."""

    @property
    def tool(self) -> str:
        """The tool's name."""
        return "NNCF"

    @property
    def packages(self) -> tuple[Package, ...]:
        """NNCF, and what runs its files."""
        return (Package("nncf", "nncf"), Package("onnxruntime", "onnxruntime"))

    def quantize(self, problem: Problem) -> Prepared:
        """Quantizes the ONNX model; its answers are those of ONNX Runtime."""
        import nncf
        import onnx

        model = raise_opset(problem.model)
        kinds = {node.op_type for node in model.graph.node}
        transformer = "Softmax" in kinds and "Conv" not in kinds
        careful = self.setting == "mixed"
        quantized = nncf.quantize(
            model,
            nncf.Dataset(problem.samples, dict),
            subset_size=len(problem.samples),
            preset=nncf.QuantizationPreset.MIXED if careful else None,
            fast_bias_correction=not careful,
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
        )
        file = problem.folder / "model.onnx"
        onnx.save(quantized, file)
        how = "nncf.quantize of the ONNX model"
        how += ", preset mixed, fast_bias_correction=False" if careful else " with its defaults"
        return Prepared(file, how + (" for a transformer" if transformer else ""))

    def open(self, file: Path, signature: Signature) -> Run:
        """Makes a session of ONNX Runtime."""
        return REFERENCE.open(file, signature, threads=1)


@dataclass(frozen=True)
class NncfOpenVino(Quantizer):
    """`nncf.quantize` of the converted model with its defaults, as in the contest of speed."""

    @property
    def tool(self) -> str:
        """The tool's name."""
        return "NNCF"

    @property
    def packages(self) -> tuple[Package, ...]:
        """NNCF and OpenVINO."""
        return _OPENVINO.packages

    def quantize(self, problem: Problem) -> Prepared:
        """Converts and quantizes."""
        return _OPENVINO.prepare(problem)

    def open(self, file: Path, signature: Signature) -> Run:
        """Compiles for this CPU."""
        return _OPENVINO.open(file, signature, threads=1)
