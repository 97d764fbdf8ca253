"""Lowers products of two computed tensors, and reads what products of codes and of float32 have in common."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import MatMul, Tensor

_Number = TypeVar("_Number", bound=np.generic)
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


def read_rows(
    lowering: Lowering, node: ir.Node, weights: npt.NDArray[_Number]
) -> tuple[Tensor, npt.NDArray[_Number]]:
    """Returns the rows that a fully connected layer takes, and its weights ``[n, k]`` with k as it lies in them.

    Raises:
        ModelError: They do not fit each other.
    """
    x = lowering.source_order(lowering.codes(node, 0))
    if len(x.shape) < 2 or weights.shape[1] != x.shape[-1]:
        refuse(node, f"{weights.shape[1]} rows of weights do not fit an input {list(x.shape)}")
    if x.flattened is not None:
        # Columns that stand for C, H, W go to the order H, W, C.
        count = len(weights)
        split = weights.reshape(count, *x.flattened)
        weights = split.transpose(0, 2, 3, 1).reshape(count, -1)
    return x, np.ascontiguousarray(weights)


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
