"""The judge of operators on plain numbers: numpy, by the rules of docs/arithmetic.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

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
from edgekit.converters.program import Op, Program

Array = npt.NDArray[Any]


def _expand(program: Program, op: Expand, tensors: Mapping[str, Array]) -> Array:
    return np.broadcast_to(tensors[op.input], program.tensors[op.output].shape)


def _gather(program: Program, op: Gather, tensors: Mapping[str, Array]) -> Array:
    x, indices = tensors[op.input], tensors[op.indices].astype(np.int64)
    size = x.shape[op.axis]
    from_front = np.where(indices < 0, indices + size, indices)
    return np.take(x, from_front.clip(0, size - 1), axis=op.axis)


def _cast(program: Program, op: Cast, tensors: Mapping[str, Array]) -> Array:
    x, to = tensors[op.input], program.tensors[op.output].dtype.numpy
    if x.dtype.kind != "f" or to.kind not in "iu":
        return x.astype(to)
    limits = np.iinfo(to)
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = (whole >= limits.min) & (whole < float(limits.max) + 1)
    ends = np.where(whole > 0, limits.max, limits.min).astype(to)
    return np.where(inside, np.where(inside, whole, 0).astype(to), ends)


def _compare(program: Program, op: Compare, tensors: Mapping[str, Array]) -> Array:
    a, b = _pair(program, op, tensors)
    match op.comparison:
        case Comparison.EQUAL:
            return np.asarray(a == b)
        case Comparison.LESS:
            return np.asarray(a < b)
        case Comparison.LESS_OR_EQUAL:
            return np.asarray(a <= b)


def _where(program: Program, op: Where, tensors: Mapping[str, Array]) -> Array:
    condition, a, b = (_fit(program, op, tensors[name]) for name in op.inputs)
    return np.where(condition, a, b)


def _integer_binary(program: Program, op: IntegerBinary, tensors: Mapping[str, Array]) -> Array:
    a, b = _pair(program, op, tensors)
    divisor = np.where(b == 0, 1, b).astype(b.dtype)
    rules: dict[IntegerOperator, Callable[[], Array]] = {
        IntegerOperator.ADD: lambda: a + b,
        IntegerOperator.SUB: lambda: a - b,
        IntegerOperator.MUL: lambda: a * b,
        IntegerOperator.DIV: lambda: np.where(b == 0, 0, _quotient(a, divisor)),
        IntegerOperator.MOD: lambda: np.where(b == 0, 0, np.mod(a, divisor)),
        IntegerOperator.MAX: lambda: np.maximum(a, b),
        IntegerOperator.MIN: lambda: np.minimum(a, b),
        IntegerOperator.AND: lambda: a & b,
        IntegerOperator.OR: lambda: a | b,
        IntegerOperator.XOR: lambda: a ^ b,
    }
    with np.errstate(over="ignore"):
        return rules[op.operator]().astype(a.dtype)


def _quotient(a: Array, b: Array) -> Array:
    """Returns ``a / b`` cut off towards 0, wrapping around for the smallest number over -1."""
    quotient = a // b
    return np.asarray(quotient + ((quotient < 0) & (quotient * b != a)), a.dtype)


def _arg_extreme(program: Program, op: ArgExtreme, tensors: Mapping[str, Array]) -> Array:
    x = np.moveaxis(tensors[op.input], op.axis, 0)
    best = np.zeros(x.shape[1:], np.int64)
    holder = x[0]
    for place in range(1, len(x)):
        challenger = x[place]
        wins = challenger > holder if op.extreme is Extreme.MAX else challenger < holder
        if op.last:
            wins |= challenger == holder
        best, holder = np.where(wins, place, best), np.where(wins, challenger, holder)
    return best.reshape(program.tensors[op.output].shape)


def _pair(
    program: Program, op: Compare | IntegerBinary, tensors: Mapping[str, Array]
) -> tuple[Array, Array]:
    return _fit(program, op, tensors[op.a]), _fit(program, op, tensors[op.b])


def _fit(program: Program, op: Op, array: Array) -> Array:
    """Returns an operand of the output's shape, a single element repeated."""
    shape = program.tensors[op.output].shape
    return array if array.size != 1 else np.broadcast_to(array.reshape(()), shape)


PLAIN_RULES: dict[type[Op], Callable[..., Array]] = {
    ArgExtreme: _arg_extreme,
    Cast: _cast,
    Compare: _compare,
    Expand: _expand,
    Gather: _gather,
    IntegerBinary: _integer_binary,
    Where: _where,
}
