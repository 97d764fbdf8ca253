"""Writes pools over a window of an NHWC image."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.converters.program import (
    MIN_CODE,
    DType,
    Float32Array,
    Pool,
    PoolKind,
    Tensor,
    Window,
)
from edgekit.converters.tflite.model_file import Grid
from edgekit.converters.tflite.padding import add_pad, is_same, place_window, window_pads
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

# How many neighbours of a scale are tried for one that gives the multiplier to the last bit.
_NEIGHBOURS = 8


def write_pool(state: State, op: Pool) -> None:
    """MAX_POOL_2D; an average is a depthwise convolution with ones, or float where windows count fewer elements."""
    if (op.window.dilation_h, op.window.dilation_w) != (1, 1):
        refuse(op, "it is dilated, which TFLite's pools are not")
    x, outputs = state.tensor(op.input), state.tensor(op.output).shape[1:3]
    if op.pool is PoolKind.MAX:
        source, padding = place_window(
            state, state.index(op.input), x, op.window, (outputs[0], outputs[1]), fill=MIN_CODE
        )
        y, clamp = state.clamped(op.output, op.lo, op.hi)
        state.add("MAX_POOL_2D", [source], y, pool_options(op.window, padding))
        clamp()
        return
    counts = count_elements(op.window, x, outputs, include_pad=op.count_include_pad)
    if np.all(counts == counts.flat[0]):
        _write_even_mean(state, op, counts)
    else:
        _write_uneven_mean(state, op, counts)


def pool_options(window: Window, padding: int) -> Any:
    """Returns the options of a pool."""
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=window.stride_h,
        strideW=window.stride_w,
        filterHeight=window.kernel_h,
        filterWidth=window.kernel_w,
    )


def count_elements(
    window: Window, x: Tensor, outputs: tuple[int, ...], *, include_pad: bool
) -> Float32Array:
    """Returns how many elements each window of a mean counts, ``[rows, columns]``."""
    axes = (
        (window.kernel_h, window.stride_h, window.pad_top, window.pad_bottom),
        (window.kernel_w, window.stride_w, window.pad_left, window.pad_right),
    )
    counts = []
    for size, count, (taps, stride, before, after) in zip(x.shape[1:3], outputs, axes, strict=True):
        places = np.arange(count)[:, None] * stride - before + np.arange(taps)
        low, high = (-before, size + after) if include_pad else (0, size)
        counts.append(((places >= low) & (places < high)).sum(axis=1))
    rows, columns = counts
    return np.asarray(np.outer(rows, columns), np.float32)


def _write_even_mean(state: State, op: Pool, counts: Float32Array) -> None:
    """The sum of every window times one multiplier: what a depthwise convolution computes, rounded once."""
    window, x, y = op.window, state.tensor(op.input), state.tensor(op.output)
    outputs = counts.shape
    source, padding = place_window(
        state, state.index(op.input), x, window, (outputs[0], outputs[1])
    )
    channels = x.shape[-1]
    scale = np.full(channels, mean_scale(x, y, float(counts.flat[0])), np.float32)
    ones = np.ones((1, window.kernel_h, window.kernel_w, channels), np.int8)
    weights = state.file.add_tensor(
        f"{op.name}:ones", ones.shape, np.int8, Grid(scale, axis=3), ones
    )
    zeros = np.zeros(channels, np.int32)
    codes, grid = state.stored.bias(zeros, x, scale)
    bias = state.file.add_tensor(
        f"{op.name}:bias", zeros.shape, state.stored.bias_dtype, grid, codes
    )
    target, clamp = state.clamped(op.output, op.lo, op.hi)
    options = schema.DepthwiseConv2DOptionsT(
        padding=padding, strideH=window.stride_h, strideW=window.stride_w, depthMultiplier=1
    )
    state.add("DEPTHWISE_CONV_2D", [source, weights, bias], target, options)
    clamp()


def mean_scale(x: Tensor, y: Tensor, count: float) -> np.float32:
    """Returns s_w for which ``float32(float32(s_x * s_w) / s_y)`` is the multiplier of a mean, or next to it."""
    wanted = np.float32(x.scale) / (np.float32(y.scale) * np.float32(count))
    first = np.float32(1 / count)
    for scale in (first, *_neighbours(first)):
        if np.float32(x.scale) * scale / np.float32(y.scale) == wanted:
            return scale
    return first


def _neighbours(value: np.float32) -> list[np.float32]:
    """Returns the float32 numbers around ``value``, the nearest first."""
    bits = int(value.view(np.int32))
    steps = [step for size in range(1, _NEIGHBOURS + 1) for step in (size, -size)]
    return [np.int32(bits + step).view(np.float32) for step in steps]


def _write_uneven_mean(state: State, op: Pool, counts: Float32Array) -> None:
    """Float32 between DEQUANTIZE and QUANTIZE: no integer pool has a multiplier for each place."""
    x = state.tensor(op.input)
    real = Tensor(f"{op.name}:real", x.shape, DType.FLOAT32)
    source = state.codes(real.name, real.shape, real)
    state.add("DEQUANTIZE", [state.index(op.input)], source, schema.DequantizeOptionsT())
    mean = state.codes(f"{op.name}:mean", state.tensor(op.output).shape, real)
    write_real_mean(state, source, real, op.window, counts, mean)
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    state.add("QUANTIZE", [mean], y, schema.QuantizeOptionsT())
    clamp()


def write_real_mean(
    state: State, source: int, x: Tensor, window: Window, counts: Float32Array, output: int
) -> None:
    """AVERAGE_POOL_2D of float32, corrected where its windows would count other elements.

    Args:
        state: The writer.
        source: The image in the file.
        x: The image.
        window: With its pads.
        counts: How many elements each window counts, ``[rows, columns]``.
        output: Where the means go.
    """
    size, outputs = (x.shape[1], x.shape[2]), (counts.shape[0], counts.shape[1])
    inside = count_elements(window, x, outputs, include_pad=False)
    if is_same(window, size, outputs) and np.array_equal(counts, inside):
        state.add("AVERAGE_POOL_2D", [source], output, pool_options(window, schema.Padding.SAME))
        return
    pads = window_pads(window, size, outputs)
    if any(map(any, pads)):
        source = add_pad(state, source, x, pads)
    taps = np.float32(window.kernel_h * window.kernel_w)
    options = pool_options(window, schema.Padding.VALID)
    if np.all(counts == taps):
        state.add("AVERAGE_POOL_2D", [source], output, options)
        return
    shape = (x.shape[0], *outputs, x.shape[3])
    mean = state.codes(f"{x.name}:even", shape, x)
    state.add("AVERAGE_POOL_2D", [source], mean, options)
    factors = (taps / counts)[None, :, :, None]
    factor = state.codes(f"{x.name}:factors", factors.shape, x, factors)
    state.add("MUL", [mean, factor], output, schema.MulOptionsT())
