"""Lowers sums and products of two tensors, functions of one (as tables), and softmax."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import (
    Lowering,
    element_count,
    normalized_axis,
    plan_axis,
    refuse,
)
from edgekit.converters.program import Binary, BinaryKind, Lookup, Softmax, Tensor
from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.tables import (
    SCALAR_OPERATORS,
    SOFTMAX_MAX_ELEMENTS,
    SOFTMAX_MIN_SCALE,
    UnaryFunction,
    code_table,
    scalar_function,
    softmax_table,
    unary_function,
)

_BINARY_KINDS = {kind.value: kind for kind in BinaryKind}


def lower_binary(lowering: Lowering, node: ir.Node) -> None:
    """Add, Sub, Mul of two computed tensors; with a single constant any operator of ``SCALAR_OPERATORS``."""
    constants = [lowering.constant(node, index) for index in (0, 1)]
    for index, constant in enumerate(constants):
        if constant is not None and constants[1 - index] is None and constant.size == 1:
            function = scalar_function(
                node.op_type, _constant_value(node, index, constant), constant_first=index == 0
            )
            _lower_table(lowering, node, 1 - index, function, min_rank=constant.ndim)
            return
    if node.op_type not in _BINARY_KINDS:
        refuse(node, "it is held only with a single constant as one operand")
    a, b = (lowering.codes(node, index) for index in (0, 1))
    rank = max(len(a.shape), len(b.shape))
    if a.channels_last or b.channels_last:
        if rank > 4:
            a, b = lowering.source_order(a), lowering.source_order(b)
        else:
            a, b = (_as_image(lowering, tensor) for tensor in (a, b))
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


def lower_unary(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of ``UNARY_OPERATORS``, as a table of 256 codes."""
    attributes: dict[str, float] = {}
    for name, attribute in node.attributes.items():
        if attribute.type is ir.AttributeType.FLOAT:
            attributes[name] = attribute.as_float()
        elif name == "approximate":
            attributes["tanh"] = float(attribute.as_string() == "tanh")
    if node.op_type == "Clip":
        for index, name in ((1, "min"), (2, "max")):
            if len(node.inputs) > index and node.inputs[index] is not None:
                bound = lowering.constant(node, index)
                if bound is None:
                    refuse(node, f"its {name} is computed")
                attributes[name] = float(bound.reshape(()))
    _lower_table(lowering, node, 0, unary_function(node.op_type, attributes))


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


def _lower_table(
    lowering: Lowering, node: ir.Node, index: int, function: UnaryFunction, min_rank: int = 0
) -> None:
    x = lowering.codes(node, index)
    if min_rank > len(x.shape):
        refuse(node, f"its constant has rank {min_rank}, more than the tensor's {len(x.shape)}")
    grid = lowering.grid(node)
    y = lowering.add_output(node, x.shape, grid, channels_last=x.channels_last)
    table = code_table(function, ActivationQuantization(x.scale, x.zero_point), grid)
    lowering.emit(Lookup(name=lowering.op_name(node), input=x.name, output=y.name, table=table))


def _constant_value(
    node: ir.Node, index: int, constant: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> float:
    """Returns the real value of a single constant: what its codes stand for, where it is quantized."""
    real = float(constant.reshape(()))
    value = node.inputs[index]
    record = None if value is None else get_quantization(value)
    if not isinstance(record, ActivationQuantization):
        return real
    code = record.zero_point + round(float(np.float32(real) / record.scale))
    return float(record.scale) * (min(max(code, record.lo), record.hi) - record.zero_point)


def _as_image(lowering: Lowering, tensor: Tensor) -> Tensor:
    """Returns ``tensor`` as NHWC, with leading dimensions of size 1 where its rank is below 4."""
    if len(tensor.shape) < 4:
        shape = (*(1,) * (4 - len(tensor.shape)), *tensor.shape)
        tensor = lowering.reshaped(tensor, shape, f"{tensor.name}:image")
    return lowering.channels_last(tensor)


ELEMENTWISE_OPERATORS = frozenset({*_BINARY_KINDS, *SCALAR_OPERATORS})
