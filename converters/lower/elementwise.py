"""Lowers sums and products of two tensors, functions of one (as tables), and softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import (
    Lowering,
    element_count,
    normalized_axis,
    plan_axis,
    refuse,
)
from edgekit.converters.program import (
    MAX_CODE,
    MIN_CODE,
    Binary,
    BinaryKind,
    Lookup,
    Requantize,
    Softmax,
)
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.regions import Region
from edgekit.converters.tables import (
    BINARY_FUNCTIONS,
    SOFTMAX_MAX_ELEMENTS,
    SOFTMAX_MIN_SCALE,
    code_table,
    softmax_table,
)

_BINARY_KINDS = {kind.value: kind for kind in BinaryKind}


def lower_binary(lowering: Lowering, node: ir.Node) -> None:
    """Add, Sub, Mul of two computed tensors."""
    if node.op_type not in _BINARY_KINDS:
        refuse(node, "it is held only as a function of one tensor")
    a, b = (lowering.codes(node, index) for index in (0, 1))
    rank = max(len(a.shape), len(b.shape))
    if a.channels_last or b.channels_last:
        if rank > 4:
            a, b = lowering.source_order(a), lowering.source_order(b)
        else:
            a, b = (lowering.as_image(tensor) for tensor in (a, b))
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        refuse(node, f"its operands {list(a.source_shape)} and {list(b.source_shape)} do not fit")
    grid = lowering.grid(node)
    y = lowering.add_output(node, shape, grid, channels_last=a.channels_last)
    lowering.emit(
        Binary(
            name=lowering.op_name(node),
            binary=_BINARY_KINDS[node.op_type],
            a=a.name,
            b=b.name,
            output=y.name,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def lower_prelu(lowering: Lowering, node: ir.Node) -> None:
    """PRelu with constant slopes, as one of ``max(x, slope * x)``, ``min(x, slope * x)`` and a sum of both halves.

    ``slope * x`` is on the result's grid already, and of the two halves one is always 0: each code is rounded once.
    """
    x, slope = (lowering.codes(node, index) for index in (0, 1))
    codes = lowering.constants[slope.name].astype(np.float64)
    slopes = float(slope.scale) * (codes - slope.zero_point)
    if x.channels_last:
        slope = lowering.as_image(slope)
    try:
        fits = np.broadcast_shapes(x.shape, slope.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        refuse(node, f"its slope {list(slope.source_shape)} does not fit {list(x.source_shape)}")
    grid = lowering.grid(node)
    y = lowering.add_output(node, x.shape, grid, channels_last=x.channels_last)
    scaled = lowering.new_tensor(replace(y, name=f"{y.name}:scaled"))
    first, kind = x, BinaryKind.MAX if slopes.max() <= 1 else BinaryKind.MIN
    source = x
    if slopes.min() < 1 < slopes.max():
        kind = BinaryKind.ADD
        source = lowering.new_tensor(replace(x, name=f"{y.name}:negative"))
        first = lowering.new_tensor(replace(y, name=f"{y.name}:positive"))
        for part, lo, hi in (
            (source, MIN_CODE, x.zero_point),
            (first, y.zero_point, MAX_CODE),
        ):
            name = lowering.op_name(node, ":half")
            lowering.emit(Requantize(name=name, input=x.name, output=part.name, lo=lo, hi=hi))
    lowering.emit(
        Binary(
            name=lowering.op_name(node, ":scale"),
            binary=BinaryKind.MUL,
            a=source.name,
            b=slope.name,
            output=scaled.name,
        )
    )
    lowering.emit(
        Binary(
            name=lowering.op_name(node),
            binary=kind,
            a=first.name,
            b=scaled.name,
            output=y.name,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def lower_region(lowering: Lowering, region: Region) -> None:
    """A function of the elements of one tensor, as a table of 256 codes."""
    node = region.nodes[-1]
    x = lowering.operand(node, region.source)
    grid = lowering.grid(node)
    y = lowering.add_output(node, x.shape, grid, channels_last=x.channels_last)
    table = code_table(region.function(), ActivationQuantization(x.scale, x.zero_point), grid)
    lowering.emit(Lookup(name=lowering.op_name(node), input=x.name, output=y.name, table=table))


def lower_softmax(lowering: Lowering, node: ir.Node) -> None:
    """Softmax over one dimension, which is brought to the end."""
    x = lowering.codes(node, 0)
    opset = node.graph.opset_imports.get("", 13) if node.graph is not None else 13
    version = node.version or opset
    rank = len(x.shape)
    axis = (
        node.attributes["axis"].as_int()
        if "axis" in node.attributes
        else (-1 if version >= 13 else 1)
    )
    axis = normalized_axis(node, axis, rank)
    if version < 13 and element_count(x.source_shape[axis:]) != x.source_shape[axis]:
        refuse(node, "it normalizes over several dimensions at once, as before opset 13")
    if plan_axis(axis, channels_last=x.channels_last) != rank - 1:
        if rank == 4 and axis == 1:
            x = lowering.channels_last(x)
        elif x.channels_last and axis == 3:
            x = lowering.source_order(x)
        else:
            refuse(node, f"it normalizes dimension {axis} of {rank}, not the last one")
    grid = lowering.grid(node)
    if x.shape[-1] > SOFTMAX_MAX_ELEMENTS:
        refuse(node, f"it normalizes {x.shape[-1]} elements, more than {SOFTMAX_MAX_ELEMENTS}")
    if not SOFTMAX_MIN_SCALE <= grid.scale <= 1:
        refuse(node, f"the scale {grid.scale} of its output is not in [2^-17, 1]")
    y = lowering.add_output(node, x.shape, grid, channels_last=x.channels_last)
    lowering.emit(
        Softmax(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            table=softmax_table(x.scale),
        )
    )


ELEMENTWISE_OPERATORS = frozenset({*_BINARY_KINDS, *BINARY_FUNCTIONS})
