"""OpenVINO on the CPU.

int8 follows its page "Post-training Quantization" with NNCF: `nncf.quantize` with its defaults, mixed preset where the
network holds transformer blocks by ``model_type``. The latency hint is what the page "High-level Performance Hints"
advises for one inference at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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

_LAYOUTS = frozenset({"Const", "Constant", "Input", "Output", "Parameter", "Result"})


class OpenVino(Contestant):
    """OpenVINO with the latency hint; the precision of the float form is its own choice."""

    runtime = "OpenVINO"
    packages = (Package("openvino", "openvino"), Package("nncf", "nncf"))

    def load_library(self) -> None:
        """Imports the runtime, not the quantizer."""
        import openvino  # noqa: F401

    def prepare(self, problem: Problem) -> Prepared:
        """Converts, and quantizes with NNCF."""
        import openvino

        model = openvino.convert_model(problem.model)
        how = "convert_model"
        if self.form == "int8":
            import nncf

            names = [spec.name for spec in problem.signature.inputs]
            data = nncf.Dataset(
                problem.samples, lambda sample: {name: sample[name] for name in names}
            )
            kinds = {op.get_type_name() for op in model.get_ops()}
            transformer = "Softmax" in kinds and "Convolution" not in kinds
            model = nncf.quantize(
                model,
                data,
                subset_size=len(problem.samples),
                model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            )
            how = "convert_model, nncf.quantize" + (
                " for a transformer" if transformer else " with its defaults"
            )
        file = problem.folder / "model.xml"
        openvino.save_model(model, file)
        return Prepared(file, how)

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Compiles for latency; inputs and outputs are shared, not copied."""
        compiled = _compile(file, threads)
        request = compiled.create_infer_request()
        names = [spec.name for spec in signature.outputs]

        def run(sample: Sample) -> Outputs:
            outputs = request.infer(sample, share_inputs=True, share_outputs=True)
            return [np.asarray(outputs[name]) for name in names]

        return run

    def count_integer(self, file: Path) -> tuple[int, int] | None:
        """Counts the operators of the compiled graph that run in an integer precision."""
        if self.form == "float":
            return None
        precisions = [
            _read(op, "runtimePrecision")
            for op in _compile(file, 1).get_runtime_model().get_ordered_ops()
            if _read(op, "layerType") not in _LAYOUTS
        ]
        return sum(precision in ("i8", "u8") for precision in precisions), len(precisions)


def _compile(file: Path, threads: int) -> Any:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    return openvino.Core().compile_model(file, "CPU", settings)


def _read(op: Any, key: str) -> str:
    value = op.get_rt_info()[key]
    return str(value.astype(str) if hasattr(value, "astype") else value)
