"""Every operator of a simplified graph as a function of torch tensors that answers as ONNX Runtime does."""

from __future__ import annotations

from edgekit.distillation.operators import (
    elementwise,
    movement,
    norms,
    products,
    recurrent,
    resizing,
    windows,
)
from edgekit.distillation.operators.call import Call, Operator

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **movement.OPERATORS,
    **norms.OPERATORS,
    **products.OPERATORS,
    **recurrent.OPERATORS,
    **resizing.OPERATORS,
    **windows.OPERATORS,
}

__all__ = ["OPERATORS", "Call", "Operator"]
