"""The judge: executes a lowered program in numpy, as docs/arithmetic.md says and as plainly as that allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgekit.converters.float_reference import FLOAT_RULES, quantize_rows
from edgekit.converters.part_reference import PART_RULES
from edgekit.converters.plain_reference import PLAIN_RULES
from edgekit.converters.program import (
    Binary,
    BinaryKind,
    Concat,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    DType,
    FullyConnected,
    FusedTable,
    GlobalMean,
    GroupFullyConnected,
    Int8Array,
    Lookup,
    MatMul,
    Op,
    Pad,
    Pool,
    PoolKind,
    Program,
    Quantize,
    Requantize,
    Reshape,
    Residual,
    Resize,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Window,
)
from edgekit.converters.tables import softmax_ratio
from edgekit.converters.wide_reference import WIDE_RULES

Array = npt.NDArray[Any]

_F32 = np.float32


def run_program(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Runs ``program`` and returns every tensor by name, in plan order; codes are int8.

    Args:
        program: The lowered network.
        inputs: Arrays by the model's input names, in the model's order; any number is taken for a float32.

    Raises:
        ValueError: An input is missing or has another shape than the program's.
    """
    tensors: dict[str, Array] = dict(program.constants)
    for name in program.inputs:
        if name not in inputs:
            raise ValueError(f"input {name!r} is missing")
        array = np.asarray(inputs[name], program.tensors[name].dtype.numpy)
        if array.shape != program.tensors[name].shape:
            raise ValueError(
                f"input {name!r} has shape {array.shape}, not {program.tensors[name].shape}"
            )
        tensors[name] = array
    for op in program.ops:
        tensors[op.output] = run_op(program, op, tensors)
    return tensors


def run_op(program: Program, op: Op, tensors: Mapping[str, Array]) -> Array:
    """Runs one operator on the arrays of ``tensors`` and returns its output."""
    rule = cast(
        "Callable[[Program, Op, Mapping[str, Array]], Array]",
        _RULES.get(type(op))
        or FLOAT_RULES.get(type(op))
        or WIDE_RULES.get(type(op))
        or PART_RULES.get(type(op))
        or PLAIN_RULES[type(op)],
    )
    y = rule(program, op, tensors)
    expected = program.tensors[op.output]
    if y.shape != expected.shape:
        raise ValueError(f"{op.name!r} made {y.shape}, not {expected.shape}")
    return y.astype(expected.dtype.numpy, copy=False)


def requantize(
    accumulator: Array, multiplier: Array | np.float32, zero_point: int, lo: int, hi: int
) -> Int8Array:
    """Returns ``clamp(zero_point + rne(float32(accumulator) * multiplier), lo, hi)``."""
    return _to_codes(accumulator.astype(_F32) * multiplier, zero_point, lo, hi)


def add_codes(
    a: Array,
    b: Array,
    x: Tensor | Residual,
    z: Tensor,
    y: Tensor | FusedTable,
    lo: int,
    hi: int,
    sign: int = 1,
) -> Int8Array:
    """Returns the sum of two arrays of codes on their grids ``x`` and ``z``, or with ``sign`` -1 the difference."""
    left = _centred(a, x.zero_point).astype(_F32) * (_F32(x.scale) / _F32(y.scale))
    right = _centred(b, z.zero_point).astype(_F32) * (_F32(z.scale) / _F32(y.scale))
    return _to_codes(left + right if sign > 0 else left - right, y.zero_point, lo, hi)


def _to_codes(value: Array, zero_point: int, lo: int, hi: int) -> Int8Array:
    """Returns ``clamp(zero_point + rne(value), lo, hi)``; a NaN becomes ``lo``."""
    bounded = np.where(
        np.isnan(value), lo - zero_point, np.clip(value, lo - zero_point, hi - zero_point)
    )
    return (np.rint(bounded).astype(np.int32) + zero_point).astype(np.int8)


