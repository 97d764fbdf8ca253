"""The judge of float32 operators: numpy, in the order of operations that docs/arithmetic.md gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.float_program import (
    DynamicFullyConnected,
    FloatBinary,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFullyConnected,
    FloatFunction,
    FloatLayer,
    FloatLayerNorm,
    FloatMatMul,
    FloatOperator,
    FloatPool,
    FloatReduce,
    FloatReduction,
    FloatResize,
    FloatSoftmax,
    FloatUnary,
)
from edgekit.converters.program import Int8Array, Op, PoolKind, Program, Window

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]

_F32 = np.float32
_SUM_LANES = 16


def fused_multiply_add(a: Array, b: Array, c: Array) -> Float32Array:
    """Returns ``a * b + c`` of float32 arrays, rounded once.

    The product of two float32 is exact in float64. The sum is rounded to odd there (its last bit says whether
    something was lost: Boldo and Melquiond, 2008), after which rounding to float32 is that of the exact sum.

    >>> one = np.float32([1 + 2**-12])
    >>> float(fused_multiply_add(one, one, -one)[0]) == 2**-12 + 2**-24
    True
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = c.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.asarray(product + addend)
        other = total - product
        rest = (product - (total - other)) + (addend - other)
        bits = total.view(np.int64)
        away = np.where((rest > 0) == (total > 0), 1, -1)
        odd = np.where((rest != 0) & np.isfinite(rest) & (bits % 2 == 0), bits + away, bits)
        return np.asarray(odd.view(np.float64).astype(_F32))


def _clip(value: Array, lo: float, hi: float) -> Float32Array:
    value = np.where(value < _F32(lo), _F32(lo), value)
    return np.where(value > _F32(hi), _F32(hi), value).astype(_F32)


def _finish(op: FloatLayer, sums: Array, tensors: Mapping[str, Array]) -> Float32Array:
    if op.residual is not None:
        sums = sums + tensors[op.residual]
    return _clip(sums, op.lo, op.hi)


def _multiply(a: Array, w: Array, start: Array) -> Float32Array:
    """Returns ``start[..., n] + sum_k a[..., k] * w[n, k]``, one fused step after another."""
    sums = np.broadcast_to(start, (*a.shape[:-1], w.shape[-2])).astype(_F32)
    for k in range(a.shape[-1]):
        sums = fused_multiply_add(
            a[..., k, None], w[..., None, :, k] if w.ndim > 2 else w[:, k], sums
        )
    return sums


def cut_windows(x: Array, window: Window) -> Array:
    """Returns every window of ``x`` ``[N, H, W, C]`` as ``[N, rows, columns, kernel_h, kernel_w, C]``."""
    rows, columns = window.output_size(x.shape[1], x.shape[2])
    padded = np.pad(
        x,
        ((0, 0), (window.pad_top, window.pad_bottom), (window.pad_left, window.pad_right), (0, 0)),
    )
    row = (
        np.arange(rows)[:, None] * window.stride_h + np.arange(window.kernel_h) * window.dilation_h
    )
    column = (
        np.arange(columns)[:, None] * window.stride_w
        + np.arange(window.kernel_w) * window.dilation_w
    )
    return padded[:, row[:, None, :, None], column[None, :, None, :], :]


def _conv(program: Program, op: FloatConv, tensors: Mapping[str, Array]) -> Float32Array:
    patches = cut_windows(tensors[op.input], op.window)
    count, depth = len(op.weights) // op.groups, op.weights.shape[-1]
    sums = []
    for group in range(op.groups):
        part = patches[..., group * depth : (group + 1) * depth]
        own = slice(group * count, (group + 1) * count)
        sums.append(
            _multiply(
                part.reshape(*part.shape[:3], -1),
                op.weights[own].reshape(count, -1),
                op.bias[own],
            )
        )
    return _finish(op, np.concatenate(sums, axis=-1), tensors)


