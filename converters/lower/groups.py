"""Lowers products with int4 weights that have a scale for each group of them along k."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import TO_SOURCE_ORDER, Lowering, refuse
from edgekit.converters.program import (
    DType,
    Float32Array,
    GroupFullyConnected,
    Int8Array,
    Reshape,
    Tensor,
    Transpose,
)
from edgekit.converters.quantization import WeightQuantization


def lower_groups(
    lowering: Lowering, node: ir.Node, record: WeightQuantization, codes: Int8Array
) -> None:
    """Emits the product of rows, of codes or float32, with ``codes`` ``[n, k]``.

    Raises:
        ModelError: The records do not fit together.
    """
    x = read_source_rows(lowering, node, codes.shape[1])
    static = lowering.computes is DType.CODE
    grid = lowering.grid(node)
    scale = np.ascontiguousarray(record.scale, np.float32)
    multiplier = scale
    bias = read_bias(lowering, node, len(codes))
    if static:
        multiplier = np.float32(x.scale) * scale / np.float32(grid.scale)
        bias = (bias.astype(np.float64) / float(grid.scale)).astype(np.float32)
    if not np.isfinite(multiplier).all() or not np.isfinite(bias).all():
        refuse(node, "its scales or bias leave float32")
    y = lowering.add_output(node, (*x.shape[:-1], len(codes)), grid, channels_last=False)
    lowering.emit(
        GroupFullyConnected(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=np.ascontiguousarray(codes),
            group=record.group,
            multiplier=np.ascontiguousarray(multiplier),
            bias=bias,
            weight_scale=scale,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def read_source_rows(lowering: Lowering, node: ir.Node, depth: int) -> Tensor:
    """Returns the rows that a layer takes, elements in the source model's order: groups are made of neighbours there.

    Raises:
        ModelError: They are not ``depth`` wide.
    """
    x = lowering.source_order(lowering.codes(node, 0))
    if len(x.shape) < 2 or x.shape[-1] != depth:
        refuse(node, f"{depth} rows of weights do not fit an input {list(x.shape)}")
    if x.flattened is None:
        return x
    channels, height, width = x.flattened
    count = x.size // depth
    image = lowering.new_tensor(
        replace(
            x,
            name=f"{x.name}:image",
            shape=(count, height, width, channels),
            channels_last=True,
            flattened=None,
        )
    )
    lowering.emit(Reshape(name=lowering.op_name(node, ":image"), input=x.name, output=image.name))
    planes = lowering.new_tensor(
        replace(
            image,
            name=f"{x.name}:planes",
            shape=(count, channels, height, width),
            channels_last=False,
        )
    )
    lowering.emit(
        Transpose(
            name=lowering.op_name(node, ":planes"),
            input=image.name,
            output=planes.name,
            permutation=TO_SOURCE_ORDER,
        )
    )
    rows = lowering.new_tensor(replace(x, name=f"{x.name}:rows", flattened=None))
    lowering.emit(
        Reshape(name=lowering.op_name(node, ":rows"), input=planes.name, output=rows.name)
    )
    return rows


def read_bias(lowering: Lowering, node: ir.Node, count: int) -> Float32Array:
    """Returns the float32 bias of a layer with ``count`` output channels; zeros where it has none."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(count, np.float32)
    array = lowering.constant(node, 2)
    if array is None or array.size not in (1, count):
        refuse(node, "its bias is computed, or has not one element a channel")
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (count,)), np.float32)