def _centred(codes: Array, zero_point: int) -> npt.NDArray[np.int32]:
    return codes.astype(np.int32) - np.int32(zero_point)


def _windows(x: Array, window: Window, fill: int) -> Array:
    """Returns every window of ``x`` ``[N, H, W, C]`` as ``[N, rows, columns, kernel_h, kernel_w, C]``."""
    rows, columns = window.output_size(x.shape[1], x.shape[2])
    padded = np.pad(
        x,
        (
            (0, 0),
            (window.pad_top, window.pad_bottom),
            (window.pad_left, window.pad_right),
            (0, 0),
        ),
        constant_values=fill,
    )
    row = (
        np.arange(rows)[:, None] * window.stride_h + np.arange(window.kernel_h) * window.dilation_h
    )
    column = (
        np.arange(columns)[:, None] * window.stride_w
        + np.arange(window.kernel_w) * window.dilation_w
    )
    return padded[:, row[:, None, :, None], column[None, :, None, :], :]


def _matmul(a: Array, b: Array) -> npt.NDArray[np.int64]:
    """Multiplies integer matrices through float64, which is exact while every sum stays below 2^53."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _finish(
    program: Program,
    op: Conv | ConvTranspose | DepthwiseConv,
    accumulator: Array,
    tensors: Mapping[str, Array],
) -> Array:
    """Requantizes a convolution's sums, adds its residual and applies its table."""
    if program.tensors[op.output].dtype is DType.FLOAT32:
        real = (accumulator + op.bias.astype(np.int64)).astype(_F32) * op.multiplier
        residual = None if isinstance(op, ConvTranspose) else op.residual
        return real if residual is None else tensors[residual.tensor] + real
    y = program.tensors[op.output] if op.table is None else op.table
    accumulator = accumulator + op.bias.astype(np.int64)
    if isinstance(op, ConvTranspose) or op.residual is None:
        codes = requantize(accumulator, op.multiplier, y.zero_point, op.lo, op.hi)
        return _apply_table(op.table, codes)
    own = op.residual
    codes = requantize(accumulator, op.multiplier, own.zero_point, own.lo, own.hi)
    other = program.tensors[own.tensor]
    codes = add_codes(codes, tensors[own.tensor], own, other, y, op.lo, op.hi)
    return _apply_table(op.table, codes)


def _apply_table(table: FusedTable | None, codes: Int8Array) -> Int8Array:
    return codes if table is None else table.codes[codes.astype(np.int32) + 128]


def _conv(program: Program, op: Conv, tensors: Mapping[str, Array]) -> Array:
    x = _centred(tensors[op.input], program.tensors[op.input].zero_point)
    patches = _windows(x, op.window, 0)
    count, depth = len(op.weights) // op.groups, op.weights.shape[-1]
    sums = []
    for group in range(op.groups):
        part = patches[..., group * depth : (group + 1) * depth]
        kernels = op.weights[group * count : (group + 1) * count].reshape(count, -1)
        sums.append(_matmul(part.reshape(*part.shape[:3], -1), kernels.T))
    return _finish(program, op, np.concatenate(sums, axis=-1), tensors)


def _depthwise(program: Program, op: DepthwiseConv, tensors: Mapping[str, Array]) -> Array:
    x = _centred(tensors[op.input], program.tensors[op.input].zero_point)
    patches = _windows(x, op.window, 0)
    accumulator = np.zeros((*patches.shape[:3], patches.shape[-1]), np.int64)
    for i in range(op.window.kernel_h):
        for j in range(op.window.kernel_w):
            accumulator += patches[:, :, :, i, j, :] * op.weights[:, i, j].astype(np.int64)
    return _finish(program, op, accumulator, tensors)


