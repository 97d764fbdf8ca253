"""Lowers products of two computed tensors, of codes and of float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import MatMul, Tensor

# So many products of two codes and their zero points' share cannot leave int32.
_MOST_DEPTH = (2**31 - 1) // (2 * 255 * 255)


def read_operands(lowering: Lowering, node: ir.Node) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Returns both operands of a MatMul in the source model's order, and the shape of their product.

    Raises:
        ModelError: They are no matrices, do not multiply, or broadcast over each other.
    """
    a, b = (lowering.source_order(lowering.codes(node, index)) for index in (0, 1))
    if len(a.shape) < 2 or len(b.shape) < 2:
        refuse(node, "one of its operands is a vector")
    batches = a.shape[:-2]
    rest = tuple(size for size in b.shape[:-2] if size != 1)
    if rest and (len(b.shape) > len(a.shape) or b.shape[:-2] != batches[-len(b.shape[:-2]) :]):
        refuse(node, f"it broadcasts {list(a.shape)} and {list(b.shape)} over each other")
    if rest and len(b.shape) != len(a.shape):
        refuse(node, f"it broadcasts {list(b.shape)} over {list(a.shape)}")
    if a.shape[-1] != b.shape[-2]:
        refuse(node, f"{list(a.shape)} and {list(b.shape)} do not multiply")
    return a, b, (*batches, a.shape[-2], b.shape[-1])


def lower_product(lowering: Lowering, node: ir.Node) -> None:
    """MatMul of two computed tensors of codes."""
    a, b, shape = read_operands(lowering, node)
    if a.shape[-1] > _MOST_DEPTH:
        refuse(node, f"its sums of {a.shape[-1]} products could leave int32")
    grid = lowering.grid(node)
    multiplier = np.float32(a.scale) * np.float32(b.scale) / np.float32(grid.scale)
    if not (np.isfinite(multiplier) and multiplier > 0):
        refuse(node, "the ratio of its scales is not a positive finite float32")
    y = lowering.add_output(node, shape, grid, channels_last=False)
    lowering.emit(
        MatMul(
            name=lowering.op_name(node),
            a=a.name,
            b=b.name,
            output=y.name,
            lo=grid.lo,
            hi=grid.hi,
        )
    )
