"""Lowers operators on plain numbers: whole numbers, comparisons, choices, types, and rows by their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower import float_elementwise
from edgekit.converters.lower.state import (
    TO_CHANNELS_LAST,
    Lowering,
    normalized_axis,
    plan_axis,
    refuse,
)
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.plain_program import (
    ArgExtreme,
    Cast,
    Compare,
    Comparison,
    Expand,
    Extreme,
    Gather,
    IntegerBinary,
    IntegerOperator,
    Where,
)
from edgekit.converters.program import DType, Reshape, Tensor

_OPERATORS = {operator.value: operator for operator in IntegerOperator}
# The comparison, and whether its operands change places.
_COMPARISONS = {
    "Equal": (Comparison.EQUAL, False),
    "Greater": (Comparison.LESS, True),
    "GreaterOrEqual": (Comparison.LESS_OR_EQUAL, True),
    "Less": (Comparison.LESS, False),
    "LessOrEqual": (Comparison.LESS_OR_EQUAL, False),
}
_WHOLE = (DType.INT32, DType.INT64, DType.UINT8)
BINARY = frozenset({*_OPERATORS, *float_elementwise.BINARY})
COMPARISONS = frozenset(_COMPARISONS)
# A plan's tensors have at most so many dimensions.
_MOST_DIMENSIONS = 8


def lower_binary(lowering: Lowering, node: ir.Node) -> None:
    """Sums, products and the like of float32 or whole numbers, and logic of bools."""
    a, b = (lowering.elements(node, index) for index in (0, 1))
    if a.dtype is DType.FLOAT32 and node.op_type in float_elementwise.BINARY:
        float_elementwise.lower_binary(lowering, node)
        return
    operator = _OPERATORS.get(node.op_type)
    logic = operator in (IntegerOperator.AND, IntegerOperator.OR, IntegerOperator.XOR)
    if operator is None or a.dtype not in ((DType.BOOL,) if logic else _WHOLE):
        refuse(node, f"it computes on {a.dtype.value}")
    if node.op_type == "Mod" and attribute(node, "fmod", 0):
        refuse(node, "its result has the sign of what is divided")
    shape, channels_last, (a, b) = _operands(lowering, node, (a, b))
    y = _output(lowering, node, shape, a.dtype, channels_last=channels_last)
    lowering.emit(
        IntegerBinary(
            name=lowering.op_name(node), operator=operator, a=a.name, b=b.name, output=y.name
        )
    )


def lower_not(lowering: Lowering, node: ir.Node) -> None:
    """Not, as an exclusive or with True."""
    x = lowering.elements(node, 0)
    true = lowering.add_constant(node, f"{x.name}:true", np.array(True))
    y = _output(lowering, node, x.shape, DType.BOOL, channels_last=x.channels_last)
    lowering.emit(
        IntegerBinary(
            name=lowering.op_name(node),
            operator=IntegerOperator.XOR,
            a=x.name,
            b=true.name,
            output=y.name,
        )
    )


def lower_compare(lowering: Lowering, node: ir.Node) -> None:
    """Equal, Less, LessOrEqual, Greater and GreaterOrEqual."""
    comparison, turned = _COMPARISONS[node.op_type]
    a, b = (lowering.elements(node, index) for index in (0, 1))
    shape, channels_last, (a, b) = _operands(lowering, node, (b, a) if turned else (a, b))
    y = _output(lowering, node, shape, DType.BOOL, channels_last=channels_last)
    lowering.emit(
        Compare(
            name=lowering.op_name(node), comparison=comparison, a=a.name, b=b.name, output=y.name
        )
    )


def lower_where(lowering: Lowering, node: ir.Node) -> None:
    """Where, of any type."""
    given = tuple(lowering.elements(node, index) for index in (0, 1, 2))
    shape, channels_last, (condition, a, b) = _operands(lowering, node, given)
    y = _output(lowering, node, shape, a.dtype, channels_last=channels_last)
    lowering.emit(
        Where(
            name=lowering.op_name(node),
            condition=condition.name,
            a=a.name,
            b=b.name,
            output=y.name,
        )
    )


def lower_cast(lowering: Lowering, node: ir.Node) -> None:
    """Cast between the types that plans hold."""
    x = lowering.elements(node, 0)
    wanted = ir.DataType(attribute(node, "to", 0))
    dtype = _data_type(wanted)
    if dtype is None:
        refuse(node, f"it makes {wanted}")
    if dtype is x.dtype:
        lowering.bind(node.outputs[0], x)
        return
    y = _output(lowering, node, x.shape, dtype, channels_last=x.channels_last)
    lowering.emit(Cast(name=lowering.op_name(node), input=x.name, output=y.name))


def lower_gather(lowering: Lowering, node: ir.Node) -> None:
    """Gather by computed or constant indices; an image that is picked from by a row of them stays one."""
    x = lowering.elements(node, 0)
    indices = lowering.source_order(lowering.numbers(node, 1))
    if indices.dtype not in (DType.INT32, DType.INT64):
        refuse(node, f"its indices are {indices.dtype.value}")
    if len(indices.shape) != 1:
        x = lowering.source_order(x)
    axis = normalized_axis(node, attribute(node, "axis", 0), len(x.shape))
    axis = plan_axis(axis, channels_last=x.channels_last)
    x, y = lowering.moved(node, x, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    lowering.emit(
        Gather(
            name=lowering.op_name(node),
            input=x.name,
            indices=indices.name,
            axis=axis,
            output=y.name,
        )
    )


def lower_expand(lowering: Lowering, node: ir.Node) -> None:
    """Expand to a constant shape; an image that becomes one stays NHWC."""
    x = lowering.elements(node, 0)
    wanted = lowering.constant(node, 1)
    if wanted is None:
        refuse(node, "its shape is computed")
    sizes = [int(size) for size in wanted.reshape(-1)]
    if x.channels_last and len(sizes) <= len(TO_CHANNELS_LAST):
        sizes = [1] * (len(TO_CHANNELS_LAST) - len(sizes)) + sizes
        sizes = [sizes[axis] for axis in TO_CHANNELS_LAST]
    else:
        x = lowering.source_order(x)
    try:
        shape = np.broadcast_shapes(x.shape, tuple(sizes))
    except ValueError:
        refuse(node, f"{list(x.source_shape)} does not expand to {wanted.reshape(-1).tolist()}")
    x, y = lowering.moved(node, x, shape)
    lowering.emit(Expand(name=lowering.op_name(node), input=x.name, output=y.name))


def lower_tile(lowering: Lowering, node: ir.Node) -> None:
    """Tile by constant counts: each repeated dimension gets a dimension of its own to expand."""
    x = lowering.source_order(lowering.elements(node, 0))
    counts = lowering.constant(node, 1)
    if counts is None or counts.size != len(x.shape):
        refuse(node, "its repeats are computed")
    split: list[int] = []
    wide: list[int] = []
    result = []
    for size, times in zip(x.shape, counts.reshape(-1).tolist(), strict=True):
        if times != 1 and size != 1:
            split.append(1)
            wide.append(times)
        split.append(size)
        wide.append(times if size == 1 else size)
        result.append(size * times)
    if len(split) > _MOST_DIMENSIONS:
        refuse(node, f"it repeats a tensor of {len(x.shape)} dimensions")
    x, y = lowering.moved(node, x, result)
    source = lowering.reshaped(x, split, f"{y.name}:split") if len(split) > len(x.shape) else x
    repeated = lowering.new_tensor(replace(source, name=f"{y.name}:repeated", shape=tuple(wide)))
    lowering.emit(Expand(name=lowering.op_name(node), input=source.name, output=repeated.name))
    lowering.emit(
        Reshape(name=lowering.op_name(node, ":joined"), input=repeated.name, output=y.name)
    )


def lower_arg_extreme(lowering: Lowering, node: ir.Node) -> None:
    """ArgMax and ArgMin."""
    # Codes are in the order of the numbers that they stand for.
    x = lowering.source_order(lowering.held(node, 0))
    axis = normalized_axis(node, attribute(node, "axis", 0), len(x.shape))
    keep = attribute(node, "keepdims", 1)
    shape = [
        1 if index == axis else size for index, size in enumerate(x.shape) if keep or index != axis
    ]
    y = _output(lowering, node, shape, DType.INT64)
    lowering.emit(
        ArgExtreme(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            extreme=Extreme.MAX if node.op_type == "ArgMax" else Extreme.MIN,
            axis=axis,
            last=bool(attribute(node, "select_last_index", 0)),
        )
    )


def lower_one_hot(lowering: Lowering, node: ir.Node) -> None:
    """OneHot of whole numbers with a constant depth: where the indices equal the places."""
    indices = lowering.source_order(lowering.elements(node, 0))
    depth, values = (lowering.constant(node, index) for index in (1, 2))
    if depth is None or depth.size != 1 or values is None or indices.dtype not in _WHOLE:
        refuse(node, "its depth or values are computed, or its indices are no whole numbers")
    count, rank = int(depth.reshape(())), len(indices.shape) + 1
    axis = normalized_axis(node, attribute(node, "axis", -1), rank)
    label = node.name or node.op_type
    shape = [*indices.shape[:axis], count, *indices.shape[axis:]]
    column = [*indices.shape[:axis], 1, *indices.shape[axis:]]
    places = np.arange(count).reshape([count if i == axis else 1 for i in range(rank)])
    wide = _fit(lowering, node, lowering.reshaped(indices, column, f"{label}:column"), shape)
    below = lowering.new_tensor(Tensor(f"{label}:below", wide.shape, DType.BOOL))
    zero = lowering.add_constant(node, f"{label}:zero", np.zeros((), indices.dtype.numpy))
    lowering.emit(
        Compare(
            name=lowering.op_name(node, ":below"),
            comparison=Comparison.LESS,
            a=wide.name,
            b=zero.name,
            output=below.name,
        )
    )
    last = lowering.add_constant(node, f"{label}:depth", np.array(count, indices.dtype.numpy))
    moved, front = (
        lowering.new_tensor(Tensor(f"{label}:{part}", wide.shape, indices.dtype))
        for part in ("moved", "front")
    )
    lowering.emit(
        IntegerBinary(
            name=lowering.op_name(node, ":moved"),
            operator=IntegerOperator.ADD,
            a=wide.name,
            b=last.name,
            output=moved.name,
        )
    )
    lowering.emit(
        Where(
            name=lowering.op_name(node, ":front"),
            condition=below.name,
            a=moved.name,
            b=wide.name,
            output=front.name,
        )
    )
    there = lowering.add_constant(
        node,
        f"{label}:places",
        np.ascontiguousarray(np.broadcast_to(places, shape), indices.dtype.numpy),
    )
    hit = lowering.new_tensor(Tensor(f"{label}:hit", tuple(shape), DType.BOOL))
    lowering.emit(
        Compare(
            name=lowering.op_name(node, ":hit"),
            comparison=Comparison.EQUAL,
            a=front.name,
            b=there.name,
            output=hit.name,
        )
    )
    off, on = (
        lowering.add_constant(node, f"{label}:{what}", np.asarray(values).reshape(-1)[index])
        for index, what in enumerate(("off", "on"))
    )
    y = _output(lowering, node, shape, on.dtype)
    lowering.emit(
        Where(name=lowering.op_name(node), condition=hit.name, a=on.name, b=off.name, output=y.name)
    )


def lower_shape(lowering: Lowering, node: ir.Node) -> None:
    """Shape and Size, which are known."""
    x = lowering.elements(node, 0).source_shape
    if node.op_type == "Size":
        array = np.array(math.prod(x), np.int64)
    else:
        start, end = attribute(node, "start", 0), attribute(node, "end", len(x))
        array = np.array(x[start:end], np.int64)
    name = node.outputs[0].name or node.op_type
    lowering.bind(node.outputs[0], lowering.add_constant(node, f"{name}:known", array))


def _data_type(element: ir.DataType) -> DType | None:
    try:
        return DType.of_numpy(element.numpy())
    except TypeError:
        return None


def _output(
    lowering: Lowering,
    node: ir.Node,
    shape: Sequence[int],
    dtype: DType,
    *,
    channels_last: bool = False,
) -> Tensor:
    return lowering.add_output(
        node, shape, lowering.grid(node), channels_last=channels_last, dtype=dtype
    )


def _operands(
    lowering: Lowering, node: ir.Node, given: Sequence[Tensor]
) -> tuple[tuple[int, ...], bool, list[Tensor]]:
    """Returns the shape of an elementwise result, whether it is NHWC, and operands of that shape or of one element."""
    channels_last = all(tensor.channels_last or tensor.size == 1 for tensor in given) and any(
        tensor.channels_last for tensor in given
    )
    tensors = [
        tensor if channels_last or not tensor.channels_last else lowering.source_order(tensor)
        for tensor in given
    ]
    shapes = [
        () if channels_last and not tensor.channels_last else tensor.shape for tensor in tensors
    ]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        refuse(node, f"its operands {', '.join(str(list(s)) for s in shapes)} do not fit")
    return shape, channels_last, [_fit(lowering, node, tensor, shape) for tensor in tensors]


def _fit(lowering: Lowering, node: ir.Node, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns ``tensor`` broadcast to ``shape``, or as it is where it holds a single element."""
    if tensor.shape == tuple(shape) or tensor.size == 1:
        return tensor
    if tensor.name in lowering.constants:
        array = np.ascontiguousarray(np.broadcast_to(lowering.constants[tensor.name], shape))
        return lowering.add_constant(node, f"{tensor.name}:wide", array)
    wide = lowering.new_tensor(
        Tensor(
            f"{tensor.name}:wide", tuple(shape), tensor.dtype, channels_last=tensor.channels_last
        )
    )
    lowering.emit(
        Expand(name=lowering.op_name(node, ":expand"), input=tensor.name, output=wide.name)
    )
    return wide