def _fully_connected(program: Program, op: FullyConnected, tensors: Mapping[str, Array]) -> Array:
    x = _centred(tensors[op.input], program.tensors[op.input].zero_point)
    accumulator = _matmul(x, op.weights.T) + op.bias
    if program.tensors[op.output].dtype is DType.FLOAT32:
        return np.asarray(accumulator.astype(_F32) * op.multiplier)
    y = program.tensors[op.output] if op.table is None else op.table
    codes = requantize(accumulator, op.multiplier, y.zero_point, op.lo, op.hi)
    return _apply_table(op.table, codes)


def _group_fully_connected(
    program: Program, op: GroupFullyConnected, tensors: Mapping[str, Array]
) -> Array:
    x = program.tensors[op.input]
    codes: Array
    scale: Array | None = None
    if x.dtype is DType.CODE:
        codes = _centred(tensors[op.input], x.zero_point)
    else:
        codes, scale = quantize_rows(tensors[op.input])
    value = np.zeros(0, _F32)
    for g, multiplier in enumerate(op.multiplier):
        part = slice(g * op.group, (g + 1) * op.group)
        sums = _matmul(codes[..., part], op.weights[:, part].T).astype(_F32)
        value = sums * multiplier if g == 0 else value + sums * multiplier
    if scale is not None:
        with np.errstate(all="ignore"):
            return np.asarray(value * scale + op.bias, _F32)
    y = program.tensors[op.output] if op.table is None else op.table
    return _apply_table(op.table, _to_codes(value + op.bias, y.zero_point, op.lo, op.hi))


def _product(program: Program, op: MatMul, tensors: Mapping[str, Array]) -> Int8Array:
    a, b = (program.tensors[name] for name in (op.a, op.b))
    y = program.tensors[op.output] if op.table is None else op.table
    second = _centred(tensors[op.b], b.zero_point)
    if op.transposed:
        second = second.swapaxes(-1, -2)
    sums = _matmul(_centred(tensors[op.a], a.zero_point), second)
    multiplier = _F32(a.scale) * _F32(b.scale) / _F32(y.scale)
    return _apply_table(op.table, requantize(sums, multiplier, y.zero_point, op.lo, op.hi))


def _conv_transpose(program: Program, op: ConvTranspose, tensors: Mapping[str, Array]) -> Int8Array:
    x = _centred(tensors[op.input], program.tensors[op.input].zero_point)
    batch, height, width, _ = x.shape
    window = op.window
    # All that any window covers, before the pads are cut off and outputs that none covers are added.
    rows = (height - 1) * window.stride_h + (window.kernel_h - 1) * window.dilation_h + 1
    columns = (width - 1) * window.stride_w + (window.kernel_w - 1) * window.dilation_w + 1
    _, out_h, out_w, count = program.tensors[op.output].shape
    whole = np.zeros(
        (
            batch,
            max(rows, out_h + window.pad_top),
            max(columns, out_w + window.pad_left),
            count,
        ),
        np.int64,
    )
    for r in range(window.kernel_h):
        for s in range(window.kernel_w):
            top, left = r * window.dilation_h, s * window.dilation_w
            bottom, right = top + height * window.stride_h, left + width * window.stride_w
            part = _matmul(x, op.weights[:, r, s].T)
            whole[:, top : bottom : window.stride_h, left : right : window.stride_w] += part
    cut = whole[:, window.pad_top :, window.pad_left :][:, :out_h, :out_w]
    return _finish(program, op, cut, tensors)


