"""Writes layers with weights: convolutions and fully connected layers on codes."""

from __future__ import annotations

import numpy as np

from edgekit.converters.float_program import FloatConvTranspose
from edgekit.converters.program import (
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Float32Array,
    FullyConnected,
    Int32Array,
    Op,
    Tensor,
    Window,
)
from edgekit.converters.tflite.model_file import Grid
from edgekit.converters.tflite.padding import place_window
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.sparse_weights import find_sparse_weights
from edgekit.converters.tflite.state import Array, State, refuse

_Layer = Conv | ConvTranspose | DepthwiseConv | FullyConnected


def slide(state: State, source: str, output: str, window: Window) -> tuple[int, int]:
    """Returns the tensor of the file that a window slides over, and TFLite's padding."""
    _, rows, columns, _ = state.tensor(output).shape
    x = state.tensor(source)
    return place_window(state, state.index(source), x, window, (rows, columns))


def write_conv(state: State, op: Conv) -> None:
    """CONV_2D; weights ``[n][kernel_h][kernel_w][c / groups]`` are OHWI already."""
    x, padding = slide(state, op.input, op.output, op.window)
    window = op.window
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    state.add(
        "CONV_2D",
        [x, *_constants(state, op, op.weights, axis=0)],
        y,
        schema.Conv2DOptionsT(
            padding=padding,
            strideH=window.stride_h,
            strideW=window.stride_w,
            dilationHFactor=window.dilation_h,
            dilationWFactor=window.dilation_w,
        ),
    )
    clamp()


def write_depthwise(state: State, op: DepthwiseConv) -> None:
    """DEPTHWISE_CONV_2D; weights ``[c][kernel_h][kernel_w]`` become 1HWC."""
    x, padding = slide(state, op.input, op.output, op.window)
    window = op.window
    weights = op.weights.transpose(1, 2, 0)[None]
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    state.add(
        "DEPTHWISE_CONV_2D",
        [x, *_constants(state, op, weights, axis=3)],
        y,
        schema.DepthwiseConv2DOptionsT(
            padding=padding,
            strideH=window.stride_h,
            strideW=window.stride_w,
            dilationHFactor=window.dilation_h,
            dilationWFactor=window.dilation_w,
            depthMultiplier=1,
        ),
    )
    clamp()


def write_fully_connected(state: State, op: FullyConnected) -> None:
    """FULLY_CONNECTED over the last dimension."""
    rank = len(state.tensor(op.input).shape)
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    state.add(
        "FULLY_CONNECTED",
        [state.index(op.input), *_constants(state, op, op.weights, axis=0)],
        y,
        schema.FullyConnectedOptionsT(keepNumDims=rank > 2),
    )
    clamp()


def write_conv_transpose(state: State, op: ConvTranspose) -> None:
    """TRANSPOSE_CONV; see `write_transposed`."""
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    write_transposed(state, op, op.window, _constants(state, op, op.weights, axis=0), y)
    clamp()


def write_transposed(
    state: State,
    op: ConvTranspose | FloatConvTranspose,
    window: Window,
    constants: tuple[int, int],
    target: int,
) -> None:
    """TRANSPOSE_CONV of all that the windows reach, and a SLICE where the window's pads cut that off."""
    if (window.dilation_h, window.dilation_w) != (1, 1):
        refuse(op, "it is dilated, which TRANSPOSE_CONV is not")
    y = state.tensor(op.output)
    _, height, width, _ = state.tensor(op.input).shape
    rows = max((height - 1) * window.stride_h + window.kernel_h, window.pad_top + y.shape[1])
    columns = max((width - 1) * window.stride_w + window.kernel_w, window.pad_left + y.shape[2])
    whole = (y.shape[0], rows, columns, y.shape[3])
    made = target if whole == y.shape else state.codes(f"{op.name}:whole", whole, y)
    weights, bias = constants
    state.add(
        "TRANSPOSE_CONV",
        [state.integers(whole), weights, state.index(op.input), bias],
        made,
        schema.TransposeConvOptionsT(
            padding=schema.Padding.VALID, strideH=window.stride_h, strideW=window.stride_w
        ),
    )
    if made != target:
        begin = state.integers([0, window.pad_top, window.pad_left, 0])
        state.add("SLICE", [made, begin, state.integers(y.shape)], target, schema.SliceOptionsT())


def _constants(state: State, op: _Layer, weights: Array, axis: int) -> tuple[int, int]:
    """Adds the weights, whose output channels lie along ``axis``, and the bias."""
    if op.weight_scale is None:
        refuse(op, "the scales of its weights are not known")
    x = state.tensor(op.input)
    scale = np.broadcast_to(op.weight_scale, (len(op.bias),)).astype(np.float32)
    # Elsewhere the same codes have 8 bits: TRANSPOSE_CONV and layers of 16x8 have no kernels for int4, and those of
    # depthwise weights, which are few, are slow.
    holds_int4 = isinstance(op, Conv | FullyConnected) and not state.stored.is_wide
    bits = op.weight_bits if holds_int4 else 8
    kernel = _weights(state, op, weights, Grid(scale, axis=axis), bits)
    return kernel, _bias(state, op, x, scale, op.bias)


def _weights(state: State, op: _Layer, weights: Array, grid: Grid, bits: int) -> int:
    """Adds the weights: of a convolution as blocks, where that is smaller, between which DENSIFY fills in zeros.

    LiteRT 2.3 does not open files where FULLY_CONNECTED reads weights that DENSIFY made.
    """
    name = f"{op.name}:weight"
    blocks = None
    if isinstance(op, Conv) and op.groups == 1 and bits == 8 and not state.stored.is_wide:
        blocks = find_sparse_weights(weights)
    if blocks is None:
        return state.file.add_tensor(name, weights.shape, np.int8, grid, weights, bits)
    stored = state.file.add_tensor(
        f"{name}:blocks", weights.shape, np.int8, grid, blocks.values, sparsity=blocks.sparsity
    )
    whole = state.file.add_tensor(name, weights.shape, np.int8, grid)
    state.add("DENSIFY", [stored], whole, schema.DensifyOptionsT())
    return whole


def _bias(state: State, op: Op, x: Tensor, scale: Float32Array, bias: Int32Array) -> int:
    codes, grid = state.stored.bias(bias, x, scale)
    return state.file.add_tensor(
        f"{op.name}:bias", bias.shape, state.stored.bias_dtype, grid, codes
    )
