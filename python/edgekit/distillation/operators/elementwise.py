"""What works element by element: functions of one, two and three tensors, comparisons, types."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir
import torch
import torch.nn.functional as nn
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875
_TYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.FLOAT16: torch.float16,
}

_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": nn.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": nn.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: torch.relu(x) + torch.log1p(torch.exp(-torch.abs(x))),
    "Softsign": nn.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
# Of any number of tensors.
_MANY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Mean": torch.add,
    "Min": torch.minimum,
    "Sum": torch.add,
}


def _one(call: Call) -> Tensor:
    return _ONE[call.node.op_type](call[0])


def _two(call: Call) -> Tensor:
    return _TWO[call.node.op_type](call[0], call[1])


def _many(call: Call) -> Tensor:
    total = call[0]
    for index in range(1, len(call.inputs)):
        total = _MANY[call.node.op_type](total, call[index])
    return total / len(call.inputs) if call.node.op_type == "Mean" else total


def _div(call: Call) -> Tensor:
    a, b = call[0], call[1]
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _mod(call: Call) -> Tensor:
    a, b = call[0], call[1]
    return torch.fmod(a, b) if call.integer("fmod", 0) else torch.remainder(a, b)


def _pow(call: Call) -> Tensor:
    base, exponent = call[0], call[1]
    # Gradients of squares need no logarithm.
    if exponent.numel() == 1 and not exponent.requires_grad:
        return (
            torch.pow(base, float(exponent))
            .to(base.dtype)
            .expand(torch.broadcast_shapes(base.shape, exponent.shape))
        )
    return torch.pow(base, exponent.to(base.dtype))


def _clip(call: Call) -> Tensor:
    x, low, high = call[0], call.get(1), call.get(2)
    if "min" in call.node.attributes or "max" in call.node.attributes:
        return x.clamp(call.number("min", -math.inf), call.number("max", math.inf))
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _hard_sigmoid(call: Call) -> Tensor:
    return (call.number("alpha", 0.2) * call[0] + call.number("beta", 0.5)).clamp(0.0, 1.0)


def _leaky_relu(call: Call) -> Tensor:
    return nn.leaky_relu(call[0], call.number("alpha", 0.01))


def _elu(call: Call) -> Tensor:
    return nn.elu(call[0], call.number("alpha", 1.0))


def _celu(call: Call) -> Tensor:
    return nn.celu(call[0], call.number("alpha", 1.0))


def _selu(call: Call) -> Tensor:
    alpha, gamma = call.number("alpha", _SELU_ALPHA), call.number("gamma", _SELU_GAMMA)
    return gamma * nn.elu(call[0], alpha)


def _thresholded_relu(call: Call) -> Tensor:
    x = call[0]
    return torch.where(x > call.number("alpha", 1.0), x, torch.zeros_like(x))


def _swish(call: Call) -> Tensor:
    x = call[0]
    return x * torch.sigmoid(call.number("alpha", 1.0) * x)


def _gelu(call: Call) -> Tensor:
    return nn.gelu(call[0], approximate=call.text("approximate", "none"))


def _cast(call: Call) -> Tensor:
    wanted = ir.DataType(call.integer("to", ir.DataType.FLOAT.value))
    if wanted not in _TYPES:
        call.refuse(f"it makes {wanted.name}")
    x = call[0]
    return x.ne(0) if wanted is ir.DataType.BOOL else x.to(_TYPES[wanted])


def _cast_like(call: Call) -> Tensor:
    return call[0].to(call[1].dtype)


def _where(call: Call) -> Tensor:
    return torch.where(call[0], call[1], call[2])


def _is_infinite(call: Call) -> Tensor:
    x = call[0]
    up = (x == math.inf) & bool(call.integer("detect_positive", 1))
    down = (x == -math.inf) & bool(call.integer("detect_negative", 1))
    return up | down


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(_ONE, _one),
    **dict.fromkeys(_TWO, _two),
    **dict.fromkeys(_MANY, _many),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Celu": _celu,
    "Clip": _clip,
    "Div": _div,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "IsInf": _is_infinite,
    "LeakyRelu": _leaky_relu,
    "Mod": _mod,
    "Pow": _pow,
    "Selu": _selu,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded_relu,
    "Where": _where,
}