def _depthwise(
    program: Program, op: FloatDepthwiseConv, tensors: Mapping[str, Array]
) -> Float32Array:
    patches = cut_windows(tensors[op.input], op.window)
    sums = np.broadcast_to(op.bias, (*patches.shape[:3], len(op.bias)))
    for i in range(op.window.kernel_h):
        for j in range(op.window.kernel_w):
            sums = fused_multiply_add(patches[:, :, :, i, j, :], op.weights[:, i, j], sums)
    return _finish(op, sums, tensors)


def _conv_transpose(
    program: Program, op: FloatConvTranspose, tensors: Mapping[str, Array]
) -> Float32Array:
    x, window = tensors[op.input], op.window
    batch, out_h, out_w, count = program.tensors[op.output].shape
    height = (out_h, x.shape[1], window.kernel_h, window.stride_h, window.dilation_h)
    width = (out_w, x.shape[2], window.kernel_w, window.stride_w, window.dilation_w)
    per_group, depth = count // op.groups, op.weights.shape[-1]
    # A row and a column of zeros behind each, for taps that lie outside.
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    weights = np.pad(op.weights, ((0, 0), (0, 1), (0, 1), (0, 0)))
    y = np.empty((batch, out_h, out_w, count), _F32)
    for (rows, r, i), (columns, s, j) in product(
        _phases(*height, window.pad_top), _phases(*width, window.pad_left)
    ):
        patches = padded[:, i[:, None, :, None], j[None, :, None, :]]
        for group in range(op.groups):
            own = slice(group * per_group, (group + 1) * per_group)
            part = patches[..., group * depth : (group + 1) * depth]
            y[:, rows, columns, own] = _multiply(
                part.reshape(*part.shape[:3], -1),
                weights[own][:, r][:, :, s].reshape(per_group, -1),
                op.bias[own],
            )
    return _clip(y, op.lo, op.hi)


def _phases(
    out: int, size: int, kernel: int, stride: int, dilation: int, pad: int
) -> Iterator[tuple[slice, list[int], npt.NDArray[np.int64]]]:
    """Yields outputs of an axis that have the same taps, those taps, and the inputs ``[outputs, taps]`` under them.

    A tap reaches an output if they are a whole number of strides apart. An input outside has the index ``size``;
    outputs that no tap reaches have the tap ``kernel`` there.
    """
    for first in range(min(stride, out)):
        taps = [tap for tap in range(kernel) if (first + pad - tap * dilation) % stride == 0]
        outputs = np.arange(first, out, stride)[:, None]
        inputs = (outputs + pad - np.array(taps or [0], np.int64) * dilation) // stride
        outside = (inputs < 0) | (inputs >= size) | (not taps)
        yield slice(first, out, stride), taps or [kernel], np.where(outside, size, inputs)


def _fully_connected(
    program: Program, op: FloatFullyConnected, tensors: Mapping[str, Array]
) -> Float32Array:
    return _finish(op, _multiply(tensors[op.input], op.weights, op.bias), tensors)


def quantize_rows(x: Array, *, whole: bool = False) -> tuple[Int8Array, Float32Array]:
    """Returns the codes of each row of ``x`` by its own largest magnitude, and the rows' scales ``[..., 1]``.

    By the largest magnitude of all rows if ``whole``.
    """
    with np.errstate(all="ignore"):
        scale = np.abs(x).max(axis=None if whole else -1, keepdims=True) / _F32(127)
        ratio = x / scale
    codes = np.rint(np.where(np.isnan(ratio), -127, np.clip(ratio, -127, 127)))
    return codes.astype(np.int8), scale


def _dynamic_fully_connected(
    program: Program, op: DynamicFullyConnected, tensors: Mapping[str, Array]
) -> Float32Array:
    codes, scale = quantize_rows(tensors[op.input], whole=op.whole)
    sums = codes.astype(np.int32) @ op.weights.astype(np.int32).T
    with np.errstate(all="ignore"):
        return (sums.astype(_F32) * op.multiplier) * scale + op.bias


def _matmul(program: Program, op: FloatMatMul, tensors: Mapping[str, Array]) -> Float32Array:
    a, b = tensors[op.a], tensors[op.b]
    if not op.transposed:
        b = b.swapaxes(-1, -2)
    b = b.reshape((*(1,) * (a.ndim - b.ndim), *b.shape))
    return _multiply(a, b, np.zeros(b.shape[-2], _F32))


