"""Lowers activations that stay float32 and have no function of their own, as steps of simpler ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import FloatFunction, FloatOperator
from edgekit.converters.lower.float_steps import FloatSteps
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.plain_program import (
    Cast,
    Compare,
    Comparison,
    IntegerBinary,
    IntegerOperator,
    Where,
)
from edgekit.converters.program import DType, Tensor

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


def lower_activation(lowering: Lowering, node: ir.Node) -> None:
    """Any operator of ``ACTIVATIONS``."""
    x = lowering.codes(node, 0)
    steps = FloatSteps(lowering, node)
    steps.finish(_RULES[node.op_type](_Activation(lowering, node, steps, x)), x.shape)


class _Activation:
    """One node: its input, its attributes, and the parts that several activations have in common."""

    def __init__(self, lowering: Lowering, node: ir.Node, steps: FloatSteps, x: Tensor) -> None:
        self.lowering = lowering
        self.node = node
        self.steps = steps
        self.x = x

    def number(self, name: str, default: float) -> float:
        """Returns an attribute."""
        return self.node.attributes[name].as_float() if name in self.node.attributes else default

    def single(self, value: float, part: str) -> Tensor:
        """Returns a single number."""
        return self.steps.constant(np.float32(value), part)

    def positive(self) -> Tensor:
        """Returns ``max(0, x)``; a NaN stays."""
        return self.steps.unary(FloatFunction.CLIP, self.x, "positive", 0.0, np.inf)

    def negative(self) -> Tensor:
        """Returns ``min(0, x)``; a NaN stays."""
        return self.steps.unary(FloatFunction.CLIP, self.x, "negative", -np.inf, 0.0)

    def exponential(self, alpha: float, inner: float) -> Tensor:
        """Returns ``max(0, x) + alpha * (exp(min(0, x) / inner) - 1)``."""
        steps, negative = self.steps, self.negative()
        if inner != 1:
            negative = steps.binary(
                FloatOperator.DIV, negative, self.single(inner, "inner"), "divided"
            )
        grown = steps.unary(FloatFunction.EXP, negative, "exp")
        less = steps.binary(FloatOperator.SUB, grown, self.single(1, "one"), "less")
        scaled = steps.binary(FloatOperator.MUL, less, self.single(alpha, "alpha"), "scaled")
        return steps.binary(FloatOperator.ADD, self.positive(), scaled, "joined")

    def softplus(self) -> Tensor:
        """Returns ``max(0, x) + log(1 + exp(-|x|))``."""
        steps = self.steps
        size = steps.unary(FloatFunction.ABS, self.x, "size")
        small = steps.unary(
            FloatFunction.EXP, steps.unary(FloatFunction.NEGATE, size, "down"), "exp"
        )
        more = steps.binary(FloatOperator.ADD, small, self.single(1, "one"), "more")
        log = steps.unary(FloatFunction.LOG, more, "log")
        return steps.binary(FloatOperator.ADD, self.positive(), log, "softplus")

    def compare(self, comparison: Comparison, a: Tensor, b: Tensor, part: str) -> Tensor:
        """Returns ``a op b`` as bool."""
        y = self.lowering.new_tensor(
            Tensor(
                self.steps.label(part), self.x.shape, DType.BOOL, channels_last=self.x.channels_last
            )
        )
        self.lowering.emit(
            Compare(
                name=self.steps.name(part),
                comparison=comparison,
                a=a.name,
                b=b.name,
                output=y.name,
            )
        )
        return y

    def cast(self, x: Tensor, part: str) -> Tensor:
        """Returns bools as 0 and 1."""
        y = self.steps.tensor(part, x.shape, channels_last=x.channels_last)
        self.lowering.emit(Cast(name=self.steps.name(part), input=x.name, output=y.name))
        return y


def _prelu(a: _Activation) -> Tensor:
    """``max(0, x) + slope * min(0, x)``."""
    slope = a.lowering.codes(a.node, 1)
    negative = a.negative()
    if slope.size != 1 and negative.channels_last:
        slope = a.lowering.as_image(slope)
    try:
        fits = np.broadcast_shapes(slope.shape, negative.shape) == negative.shape
    except ValueError:
        fits = False
    if not fits:
        refuse(
            a.node, f"its slope {list(slope.source_shape)} does not fit {list(a.x.source_shape)}"
        )
    scaled = a.steps.binary(FloatOperator.MUL, negative, slope, "scaled")
    return a.steps.binary(FloatOperator.ADD, a.positive(), scaled, "joined")


def _celu(a: _Activation) -> Tensor:
    alpha = a.number("alpha", 1.0)
    return a.exponential(alpha, alpha)


def _selu(a: _Activation) -> Tensor:
    joined = a.exponential(a.number("alpha", _SELU_ALPHA), 1.0)
    gamma = a.single(a.number("gamma", _SELU_GAMMA), "gamma")
    return a.steps.binary(FloatOperator.MUL, joined, gamma, "grown")


def _softsign(a: _Activation) -> Tensor:
    size = a.steps.unary(FloatFunction.ABS, a.x, "size")
    more = a.steps.binary(FloatOperator.ADD, size, a.single(1, "one"), "more")
    return a.steps.binary(FloatOperator.DIV, a.x, more, "softsign")


def _mish(a: _Activation) -> Tensor:
    bent = a.steps.unary(FloatFunction.TANH, a.softplus(), "bent")
    return a.steps.binary(FloatOperator.MUL, a.x, bent, "mish")


def _thresholded(a: _Activation) -> Tensor:
    above = a.compare(Comparison.LESS, a.single(a.number("alpha", 1.0), "threshold"), a.x, "above")
    y = a.steps.tensor("kept", a.x.shape, channels_last=a.x.channels_last)
    zero = a.single(0, "zero")
    a.lowering.emit(
        Where(
            name=a.steps.name("kept"),
            condition=above.name,
            a=a.x.name,
            b=zero.name,
            output=y.name,
        )
    )
    return y


def _sign(a: _Activation) -> Tensor:
    zero = a.single(0, "zero")
    above = a.cast(a.compare(Comparison.LESS, zero, a.x, "above"), "plus")
    below = a.cast(a.compare(Comparison.LESS, a.x, zero, "below"), "minus")
    return a.steps.binary(FloatOperator.SUB, above, below, "sign")


def _is_nan(a: _Activation) -> Tensor:
    same = a.compare(Comparison.EQUAL, a.x, a.x, "same")
    true = a.lowering.add_constant(a.node, a.steps.label("true"), np.array(True))
    y = a.lowering.new_tensor(
        Tensor(a.steps.label("nan"), a.x.shape, DType.BOOL, channels_last=a.x.channels_last)
    )
    a.lowering.emit(
        IntegerBinary(
            name=a.steps.name("nan"),
            operator=IntegerOperator.XOR,
            a=same.name,
            b=true.name,
            output=y.name,
        )
    )
    return y


def _is_inf(a: _Activation) -> Tensor:
    sides = [
        a.node.attributes[name].as_int() if name in a.node.attributes else 1
        for name in ("detect_negative", "detect_positive")
    ]
    if sides == [0, 0]:
        refuse(a.node, "it looks for neither infinity")
    x = a.x if sides != [1, 1] else a.steps.unary(FloatFunction.ABS, a.x, "size")
    infinity = a.single(-np.inf if sides == [1, 0] else np.inf, "infinity")
    return a.compare(Comparison.EQUAL, x, infinity, "infinite")


_RULES: dict[str, Callable[[_Activation], Tensor]] = {
    "Celu": _celu,
    "Elu": lambda a: a.exponential(a.number("alpha", 1.0), 1.0),
    "IsInf": _is_inf,
    "IsNaN": _is_nan,
    "Mish": _mish,
    "PRelu": _prelu,
    "Selu": _selu,
    "Sign": _sign,
    "Softplus": lambda a: a.softplus(),
    "Softsign": _softsign,
    "ThresholdedRelu": _thresholded,
}
ACTIVATIONS = frozenset(_RULES)
