"""ncnn on the CPU, converted by pnnx.

float only: ncnn's int8 tools (ncnn2table, ncnn2int8) are not on PyPI. What pnnx and ncnn do by default is left as it
is: weights in half precision in the file, and arithmetic in what the CPU has.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
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
    Value,
)
from edgekit.targets.errors import ToolError

_TYPES = {"float32": "f32", "int64": "i64", "int32": "i32"}


class Ncnn(Contestant):
    """ncnn with its default options."""

    runtime = "ncnn"
    packages = (Package("ncnn", "ncnn"), Package("pnnx", "pnnx"))

    def load_library(self) -> None:
        """Imports the runtime, not the converter."""
        import ncnn  # noqa: F401

    def prepare(self, problem: Problem) -> Prepared:
        """Converts with pnnx.

        Raises:
            ToolError: pnnx fails, or knows an operator that ncnn does not have.
        """
        source = problem.folder / "model.onnx"
        shutil.copyfile(problem.model, source)
        shapes = ",".join(_format(spec) for spec in problem.signature.inputs)
        spec = importlib.util.find_spec("pnnx")
        assert spec is not None
        assert spec.submodule_search_locations
        tool = Path(next(iter(spec.submodule_search_locations))) / "pnnx"
        done = subprocess.run(
            [str(tool), source.name, f"inputshape={shapes}"],
            cwd=problem.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        file = problem.folder / "model.ncnn.param"
        if done.returncode != 0 or not file.is_file():
            raise ToolError(f"pnnx exited with {done.returncode}: {done.stderr.strip()[-300:]}")
        unknown = sorted(
            {
                kind
                for line in file.read_text(encoding="utf-8").splitlines()[2:]
                if "." in (kind := line.split()[0])
            }
        )
        if unknown:
            raise ToolError(f"ncnn has no {', '.join(unknown)}")
        return Prepared(file, "pnnx with its defaults: weights in half precision")

    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Loads param and bin."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        if net.load_param(str(file)) or net.load_model(str(file.with_suffix(".bin"))):
            raise ToolError(f"ncnn cannot load {file.name}")
        names = [f"out{index}" for index in range(len(signature.outputs))]
        shapes = [spec.shape for spec in signature.outputs]

        def run(sample: Sample) -> Outputs:
            extractor = net.create_extractor()
            for index, spec in enumerate(signature.inputs):
                # The batch of 1 is no dimension of ncnn's.
                extractor.input(f"in{index}", ncnn.Mat(sample[spec.name][0]))
            results = [extractor.extract(name) for name in names]
            if any(code for code, _ in results):
                raise ToolError("ncnn cannot compute an output")
            return [
                np.array(mat).reshape(shape)
                for (_, mat), shape in zip(results, shapes, strict=True)
            ]

        return run


def _format(spec: Value) -> str:
    """Returns a shape as pnnx reads it, as [1,3,224,224]f32."""
    return f"[{','.join(map(str, spec.shape))}]{_TYPES[spec.dtype]}"