def _exponential(x: Array) -> Float32Array:
    """csrc/kernels/float_vector/functions.h, ``exponential``."""
    x = _clip(x, -104.0, 89.0)
    magic = _F32(12582912.0)
    shifted = fused_multiply_add(x, _full(x, "0x1.715476p+0"), np.full_like(x, magic))
    n = shifted - magic
    r = fused_multiply_add(n, _full(x, "-0x1.62e400p-1"), x)
    r = fused_multiply_add(n, _full(x, "-0x1.7f7d1cp-20"), r)
    p = _polynomial(
        r,
        "0x1.9f0862p-13 0x1.6d8d54p-10 0x1.111272p-7 0x1.55548ep-5 0x1.555554p-3 0x1p-1",
    )
    p = fused_multiply_add(p * r, r, r) + _F32(1)
    with np.errstate(invalid="ignore"):
        exponent = np.where(np.isnan(n), 0, n).astype(np.int32)
    half = exponent >> 1
    low, high = np.ldexp(_F32(1), half), np.ldexp(_F32(1), exponent - half)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(p * low.astype(_F32) * high.astype(_F32), _F32)


def _logarithm(x: Array) -> Float32Array:
    tiny = x < _F32(2.0**-126)
    scaled = np.where(tiny, x * _F32(2.0**23), x).astype(_F32)
    bits = scaled.view(np.uint32)
    exponent = (bits - np.uint32(0x3F3504F3)).view(np.int32) >> 23
    f = (bits - (exponent << 23).view(np.uint32)).view(_F32) - _F32(1)
    e = (exponent - np.where(tiny, 23, 0)).astype(_F32)
    p = _polynomial(
        f,
        "0x1.1b56dcp-4 -0x1.e30f10p-4 0x1.e65ba2p-4 -0x1.fb3dfap-4 0x1.2331bap-3 -0x1.5562fep-3 "
        "0x1.99a552p-3 -0x1.ffffeep-3 0x1.555546p-2",
    )
    square = f * f
    small = fused_multiply_add(p * f, square, e * _constant("0x1.7f7d1cp-20"))
    small = fused_multiply_add(square, _full(x, "-0x1p-1"), small)
    result = fused_multiply_add(e, _full(x, "0x1.62e400p-1"), f + small)
    special = np.where(x == 0, -np.inf, np.where(x == np.inf, np.inf, np.nan))
    return np.where((x > 0) & (x < np.inf), result, special).astype(_F32)


def _tanh(x: Array) -> Float32Array:
    t, u = np.abs(x), x * x
    p = _polynomial(
        u,
        "0x1.197b62p-9 -0x1.0c213ep-7 0x1.6394d8p-6 -0x1.b9ef7cp-5 0x1.11106cp-3 -0x1.555554p-2",
    )
    small = fused_multiply_add(p * u, t, t)
    large = _F32(1) - _F32(2) / (_exponential(t + t) + _F32(1))
    return np.copysign(np.where(t < _F32(0.625), small, large), x).astype(_F32)


def _sigmoid(x: Array) -> Float32Array:
    e = _exponential(-np.abs(x))
    return np.asarray(np.where(x < 0, e, _F32(1)) / (_F32(1) + e), _F32)


def _erf(x: Array) -> Float32Array:
    t, u = np.abs(x), x * x
    p = _polynomial(
        u,
        "0x1.589470p-14 -0x1.a8fc6cp-11 0x1.54a490p-8 -0x1.b80b0ep-6 0x1.ce2de2p-4 -0x1.812742p-2 "
        "0x1.06ebaep-3",
    )
    small = fused_multiply_add(p, t, t)
    v = _clip(t, 0.0, 3.95)
    q = _polynomial(
        v,
        "-0x1.61ea8ep-16 0x1.c7912cp-12 -0x1.115ad4p-8 0x1.9b8e84p-6 -0x1.bb83e8p-4 "
        "-0x1.44460cp-1 -0x1.2127e4p+0 0x1.6e5700p-13",
    )
    large = _F32(1) - _exponential(q)
    return np.copysign(np.where(t < _F32(0.9375), small, large), x).astype(_F32)


