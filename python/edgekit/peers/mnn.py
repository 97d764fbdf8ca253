"""MNN on the CPU.

The converter is called through MNN's own module, not through the commands ``mnnconvert`` and ``mnnquant``: those
install a logging package when they are started. int8 follows the page "Model compression", dynamic quantization:
weights in int8 for each channel, and a session with memory "low", which quantizes activations while the network runs.
The quantizer with calibration, ``mnnquant``, ends in the wheel of 3.6.1 with a C++ exception whatever it is given.
"""

from __future__ import annotations

from pathlib import Path

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
from edgekit.targets.errors import ToolError


class Mnn(Contestant):
    """MNN's interpreter in normal precision."""

    runtime = "MNN"
    packages = (Package("MNN", "mnn"),)

    def prepare(self, problem: Problem) -> Prepared:
        """Converts, and for int8 quantizes weights; activations are quantized while the network runs.

        Raises:
            ToolError: MNN cannot convert the model.
        """
        import _tools

        file = problem.folder / "model.mnn"
        words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(problem.model)]
        words += ["--MNNModel", str(file), "--bizCode", "edgekit"]
        if self.form == "int8":
            words += ["--weightQuantBits", "8"]
        _tools.mnnconvert(words)
        if not file.is_file():
            raise ToolError("MNNConvert wrote nothing")
        how = "MNNConvert" + (", weights in 8 bits, memory low" if self.form == "int8" else "")
        return Prepared(file, how)

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Makes a session."""
        import MNN

        interpreter = MNN.Interpreter(str(file))
        session = interpreter.createSession(
            {
                "numThread": threads,
                "backend": "CPU",
                "precision": "normal",
                "memory": "low" if self.form == "int8" else "normal",
            }
        )
        inputs = {
            spec.name: interpreter.getSessionInput(session, spec.name) for spec in signature.inputs
        }
        layout = MNN.Tensor_DimensionType_Caffe
        outputs = []
        for spec in signature.outputs:
            host = MNN.Tensor(
                tuple(spec.shape),
                MNN.Halide_Type_Float,
                np.zeros(spec.shape, np.float32),
                layout,
            )
            outputs.append((interpreter.getSessionOutput(session, spec.name), host, spec.shape))

        kinds = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int}

        def run(sample: Sample) -> Outputs:
            for name, tensor in inputs.items():
                array = sample[name]
                kind = kinds[array.dtype.name]
                tensor.copyFrom(MNN.Tensor(array.shape, kind, array, layout))
            interpreter.runSession(session)
            results = []
            for device, host, shape in outputs:
                device.copyToHostTensor(host)
                results.append(np.asarray(host.getNumpyData()).reshape(shape))
            return results

        return run
