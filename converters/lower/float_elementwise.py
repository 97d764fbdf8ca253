"""Lowers functions of one or two elements, softmax and layer norm that stay float32."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFunction,
    FloatLayerNorm,
    FloatOperator,
    FloatSoftmax,
    FloatUnary,
)
from edgekit.converters.lower.state import Lowering, normalized_axis, plan_axis, refuse
from edgekit.converters.program import Tensor, Transpose

_FUNCTIONS = {
    "Abs": FloatFunction.ABS,
    "Ceil": FloatFunction.CEIL,
    "Erf": FloatFunction.ERF,
    "Exp": FloatFunction.EXP,
    "Floor": FloatFunction.FLOOR,
    "HardSwish": FloatFunction.HARD_SWISH,
    "Log": FloatFunction.LOG,
    "Neg": FloatFunction.NEGATE,
    "Reciprocal": FloatFunction.RECIPROCAL,
    "Round": FloatFunction.ROUND,
    "Sigmoid": FloatFunction.SIGMOID,
    "Sqrt": FloatFunction.SQRT,
    "Tanh": FloatFunction.TANH,
}
# The attributes that a function takes, with ONNX's defaults.
_WITH_ATTRIBUTES = {
    "HardSigmoid": (FloatFunction.HARD_SIGMOID, (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": (FloatFunction.LEAKY_RELU, (("alpha", 0.01),)),
}
_OPERATORS = {operator.value: operator for operator in FloatOperator}
# Powers that are products and roots; others are not held.
_SQUARE, _CUBE, _ROOT = 2.0, 3.0, 0.5

UNARY = frozenset({*_FUNCTIONS, *_WITH_ATTRIBUTES, "Clip", "Gelu", "Relu"})
BINARY = frozenset(_OPERATORS)


def lower_unary(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of ``UNARY``."""
    x = lowering.codes(node, 0)
    alpha = beta = 0.0
    if node.op_type == "Relu":
        function, alpha, beta = FloatFunction.CLIP, 0.0, math.inf
    elif node.op_type == "Clip" and _has_computed_bound(lowering, node):
        _clip_by_computed(lowering, node, x)
        return
    elif node.op_type == "Clip":
        function = FloatFunction.CLIP
        alpha, beta = (
            _bound(lowering, node, index, name, default)
            for index, name, default in ((1, "min", -math.inf), (2, "max", math.inf))
        )
    elif node.op_type == "Gelu":
        approximate = node.attributes.get("approximate")
        tanh = approximate is not None and approximate.as_string() == "tanh"
        function = FloatFunction.GELU_TANH if tanh else FloatFunction.GELU
    elif node.op_type in _WITH_ATTRIBUTES:
        function, names = _WITH_ATTRIBUTES[node.op_type]
        numbers = [
            node.attributes[name].as_float() if name in node.attributes else default
            for name, default in names
        ]
        alpha, beta = (*numbers, 0.0)[:2]
    else:
        function = _FUNCTIONS[node.op_type]
    y = lowering.add_real_output(node, x.shape, channels_last=x.channels_last)
    lowering.emit(
        FloatUnary(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            function=function,
            alpha=alpha,
            beta=beta,
        )
    )


def _has_computed_bound(lowering: Lowering, node: ir.Node) -> bool:
    return any(
        value is not None and lowering.constant(node, index) is None
        for index, value in enumerate(node.inputs[1:3], start=1)
    )


def _clip_by_computed(lowering: Lowering, node: ir.Node, x: Tensor) -> None:
    """Clip by bounds of which one is computed: ``min(hi, max(lo, x))``; a NaN stays."""
    given = [
        (operator, lowering.codes(node, index))
        for index, operator in ((1, FloatOperator.MAX), (2, FloatOperator.MIN))
        if index < len(node.inputs) and node.inputs[index] is not None
    ]
    x = lowering.source_order(x)
    if any(bound.size != 1 for _, bound in given):
        refuse(node, "a bound is not a single number")
    if len(given) == 2:
        operator, bound = given.pop(0)
        raised = lowering.real_tensor(f"{node.outputs[0].name}:raised", x.shape)
        lowering.emit(
            FloatBinary(
                name=lowering.op_name(node, ":raised"),
                operator=operator,
                a=bound.name,
                b=x.name,
                output=raised.name,
            )
        )
        x = raised
    operator, bound = given[0]
    _emit_binary(lowering, node, operator, bound, x)