def _gelu(x: Array) -> Float32Array:
    return np.asarray(_F32(0.5) * x * (_F32(1) + _erf(x * _constant("0x1.6a09e6p-1"))), _F32)


def _gelu_tanh(x: Array) -> Float32Array:
    inner = x * x * x * _F32(0.044715) + x
    return np.asarray(_F32(0.5) * x * (_F32(1) + _tanh(inner * _constant("0x1.988454p-1"))), _F32)


def _polynomial(x: Array, coefficients: str) -> Float32Array:
    """Evaluates by Horner's rule, the highest power first, in fused steps."""
    first, *others = coefficients.split()
    value = _full(x, first)
    for other in others:
        value = fused_multiply_add(value, x, _full(x, other))
    return value


def _constant(text: str) -> np.float32:
    return _F32(float.fromhex(text))


def _full(x: Array, text: str) -> Float32Array:
    return np.full(x.shape, _constant(text), _F32)


def _unary(program: Program, op: FloatUnary, tensors: Mapping[str, Array]) -> Float32Array:
    x = tensors[op.input]
    a, b = _F32(op.alpha), _F32(op.beta)
    rules: dict[FloatFunction, Callable[[], Array]] = {
        FloatFunction.ABS: lambda: np.abs(x),
        FloatFunction.NEGATE: lambda: -x,
        FloatFunction.SQRT: lambda: np.sqrt(x),
        FloatFunction.RECIPROCAL: lambda: _F32(1) / x,
        FloatFunction.FLOOR: lambda: np.floor(x),
        FloatFunction.CEIL: lambda: np.ceil(x),
        FloatFunction.ROUND: lambda: np.rint(x),
        FloatFunction.CLIP: lambda: _clip(x, op.alpha, op.beta),
        FloatFunction.LEAKY_RELU: lambda: np.where(x < 0, a * x, x),
        FloatFunction.HARD_SIGMOID: lambda: _clip(a * x + b, 0, 1),
        FloatFunction.HARD_SWISH: lambda: x * _clip(x * (_F32(1) / _F32(6)) + _F32(0.5), 0, 1),
        FloatFunction.EXP: lambda: _exponential(x),
        FloatFunction.LOG: lambda: _logarithm(x),
        FloatFunction.ERF: lambda: _erf(x),
        FloatFunction.TANH: lambda: _tanh(x),
        FloatFunction.SIGMOID: lambda: _sigmoid(x),
        FloatFunction.GELU: lambda: _gelu(x),
        FloatFunction.GELU_TANH: lambda: _gelu_tanh(x),
    }
    with np.errstate(all="ignore"):
        return np.asarray(rules[op.function](), _F32)


def _binary(program: Program, op: FloatBinary, tensors: Mapping[str, Array]) -> Float32Array:
    a, b = tensors[op.a], tensors[op.b]
    rules: dict[FloatOperator, Callable[[Array, Array], Array]] = {
        FloatOperator.ADD: lambda a, b: a + b,
        FloatOperator.SUB: lambda a, b: a - b,
        FloatOperator.MUL: lambda a, b: a * b,
        FloatOperator.DIV: lambda a, b: a / b,
        FloatOperator.MAX: lambda a, b: np.where(a > b, a, b),
        FloatOperator.MIN: lambda a, b: np.where(a < b, a, b),
    }
    with np.errstate(all="ignore"):
        return _clip(rules[op.operator](a, b), op.lo, op.hi)


