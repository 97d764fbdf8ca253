"""Repair by distillation, with PyTorch (extra ``torch``): the float network teaches the compressed one without labels.

Importing it needs PyTorch; `edgekit.distill` says so in one sentence where it is missing.
"""

from edgekit.distillation.require_torch import require_torch

require_torch()

from edgekit.distillation.distill import Distilled, distill  # noqa: E402
from edgekit.distillation.network import GraphNetwork  # noqa: E402
from edgekit.distillation.quantized_network import QuantizedNetwork  # noqa: E402
from edgekit.distillation.settings import Settings  # noqa: E402
from edgekit.distillation.train import Training  # noqa: E402

__all__ = [
    "Distilled",
    "GraphNetwork",
    "QuantizedNetwork",
    "Settings",
    "Training",
    "distill",
]