def _binary(program: Program, op: Binary, tensors: Mapping[str, Array]) -> Int8Array:
    a, b = (program.tensors[name] for name in (op.a, op.b))
    y = program.tensors[op.output] if op.table is None else op.table
    codes_a, codes_b = tensors[op.a], tensors[op.b]
    if len(a.shape) == len(b.shape) == 4 and a.shape[1:3] != b.shape[1:3] != (1, 1):
        for axis in (1, 2):
            codes_b = np.repeat(codes_b, max(a.shape[axis] // b.shape[axis], 1), axis)
    if op.binary is BinaryKind.MUL:
        product = _centred(codes_a, a.zero_point) * _centred(codes_b, b.zero_point)
        multiplier = _F32(a.scale) * _F32(b.scale) / _F32(y.scale)
        codes = requantize(product, multiplier, y.zero_point, op.lo, op.hi)
    elif op.binary in (BinaryKind.MAX, BinaryKind.MIN):
        left = _centred(codes_a, a.zero_point).astype(_F32) * (_F32(a.scale) / _F32(y.scale))
        right = _centred(codes_b, b.zero_point).astype(_F32) * (_F32(b.scale) / _F32(y.scale))
        choose = np.maximum if op.binary is BinaryKind.MAX else np.minimum
        codes = _to_codes(choose(left, right), y.zero_point, op.lo, op.hi)
    else:
        sign = 1 if op.binary is BinaryKind.ADD else -1
        codes = add_codes(codes_a, codes_b, a, b, y, op.lo, op.hi, sign)
    return _apply_table(op.table, codes)


def _pool(program: Program, op: Pool, tensors: Mapping[str, Array]) -> Int8Array:
    x, y = program.tensors[op.input], program.tensors[op.output]
    if op.pool is PoolKind.MAX:
        largest: Int8Array = _windows(tensors[op.input], op.window, -128).max(axis=(3, 4))
        return largest.clip(op.lo, op.hi)
    centred = _centred(tensors[op.input], x.zero_point)
    total = _windows(centred, op.window, 0).sum(axis=(3, 4), dtype=np.int64)
    inside = np.ones((1, *x.shape[1:3], 1), np.int64)
    count = _windows(inside, op.window, int(op.count_include_pad)).sum(axis=(3, 4))
    multiplier = _F32(x.scale) / (_F32(y.scale) * count.astype(_F32))
    return requantize(total, multiplier, y.zero_point, op.lo, op.hi)


def _global_mean(program: Program, op: GlobalMean, tensors: Mapping[str, Array]) -> Int8Array:
    x, y = program.tensors[op.input], program.tensors[op.output]
    total = _centred(tensors[op.input], x.zero_point).sum(
        axis=(1, 2), keepdims=True, dtype=np.int64
    )
    count = _F32(x.shape[1] * x.shape[2])
    multiplier = _F32(x.scale) / (_F32(y.scale) * count)
    return requantize(total, multiplier, y.zero_point, op.lo, op.hi)


def _lookup(program: Program, op: Lookup, tensors: Mapping[str, Array]) -> Int8Array:
    return op.table[tensors[op.input].astype(np.int32) + 128]


def _softmax(program: Program, op: Softmax, tensors: Mapping[str, Array]) -> Int8Array:
    y = program.tensors[op.output]
    codes = tensors[op.input].astype(np.int32)
    e = op.table.astype(np.uint64)[codes.max(axis=-1, keepdims=True) - codes]
    divisor = e.sum(axis=-1, keepdims=True, dtype=np.uint64) << np.uint64(16)
    quotient, rest = np.divmod(e * np.uint64(softmax_ratio(y.scale)), divisor)
    tie = (rest == divisor - rest) & (quotient & np.uint64(1) == 1)
    quotient += ((rest > divisor - rest) | tie).astype(np.uint64)
    rounded: npt.NDArray[np.int64] = y.zero_point + quotient.astype(np.int64)
    return rounded.clip(-128, 127).astype(np.int8)


def _quantize(program: Program, op: Quantize, tensors: Mapping[str, Array]) -> Int8Array:
    y = program.tensors[op.output]
    x = tensors[op.input]
    with np.errstate(over="ignore"):
        codes = _to_codes(x / _F32(y.scale), y.zero_point, -128, 127)
    if y.channels_last and not program.tensors[op.input].channels_last:
        codes = codes.transpose(0, 2, 3, 1)
    return codes


def _dequantize(program: Program, op: Dequantize, tensors: Mapping[str, Array]) -> Array:
    x = program.tensors[op.input]
    real = _centred(tensors[op.input], x.zero_point).astype(_F32) * _F32(x.scale)
    if x.channels_last and not program.tensors[op.output].channels_last:
        real = real.transpose(0, 3, 1, 2)
    return real


def _rescale(codes: Array, x: Tensor, y: Tensor, lo: int, hi: int) -> Int8Array:
    ratio = _F32(x.scale) / _F32(y.scale)
    return requantize(_centred(codes, x.zero_point), ratio, y.zero_point, lo, hi)


def _requantize(program: Program, op: Requantize, tensors: Mapping[str, Array]) -> Int8Array:
    x, y = program.tensors[op.input], program.tensors[op.output]
    return _rescale(tensors[op.input], x, y, op.lo, op.hi)


def _concat(program: Program, op: Concat, tensors: Mapping[str, Array]) -> Array:
    y = program.tensors[op.output]
    parts = [tensors[name] for name in op.parts]
    if y.dtype is DType.CODE:
        parts = [_rescale(tensors[name], program.tensors[name], y, -128, 127) for name in op.parts]
    for axis in range(op.axis):
        parts = [np.repeat(part, y.shape[axis] // part.shape[axis], axis) for part in parts]
    return np.concatenate(parts, axis=op.axis)


def _reshape(program: Program, op: Reshape, tensors: Mapping[str, Array]) -> Array:
    return tensors[op.input].reshape(program.tensors[op.output].shape)


def _transpose(program: Program, op: Transpose, tensors: Mapping[str, Array]) -> Array:
    return tensors[op.input].transpose(op.permutation)


def _pad(program: Program, op: Pad, tensors: Mapping[str, Array]) -> Array:
    codes = program.tensors[op.output].dtype is DType.CODE
    return np.pad(tensors[op.input], op.pads, constant_values=op.value if codes else op.real)


def _slice(program: Program, op: Slice, tensors: Mapping[str, Array]) -> Array:
    shape = program.tensors[op.output].shape
    places = [
        begin + step * np.arange(size)
        for begin, step, size in zip(op.begin, op.step, shape, strict=True)
    ]
    return tensors[op.input][np.ix_(*places)]


def _resize(program: Program, op: Resize, tensors: Mapping[str, Array]) -> Array:
    x, y = program.tensors[op.input], program.tensors[op.output]
    rows, columns = np.array(op.rows), np.array(op.columns)
    codes = tensors[op.input]
    if op.row_weights is None or op.column_weights is None:
        return codes[:, rows][:, :, columns]
    centred = codes.astype(np.int64) - x.zero_point
    right = np.array(op.column_weights)[:, None]
    beside = np.minimum(columns + 1, x.shape[2] - 1)
    wide = (2048 - right) * centred[:, :, columns] + right * centred[:, :, beside]
    bottom = np.array(op.row_weights)[:, None, None]
    below = np.minimum(rows + 1, x.shape[1] - 1)
    total = (2048 - bottom) * wide[:, rows] + bottom * wide[:, below]
    multiplier = _F32(x.scale) / _F32(y.scale) / _F32(1 << 22)
    return requantize(total, multiplier, y.zero_point, op.lo, op.hi)


_RULES: dict[type[Op], Callable[..., Array]] = {
    Binary: _binary,
    Concat: _concat,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Dequantize: _dequantize,
    DepthwiseConv: _depthwise,
    FullyConnected: _fully_connected,
    GlobalMean: _global_mean,
    GroupFullyConnected: _group_fully_connected,
    Lookup: _lookup,
    MatMul: _product,
    Pad: _pad,
    Pool: _pool,
    Quantize: _quantize,
    Requantize: _requantize,
    Reshape: _reshape,
    Resize: _resize,
    Slice: _slice,
    Softmax: _softmax,
    Transpose: _transpose,
}
