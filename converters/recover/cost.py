"""Reckons how long a float network takes, to say whether trying something on it is cheap."""

from __future__ import annotations

import math

import onnx_ir as ir


def count_multiplications(model: ir.Model) -> float:
    """Returns about how many multiplications one sample takes, in layers with constant weights.

    Each weight is multiplied once for each place of the output, of a transposed convolution for each place of the
    input.

    Args:
        model: A float graph.

    Returns:
        Infinity where the shape of such a layer is not known.
    """
    total = 0.0
    for node in model.graph:
        weights = next((value for value in node.inputs[1:2] if _is_constant(value)), None)
        if weights is None or weights.const_value is None:
            continue
        reader = node.inputs[0] if node.op_type == "ConvTranspose" else node.outputs[0]
        if node.op_type in ("Conv", "ConvTranspose"):
            total += _count_places(reader, slice(2, None)) * weights.const_value.size
        elif node.op_type in ("Gemm", "MatMul"):
            total += _count_places(reader, slice(1, -1)) * weights.const_value.size
    return total


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def _count_places(value: ir.Value | None, dimensions: slice) -> float:
    if value is None or value.shape is None:
        return math.inf
    sizes = tuple(value.shape)[dimensions]
    return math.prod(size if isinstance(size, int) else math.inf for size in sizes)
