"""Writes 16x8 layers between float32 tensors: QUANTIZE to int16, the layer's own operator, DEQUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.converters.tflite.layers import slide
from edgekit.converters.tflite.model_file import Grid
from edgekit.converters.tflite.padding import window_pads
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import Array, State
from edgekit.converters.wide_program import WideConv, WideDepthwiseConv, WideLayer


def write_wide_conv(state: State, op: WideConv) -> None:
    """CONV_2D, or FULLY_CONNECTED of what is no image."""
    x = state.tensor(op.input)
    if len(x.shape) != 4:
        rows = op.weights.reshape(len(op.weights), -1)
        options = schema.FullyConnectedOptionsT(keepNumDims=len(x.shape) > 2)
        source = state.index(op.input)
        _write(state, op, "FULLY_CONNECTED", options, source, list(x.shape), rows, 0)
        return
    source, shape, window = _slide(state, op)
    options = schema.Conv2DOptionsT(**window)
    _write(state, op, "CONV_2D", options, source, shape, op.weights, 0)


def write_wide_depthwise(state: State, op: WideDepthwiseConv) -> None:
    """DEPTHWISE_CONV_2D; weights ``[c][kernel_h][kernel_w]`` become 1HWC."""
    source, shape, window = _slide(state, op)
    weights = op.weights.transpose(1, 2, 0)[None]
    options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **window)
    _write(state, op, "DEPTHWISE_CONV_2D", options, source, shape, weights, 3)


def _slide(state: State, op: WideLayer) -> tuple[int, list[int], dict[str, int]]:
    """Returns the floats to slide over, their shape, and the fields of TFLite's options."""
    x, window = state.tensor(op.input), op.window
    source, padding = slide(state, op.input, op.output, window)
    shape = list(x.shape)
    if source != state.index(op.input):
        _, rows, columns, _ = state.tensor(op.output).shape
        pads = window_pads(window, (shape[1], shape[2]), (rows, columns))
        shape = [size + before + after for size, (before, after) in zip(shape, pads, strict=True)]
    fields = {
        "padding": padding,
        "strideH": window.stride_h,
        "strideW": window.stride_w,
        "dilationHFactor": window.dilation_h,
        "dilationWFactor": window.dilation_w,
    }
    return source, shape, fields


def _write(
    state: State,
    op: WideLayer,
    operator: str,
    options: Any,
    source: int,
    shape: list[int],
    weights: Array,
    axis: int,
) -> None:
    def add_codes(name: str, dims: list[int], step: np.float32) -> int:
        grid = Grid(np.array([step], np.float32))
        return state.file.add_tensor(f"{op.name}:{name}", dims, np.int16, grid)

    codes = add_codes("input", shape, op.input_step)
    own = add_codes("output", list(state.tensor(op.output).shape), op.output_step)
    kernel = state.file.add_tensor(
        f"{op.name}:weight",
        weights.shape,
        np.int8,
        Grid(op.weight_scale, axis=axis),
        np.ascontiguousarray(weights),
    )
    bias_grid = Grid(np.asarray(op.input_step * op.weight_scale, np.float32))
    bias = state.file.add_tensor(
        f"{op.name}:bias", op.bias.shape, np.int64, bias_grid, op.bias.astype(np.int64)
    )
    state.add("QUANTIZE", [source], codes, schema.QuantizeOptionsT())
    state.add(operator, [codes, kernel, bias], own, options)
    state.add("DEQUANTIZE", [own], state.index(op.output), schema.DequantizeOptionsT())
