"""edgekit takes a trained model to a board in one call.

>>> import edgekit
>>> deployment = edgekit.deploy("model.onnx", target="rpi5", calibration="samples.npz")  # doctest: +SKIP
>>> print(deployment.report)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from edgekit.targets.errors import (
    AccuracyError,
    CalibrationError,
    DeviceError,
    EdgekitError,
    ModelError,
    PlanError,
    PromiseError,
    RemoteError,
    SignatureError,
    TargetError,
    ToolError,
)

if TYPE_CHECKING:
    from edgekit.classification import Classification
    from edgekit.data import Preprocessing
    from edgekit.delivery.flash import FlashResult, flash
    from edgekit.delivery.measure import benchmark_on
    from edgekit.delivery.probe import probe
    from edgekit.deployed import Deployment
    from edgekit.deployment import deploy
    from edgekit.distillation.distill import Distilled as Distilled
    from edgekit.distillation.distill import distill as distill
    from edgekit.partition.session import SplitSession, load_split
    from edgekit.partition.split import Split, split
    from edgekit.pipeline.gate import gate
    from edgekit.pipeline.result import GateResult
    from edgekit.report import Report
    from edgekit.serving.client import RemoteSession, connect
    from edgekit.session import Session, load

__version__ = "0.1.0"

# What imports numpy, onnx or onnxruntime is imported when it is first used.
_HOMES = {
    "Classification": "edgekit.classification",
    "Deployment": "edgekit.deployed",
    "Distilled": "edgekit.distillation.distill",
    "FlashResult": "edgekit.delivery.flash",
    "GateResult": "edgekit.pipeline.result",
    "Preprocessing": "edgekit.data",
    "RemoteSession": "edgekit.serving.client",
    "Split": "edgekit.partition.split",
    "SplitSession": "edgekit.partition.session",
    "Report": "edgekit.report",
    "Session": "edgekit.session",
    "connect": "edgekit.serving.client",
    "benchmark_on": "edgekit.delivery.measure",
    "deploy": "edgekit.deployment",
    "distill": "edgekit.distillation.distill",
    "flash": "edgekit.delivery.flash",
    "gate": "edgekit.pipeline.gate",
    "load": "edgekit.session",
    "load_split": "edgekit.partition.session",
    "split": "edgekit.partition.split",
    "probe": "edgekit.delivery.probe",
}

# Without `distill` and `Distilled`: a star, or a list of members, would then ask for PyTorch.
__all__ = [
    "AccuracyError",
    "CalibrationError",
    "Classification",
    "Deployment",
    "DeviceError",
    "EdgekitError",
    "FlashResult",
    "GateResult",
    "ModelError",
    "PlanError",
    "Preprocessing",
    "PromiseError",
    "RemoteError",
    "RemoteSession",
    "Report",
    "Session",
    "SignatureError",
    "Split",
    "SplitSession",
    "TargetError",
    "ToolError",
    "__version__",
    "benchmark_on",
    "connect",
    "deploy",
    "flash",
    "gate",
    "load",
    "load_split",
    "probe",
    "split",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
