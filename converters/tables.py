"""Tables that replace a function at run time: 256 codes for a unary operator, 256 exponentials for softmax.

Everything is computed in float64 by the C library, once, when a model is compiled; a plan carries the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import ActivationQuantization

UnaryFunction = Callable[[float], float]

SOFTMAX_ONE = 1 << 30
SOFTMAX_MAX_ELEMENTS = 1 << 17
SOFTMAX_MIN_SCALE = 2.0**-17

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


def code_table(
    function: UnaryFunction,
    source: ActivationQuantization,
    target: ActivationQuantization,
    places: Iterable[int] = range(-128, 128),
) -> npt.NDArray[np.int8]:
    """Returns ``table[q + 128] = clamp(z_y + rne(f(s_x * (q - z_x)) / s_y), lo, hi)``; a NaN becomes ``lo``.

    Of some ``places`` q alone where these are given.

    >>> grid = ActivationQuantization(np.float32(0.5), 0)
    >>> code_table(abs, grid, grid)[[0, 127, 128, 129]]
    array([127,   1,   0,   1], dtype=int8)
    """
    scale_x, scale_y = float(source.scale), float(target.scale)
    codes = []
    for q in places:
        y = call_total(function, scale_x * (q - source.zero_point)) / scale_y
        if math.isnan(y):
            codes.append(target.lo)
            continue
        bounded = min(max(y, target.lo - target.zero_point), target.hi - target.zero_point)
        codes.append(target.zero_point + round(bounded))
    return np.array(codes, np.int8)


def softmax_table(scale: np.float32) -> npt.NDArray[np.uint32]:
    """Returns ``table[d] = rne(2^30 * exp(-scale * d))`` for d in [0, 255]; see docs/arithmetic.md.

    >>> int(softmax_table(np.float32(1.0))[0]) == SOFTMAX_ONE
    True
    """
    step = float(scale)
    return np.array([round(SOFTMAX_ONE * math.exp(-step * d)) for d in range(256)], np.uint32)


def softmax_ratio(scale: np.float32) -> int:
    """Returns ``rne(65536 / s_y)``, the codes that 1.0 is worth, in 16.16 fixed point."""
    return round(65536.0 / float(scale))


def call_total(function: Callable[..., float], *operands: float) -> float:
    """Evaluates ``function`` the way IEEE does where Python raises."""
    try:
        return function(*operands)
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _log(x: float) -> float:
    return -math.inf if x == 0 else math.log(x)


def _reciprocal(x: float) -> float:
    return math.inf if x == 0 else 1.0 / x


def _clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def _gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _elu(x: float, alpha: float, gamma: float = 1.0) -> float:
    return gamma * (x if x > 0 else alpha * math.expm1(x))


_PLAIN: dict[str, UnaryFunction] = {
    "Abs": abs,
    "Atan": math.atan,
    "Ceil": lambda x: float(math.ceil(x)),
    "Cos": math.cos,
    "Erf": math.erf,
    "Exp": math.exp,
    "Floor": lambda x: float(math.floor(x)),
    "HardSwish": lambda x: x * _clip(x / 6.0 + 0.5, 0.0, 1.0),
    "Log": _log,
    "Mish": lambda x: x * math.tanh(_softplus(x)),
    "Neg": lambda x: -x,
    "Reciprocal": _reciprocal,
    "Relu": lambda x: max(x, 0.0),
    "Round": lambda x: float(round(x)),
    "Sigmoid": _sigmoid,
    "Sign": lambda x: math.copysign(1.0, x) if x else 0.0,
    "Sin": math.sin,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1.0 + abs(x)),
    "Sqrt": math.sqrt,
    "Tanh": math.tanh,
}

_WITH_ATTRIBUTES: dict[str, Callable[[Mapping[str, float]], UnaryFunction]] = {
    "Celu": lambda a: (
        lambda x: (
            max(x, 0.0)
            + min(0.0, a.get("alpha", 1.0) * math.expm1(min(x, 0.0) / a.get("alpha", 1.0)))
        )
    ),
    "Elu": lambda a: lambda x: _elu(x, a.get("alpha", 1.0)),
    "HardSigmoid": lambda a: (
        lambda x: _clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0.0, 1.0)
    ),
    "LeakyRelu": lambda a: lambda x: x if x >= 0 else a.get("alpha", 0.01) * x,
    "Selu": lambda a: lambda x: _elu(x, a.get("alpha", _SELU_ALPHA), a.get("gamma", _SELU_GAMMA)),
    "Swish": lambda a: lambda x: x * _sigmoid(a.get("alpha", 1.0) * x),
    "ThresholdedRelu": lambda a: lambda x: x if x > a.get("alpha", 1.0) else 0.0,
}

UNARY_OPERATORS = frozenset({*_PLAIN, *_WITH_ATTRIBUTES, "Clip", "Gelu"})


def unary_function(op_type: str, attributes: Mapping[str, float]) -> UnaryFunction:
    """Returns the function of an ONNX operator in ``UNARY_OPERATORS``.

    Args:
        op_type: The operator.
        attributes: Its numeric attributes. For Clip ``min`` and ``max``, wherever the model keeps them; for Gelu
            ``tanh`` is 1 for the approximate form.
    """
    if op_type == "Clip":
        low, high = attributes.get("min", -math.inf), attributes.get("max", math.inf)
        return lambda x: _clip(x, low, high)
    if op_type == "Gelu":
        return _gelu_tanh if attributes.get("tanh") else _gelu
    if op_type in _WITH_ATTRIBUTES:
        return _WITH_ATTRIBUTES[op_type](attributes)
    return _PLAIN[op_type]


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 else math.copysign(math.inf, a)
    return a / b


# By operator, of two numbers.
BINARY_FUNCTIONS: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divide,
    "Pow": math.pow,
    "Max": max,
    "Min": min,
    "PRelu": lambda a, b: a if a >= 0 else a * b,
}