def _pool(program: Program, op: FloatPool, tensors: Mapping[str, Array]) -> Float32Array:
    x, window = tensors[op.input], op.window
    inside = cut_windows(np.ones((1, *x.shape[1:3], 1), bool), window)
    taps = cut_windows(x, window)
    taps, inside = (v.reshape(*v.shape[:3], -1, v.shape[-1]) for v in (taps, inside))
    start = -np.inf if op.pool is PoolKind.MAX else 0.0
    total = np.full((*taps.shape[:3], taps.shape[-1]), start, _F32)
    first = np.ones_like(total, bool)
    for tap in range(taps.shape[3]):
        value, hit = taps[:, :, :, tap], np.broadcast_to(inside[:, :, :, tap], total.shape)
        if op.pool is PoolKind.MAX:
            joined = np.where(value > total, value, total)
        else:
            joined = np.where(first, value, total + value)
        total = np.where(hit, joined, total)
        first &= ~hit
    if op.pool is PoolKind.MAX:
        return total
    size = taps.shape[3]
    count = np.full(inside.shape[:3], size) if op.count_include_pad else inside.sum(axis=(3, 4))
    return np.asarray(total / count[..., None].astype(_F32), _F32)


def sum_in_lanes(x: Array) -> Float32Array:
    """Returns the sums over the last dimension: 16 lanes in turn, then halves of them."""
    size = x.shape[-1]
    padded = np.zeros((*x.shape[:-1], -(-size // _SUM_LANES) * _SUM_LANES), _F32)
    padded[..., :size] = x
    rows = padded.reshape(*x.shape[:-1], -1, _SUM_LANES)
    lanes = np.zeros((*x.shape[:-1], _SUM_LANES), _F32)
    for row in range(rows.shape[-2]):
        lanes = lanes + rows[..., row, :]
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def _reduce(program: Program, op: FloatReduce, tensors: Mapping[str, Array]) -> Float32Array:
    x = tensors[op.input]
    count = math.prod(x.shape[op.begin : op.end])
    rows = x.reshape(math.prod(x.shape[: op.begin]), count, -1)
    if op.reduction in (FloatReduction.MAX, FloatReduction.MIN):
        result = rows.max(axis=1) if op.reduction is FloatReduction.MAX else rows.min(axis=1)
    elif rows.shape[-1] == 1:
        result = sum_in_lanes(rows[..., 0])
    else:
        result = rows[:, 0]
        for index in range(1, count):
            result = result + rows[:, index]
    if op.reduction is FloatReduction.MEAN:
        result = result / _F32(count)
    return np.asarray(result, _F32).reshape(program.tensors[op.output].shape)


def _softmax(program: Program, op: FloatSoftmax, tensors: Mapping[str, Array]) -> Float32Array:
    x = tensors[op.input]
    e = _exponential(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / sum_in_lanes(e)[..., None], _F32)


def _layer_norm(program: Program, op: FloatLayerNorm, tensors: Mapping[str, Array]) -> Float32Array:
    x = tensors[op.input].reshape(-1, op.scale.size)
    count = _F32(op.scale.size)
    d = x - (sum_in_lanes(x) / count)[:, None]
    factor = _F32(1) / np.sqrt(sum_in_lanes(d * d) / count + _F32(op.epsilon))
    y = d * factor[:, None] * op.scale.reshape(-1) + op.bias.reshape(-1)
    return np.asarray(y, _F32).reshape(program.tensors[op.output].shape)


def _resize(program: Program, op: FloatResize, tensors: Mapping[str, Array]) -> Float32Array:
    x = tensors[op.input]

    def mix(a: Array, b: Array, weight: Array) -> Array:
        return np.where(weight == 0, a, (_F32(1) - weight) * a + weight * b)

    columns = op.column_weights[:, None]
    wide = mix(x[:, :, op.columns[:, 0]], x[:, :, op.columns[:, 1]], columns)
    rows = op.row_weights[:, None, None]
    return np.asarray(mix(wide[:, op.rows[:, 0]], wide[:, op.rows[:, 1]], rows), _F32)


FLOAT_RULES: dict[type[Op], Callable[..., Array]] = {
    FloatBinary: _binary,
    FloatConv: _conv,
    FloatConvTranspose: _conv_transpose,
    FloatDepthwiseConv: _depthwise,
    FloatFullyConnected: _fully_connected,
    DynamicFullyConnected: _dynamic_fully_connected,
    FloatLayerNorm: _layer_norm,
    FloatMatMul: _matmul,
    FloatPool: _pool,
    FloatReduce: _reduce,
    FloatResize: _resize,
    FloatSoftmax: _softmax,
    FloatUnary: _unary,
}