def lower_binary(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of ``BINARY``, on computed tensors and constants."""
    a, b = (lowering.codes(node, index) for index in (0, 1))
    _emit_binary(lowering, node, _OPERATORS[node.op_type], a, b)


def lower_pow(lowering: Lowering, node: ir.Node) -> None:
    """Pow with the constant exponent 2, 3 or 1/2."""
    exponent = lowering.constant(node, 1)
    power = None if exponent is None or exponent.size != 1 else float(exponent.reshape(()))
    x = lowering.codes(node, 0)
    if power == _ROOT:
        y = lowering.add_real_output(node, x.shape, channels_last=x.channels_last)
        lowering.emit(
            FloatUnary(
                name=lowering.op_name(node),
                input=x.name,
                output=y.name,
                function=FloatFunction.SQRT,
            )
        )
    elif power == _SQUARE:
        _emit_binary(lowering, node, FloatOperator.MUL, x, x)
    elif power == _CUBE:
        square = lowering.real_tensor(f"{x.name}:square", x.shape, channels_last=x.channels_last)
        lowering.emit(
            FloatBinary(
                name=lowering.op_name(node, ":square"),
                operator=FloatOperator.MUL,
                a=x.name,
                b=x.name,
                output=square.name,
            )
        )
        _emit_binary(lowering, node, FloatOperator.MUL, square, x)
    else:
        refuse(node, "its exponent is not the constant 2, 3 or 0.5")


def lower_softmax(lowering: Lowering, node: ir.Node) -> None:
    """Softmax over one dimension, which is brought to the end."""
    x = lowering.codes(node, 0)
    rank = len(x.shape)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    place = plan_axis(normalized_axis(node, axis, rank), channels_last=x.channels_last)
    if place == rank - 1:
        y = lowering.add_real_output(node, x.shape, channels_last=x.channels_last)
        lowering.emit(FloatSoftmax(name=lowering.op_name(node), input=x.name, output=y.name))
        return
    order = (*(i for i in range(rank) if i != place), place)
    back = tuple(order.index(i) for i in range(rank))
    moved = [
        lowering.real_tensor(f"{x.name}:{part}", [x.shape[i] for i in order])
        for part in ("moved", "softmax")
    ]
    y = lowering.add_real_output(node, x.shape, channels_last=x.channels_last)
    lowering.emit(
        Transpose(
            name=lowering.op_name(node, ":move"),
            input=x.name,
            output=moved[0].name,
            permutation=order,
        )
    )
    lowering.emit(
        FloatSoftmax(name=lowering.op_name(node), input=moved[0].name, output=moved[1].name)
    )
    lowering.emit(
        Transpose(
            name=lowering.op_name(node, ":back"),
            input=moved[1].name,
            output=y.name,
            permutation=back,
        )
    )


def lower_layer_norm(lowering: Lowering, node: ir.Node) -> None:
    """LayerNormalization over the last dimensions with a constant scale and bias."""
    x = lowering.source_order(lowering.codes(node, 0))
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    shape = x.shape[normalized_axis(node, axis, len(x.shape)) :]
    scale = lowering.constant(node, 1)
    bias = lowering.constant(node, 2)
    if scale is None or (bias is None and len(node.inputs) > 2 and node.inputs[2] is not None):
        refuse(node, "its scale or bias is computed")
    offset = np.zeros(1, np.float32) if bias is None else bias
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    y = lowering.add_real_output(node, x.shape, channels_last=False)
    lowering.emit(
        FloatLayerNorm(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            scale=np.ascontiguousarray(np.broadcast_to(scale, shape), np.float32),
            bias=np.ascontiguousarray(np.broadcast_to(offset, shape), np.float32),
            epsilon=epsilon,
        )
    )


def _emit_binary(
    lowering: Lowering, node: ir.Node, operator: FloatOperator, a: Tensor, b: Tensor
) -> None:
    rank = max(len(a.shape), len(b.shape))
    if a.channels_last or b.channels_last:
        if rank > 4:
            a, b = lowering.source_order(a), lowering.source_order(b)
        else:
            a, b = lowering.as_image(a), lowering.as_image(b)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        refuse(node, f"its operands {list(a.source_shape)} and {list(b.source_shape)} do not fit")
    y = lowering.add_real_output(node, shape, channels_last=a.channels_last)
    lowering.emit(
        FloatBinary(
            name=lowering.op_name(node), operator=operator, a=a.name, b=b.name, output=y.name
        )
    )


def _bound(lowering: Lowering, node: ir.Node, index: int, name: str, default: float) -> float:
    """Returns a bound of a Clip, from its input or, before opset 11, its attribute."""
    if name in node.attributes:
        return node.attributes[name].as_float()
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return default
    array = lowering.constant(node, index)
    if array is None or array.size != 1:
        refuse(node, f"its {name} is computed")
    return float(np.asarray(array, np.float32).reshape(()))
