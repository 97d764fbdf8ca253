"""AIMET (aimet-onnx), after its quick start for ONNX: a `QuantizationSimModel`, calibrated, written as QDQ.

It lives in an environment of its own (`make aimet-env`), since it brings torch, which nothing else here needs.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgekit.peers.contestant import Package, Prepared, Problem, Run, Signature
from edgekit.peers.contestants import REFERENCE
from edgekit.peers.onnxruntime import raise_opset
from edgekit.peers.samples_file import write_samples
from edgekit.targets.errors import ToolError
from quantizers.quantizer import Quantizer

_HOME = Path(__file__).parent
_ENVIRONMENT = _HOME.parent.parent / "build" / "aimet-env"


@dataclass(frozen=True)
class Aimet(Quantizer):
    """AIMET's simulation: "minmax", "tfe" (ranges "tf_enhanced"), or those with "cle" or "adaround" before."""

    @property
    def tool(self) -> str:
        """The tool's name."""
        return "AIMET"

    @property
    def packages(self) -> tuple[Package, ...]:
        """What runs its files; it has an environment of its own."""
        return (Package("onnxruntime", "onnxruntime"),)

    def find_missing(self) -> str | None:
        """Returns where its environment is missing."""
        if _find_python().is_file():
            return None
        return "not installed: make aimet-env, or name the Python that has it with AIMET_PYTHON="

    def get_version(self) -> str:
        """Returns aimet-onnx's version in its own environment."""
        code = "import importlib.metadata as m; print('aimet-onnx', m.version('aimet-onnx'))"
        done = subprocess.run(
            [_find_python(), "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def quantize(self, problem: Problem) -> Prepared:
        """Runs ``run_aimet.py`` in AIMET's environment."""
        import onnx

        source, samples = problem.folder / "source.onnx", problem.folder / "samples.npz"
        file = problem.folder / "model.onnx"
        onnx.save(raise_opset(problem.model), source)
        write_samples(samples, problem.samples)
        command = [_find_python(), _HOME / "run_aimet.py", source, samples, file]
        settings = {"setting": self.setting, "weights": self.weights}
        done = subprocess.run(
            [*command, json.dumps(settings)], capture_output=True, text=True, check=False
        )
        if done.returncode or not file.is_file():
            last = (done.stderr.strip().splitlines() or ["said nothing"])[-1]
            raise ToolError(f"aimet-onnx exited with {done.returncode}: {last}")
        return Prepared(file, done.stdout.strip().splitlines()[-1])

    def open(self, file: Path, signature: Signature) -> Run:
        """Makes a session of ONNX Runtime."""
        return REFERENCE.open(file, signature, threads=1)


def _find_python() -> Path:
    return Path(os.environ.get("AIMET_PYTHON", _ENVIRONMENT / "bin" / "python"))
