"""Writes functions of one tensor. The program has tables of 256 codes; TFLite has no operator that takes one.

Which function a table is, is read from the table itself, however the model spelt it. In order of preference:

* a multiple of the input, clamped or not: the product with a constant, exact;
* a function for which TFLite's kernels make the same table when a file is opened: that operator, exact;
* a leaky rectifier in float32 between DEQUANTIZE and QUANTIZE, exact where float32 rounds each code alike; else
  LEAKY_RELU, which XNNPACK computes with a slope of 8 fractional bits and is at most a code away;
* hard-swish, absolute value or a straight line: in float32 between DEQUANTIZE and QUANTIZE, rounded once;
* anything else: CAST, ADD and GATHER from the table, exact and slow (about 9 ns an element). With codes of 16 bits it
  is not written at all: `leave_tables_float` lets the nodes compute it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import MAX_CODE, MIN_CODE, DType, Int8Array, Lookup, Tensor
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.tables import call_total, code_table, unary_function
from edgekit.converters.tflite.codes import UNITS
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

_CODES = np.arange(MIN_CODE, MAX_CODE + 1)
_Options = Callable[[], Any]

# ONNX operator and attributes of what TFLite's kernels tabulate themselves, and the operator and options there.
_TABULATED: tuple[tuple[str, dict[str, float], str, _Options], ...] = (
    ("Sigmoid", {}, "LOGISTIC", lambda: None),
    ("Tanh", {}, "TANH", lambda: None),
    ("Elu", {}, "ELU", lambda: None),
    ("Gelu", {}, "GELU", lambda: schema.GeluOptionsT(approximate=False)),
    ("Gelu", {"tanh": 1.0}, "GELU", lambda: schema.GeluOptionsT(approximate=True)),
    ("Exp", {}, "EXP", schema.ExpOptionsT),
    ("Log", {}, "LOG", lambda: None),
)
# The grids that TFLite's kernels insist on.
_FIXED_GRIDS = {"LOGISTIC": (np.float32(1 / 256), -128), "TANH": (np.float32(1 / 128), 0)}
_FLOAT: tuple[tuple[str, str, _Options], ...] = (
    ("HardSwish", "HARD_SWISH", schema.HardSwishOptionsT),
    ("Abs", "ABS", schema.AbsOptionsT),
)
# Slopes of leaky rectifiers have few digits.
_SLOPE_DIGITS = (1, 2, 3, 4)


def write_lookup(state: State, op: Lookup) -> None:
    """Writes a table as the operators that make the same codes."""
    x, y = state.tensor(op.input), state.tensor(op.output)
    factor = find_factor(op.table, x, y)
    if factor is not None:
        if state.stored.is_wide:
            _write_line(state, op, factor, 0.0)
        else:
            _write_multiple(state, op, factor)
        return
    wide = state.stored.is_wide
    for name, attributes, operator, options in _TABULATED:
        if _is_tabulated(op, x, y, name, attributes, operator, wide=wide):
            if wide and operator not in _FIXED_GRIDS:
                _write_real(state, op, operator, options)
            else:
                state.add(operator, [state.index(op.input)], state.index(op.output), options())
            return
    slope = find_slope(op.table, x, y)
    if slope is not None and not (wide and _leaves_range(x, y, "LeakyRelu", {"alpha": slope})):
        options = partial(schema.LeakyReluOptionsT, alpha=slope)
        if not wide and rounds_alike_in_float(op.table, x, y, slope):
            _write_real(state, op, "LEAKY_RELU", options)
        else:
            state.add("LEAKY_RELU", [state.index(op.input)], state.index(op.output), options())
        return
    for name, operator, options in _FLOAT:
        if _is_float(op, x, y, name, wide=wide):
            _write_real(state, op, operator, options)
            return
    line = find_line(op.table, x, y)
    if line is not None:
        _write_line(state, op, *line)
        return
    _write_gather(state, op)


def is_only_a_table(op: Lookup, x: Tensor, y: Tensor) -> bool:
    """Returns whether TFLite has nothing on codes of 16 bits that computes the function of ``op``."""
    slope = find_slope(op.table, x, y)
    return not (
        find_factor(op.table, x, y) is not None
        or any(
            _is_tabulated(op, x, y, name, attributes, operator, wide=True)
            for name, attributes, operator, _ in _TABULATED
        )
        or (slope is not None and not _leaves_range(x, y, "LeakyRelu", {"alpha": slope}))
        or any(_is_float(op, x, y, name, wide=True) for name, _, _ in _FLOAT)
        or find_line(op.table, x, y) is not None
    )


def _is_tabulated(
    op: Lookup,
    x: Tensor,
    y: Tensor,
    name: str,
    attributes: dict[str, float],
    operator: str,
    *,
    wide: bool,
) -> bool:
    fixed = _FIXED_GRIDS.get(operator)
    if fixed is not None and (y.scale, y.zero_point) != fixed:
        return False
    if not _is_function(op.table, x, y, name, attributes):
        return False
    return not wide or fixed is not None or not _leaves_range(x, y, name, attributes)


def _is_float(op: Lookup, x: Tensor, y: Tensor, name: str, *, wide: bool) -> bool:
    return _is_function(op.table, x, y, name, {}) and not (wide and _leaves_range(x, y, name, {}))


def _leaves_range(x: Tensor, y: Tensor, name: str, attributes: dict[str, float]) -> bool:
    """Returns whether int8 saturates, by more than a code, where the function goes on.

    Codes of 16 bits go on with it, and what the table may stand for, such as a bound, would be lost.
    """
    function = unary_function(name, attributes)
    real = (_CODES - x.zero_point) * float(x.scale)
    values = np.array([call_total(function, value) for value in real])
    codes = values / float(y.scale) + y.zero_point
    return bool((codes < MIN_CODE - 1).any() or (codes > MAX_CODE + 1).any())


def _is_function(
    table: Int8Array, x: Tensor, y: Tensor, name: str, attributes: dict[str, float]
) -> bool:
    function = unary_function(name, attributes)
    return np.array_equal(table, code_table(function, _grid(x), _grid(y)))


def _grid(tensor: Tensor) -> ActivationQuantization:
    return ActivationQuantization(np.float32(tensor.scale), tensor.zero_point)


def find_factor(table: Int8Array, x: Tensor, y: Tensor) -> float | None:
    """Returns f if the table is ``f * x``, clamped to its own ends, with one product rounded once; else None."""
    centred = (_CODES - x.zero_point).astype(np.float32)
    inside = (table > table.min()) & (table < table.max()) & (centred != 0)
    if not inside.any():
        return None
    slopes = (table[inside] - float(y.zero_point)) / centred[inside]
    estimate = float(np.median(slopes)) * float(y.scale) / float(x.scale)
    for factor in {1.0, *(round(estimate, digits) for digits in (1, 2, 3, 4, 5, 6))}:
        codes = _multiply(x, y, factor)
        if factor and np.array_equal(codes.clip(int(table.min()), int(table.max())), table):
            return factor
    return None


def find_slope(table: Int8Array, x: Tensor, y: Tensor) -> float | None:
    """Returns the slope of a leaky rectifier that has this table, or None."""
    centred = _CODES - x.zero_point
    below = (centred < 0) & (table > MIN_CODE) & (table < MAX_CODE)
    if not below.any():
        return None
    place = int(np.flatnonzero(below)[0])
    moved = (int(table[place]) - y.zero_point) * float(y.scale)
    estimate = moved / (float(centred[place]) * float(x.scale))
    for digits in _SLOPE_DIGITS:
        slope = round(estimate, digits)
        if slope >= 0 and _is_function(table, x, y, "LeakyRelu", {"alpha": slope}):
            return slope
    return None


def rounds_alike_in_float(table: Int8Array, x: Tensor, y: Tensor, slope: float) -> bool:
    """Returns whether a leaky rectifier of float32 between DEQUANTIZE and QUANTIZE has this table."""
    real = (_CODES - x.zero_point).astype(np.float32) * np.float32(x.scale)
    leaky = np.where(real < 0, real * np.float32(slope), real)
    codes = np.rint(leaky * (np.float32(1) / np.float32(y.scale))) + y.zero_point
    return np.array_equal(codes.clip(MIN_CODE, MAX_CODE), table)


def _multiply(x: Tensor, y: Tensor, factor: float) -> npt.NDArray[np.float32]:
    """Returns the codes of ``factor * x`` as a product with a constant rounds them, not yet clamped."""
    ratio = np.float32(np.float32(x.scale) * np.float32(abs(factor))) / np.float32(y.scale)
    centred = (_CODES - x.zero_point).astype(np.float32)
    codes: npt.NDArray[np.float32] = np.rint(np.copysign(centred, factor * centred) * ratio)
    return codes + np.float32(y.zero_point)


def find_line(table: Int8Array, x: Tensor, y: Tensor) -> tuple[float, float] | None:
    """Returns (a, b) if the table is ``a * x + b``, clamped to its own ends; else None."""
    inside = (table > table.min()) & (table < table.max())
    if np.count_nonzero(inside) < 2:
        return None
    real = (_CODES - x.zero_point) * float(x.scale)
    values = (table.astype(float) - y.zero_point) * float(y.scale)
    a, b = (float(number) for number in np.polyfit(real[inside], values[inside], 1))
    low, high = int(table.min()), int(table.max())
    for digits in (1, 2, 3, 4, 5, 6):
        line = (round(a, digits), round(b, digits))
        codes = np.rint((line[0] * real + line[1]) / float(y.scale)) + y.zero_point
        if np.array_equal(codes.clip(low, high), table):
            return line
    return None


def _write_multiple(state: State, op: Lookup, factor: float) -> None:
    low, high = int(op.table.min()), int(op.table.max())
    target, clamp = state.clamped(
        op.output,
        MIN_CODE if low == _reached(state, op, factor, MIN_CODE) else low,
        MAX_CODE if high == _reached(state, op, factor, MAX_CODE) else high,
    )
    operands = [state.index(op.input), state.factor(factor)]
    state.add("MUL", operands, target, schema.MulOptionsT())
    clamp()


def _write_real(state: State, op: Lookup, operator: str, options: _Options) -> None:
    """An operator of float32 between DEQUANTIZE and QUANTIZE."""
    real = _dequantize(state, op)
    made = _real(state, op, operator)
    state.add(operator, [real], made, options())
    _quantize(state, op, made)


def _reached(state: State, op: Lookup, factor: float, end: int) -> int:
    """Returns the smallest code that the unclamped product reaches for an ``end`` of MIN_CODE, else the largest."""
    x, y = state.tensor(op.input), state.tensor(op.output)
    ratio = factor * float(x.scale) / float(y.scale)
    codes = (np.rint((_CODES - x.zero_point) * ratio) + y.zero_point).clip(MIN_CODE, MAX_CODE)
    return int(codes.min() if end == MIN_CODE else codes.max())


def _write_line(state: State, op: Lookup, a: float, b: float) -> None:
    """MUL and ADD in float32, with the clamps that the line needs and that are not ends of the codes."""
    x, y = state.tensor(op.input), state.tensor(op.output)
    ends = [a * float(x.scale) * (code - x.zero_point) + b for code in (MIN_CODE, MAX_CODE)]
    low, high = (round(end / float(y.scale)) + y.zero_point for end in (min(ends), max(ends)))
    # An end of the codes may be a bound, but for grids that stand for all of [0, 1] or [-1, 1].
    has_bounds = state.stored.is_wide and (y.scale, y.zero_point) not in UNITS
    real = _dequantize(state, op)
    scaled, moved = _real(state, op, "scaled"), _real(state, op, "moved")
    state.add("MUL", [real, state.scalar(a)], scaled, schema.MulOptionsT())
    state.add("ADD", [scaled, state.scalar(b)], moved, schema.AddOptionsT())
    for operator, bound, end, passes in (
        ("MAXIMUM", int(op.table.min()), MIN_CODE, low < op.table.min()),
        ("MINIMUM", int(op.table.max()), MAX_CODE, high > op.table.max()),
    ):
        if passes and (bound != end or has_bounds):
            limit = state.scalar(float(y.scale) * (bound - y.zero_point))
            bounded = _real(state, op, operator)
            state.add(operator, [moved, limit], bounded, schema.MaximumMinimumOptionsT())
            moved = bounded
    _quantize(state, op, moved)


def _write_gather(state: State, op: Lookup) -> None:
    """``table[q + 128]``: the codes as int32, moved to begin at 0, pick from the table."""
    if state.stored.is_wide:
        refuse(op, "TFLite has no table of 16 bits for this function")
    shape, y = state.tensor(op.input).shape, state.tensor(op.output)
    wide = state.file.add_tensor(f"{op.name}:wide", shape, np.int32)
    places = state.file.add_tensor(f"{op.name}:places", shape, np.int32)
    table = state.codes(f"{op.name}:table", op.table.shape, y, op.table)
    options = schema.CastOptionsT(
        inDataType=schema.TensorType.INT8, outDataType=schema.TensorType.INT32
    )
    state.add("CAST", [state.index(op.input)], wide, options)
    state.add("ADD", [wide, state.integers([-MIN_CODE])], places, schema.AddOptionsT())
    state.add("GATHER", [table, places], state.index(op.output), schema.GatherOptionsT())


def _real(state: State, op: Lookup, part: str) -> int:
    tensor = Tensor(op.name, state.tensor(op.input).shape, DType.FLOAT32)
    return state.codes(f"{op.name}:{part.lower()}", tensor.shape, tensor)


def _dequantize(state: State, op: Lookup) -> int:
    real = _real(state, op, "real")
    state.add("DEQUANTIZE", [state.index(op.input)], real, schema.DequantizeOptionsT())
    return real


def _quantize(state: State, op: Lookup, source: int) -> None:
    state.add("QUANTIZE", [source], state.index(op.output), schema.QuantizeOptionsT())
