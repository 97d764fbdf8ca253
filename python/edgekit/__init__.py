"""edgekit takes a trained model to a board in one call."""

from edgekit.targets.errors import (
    CalibrationError,
    EdgekitError,
    ModelError,
    PlanError,
    TargetError,
    ToolError,
)

__version__ = "0.1.0"

__all__ = [
    "CalibrationError",
    "EdgekitError",
    "ModelError",
    "PlanError",
    "TargetError",
    "ToolError",
    "__version__",
]
