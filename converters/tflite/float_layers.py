"""Writes layers of float32: weights as float32, as float16 behind DEQUANTIZE, or as int8 by channel."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekit.converters.float_program import (
    DynamicFullyConnected,
    FloatBinary,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFullyConnected,
    FloatLayer,
    FloatMatMul,
    FloatOperator,
)
from edgekit.converters.program import DType, Op, Tensor
from edgekit.converters.tflite.layers import slide, write_transposed
from edgekit.converters.tflite.model_file import Grid
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import Array, State, Weights, refuse

_Activation = schema.ActivationFunctionType
_FUSED = {
    (-math.inf, math.inf): _Activation.NONE,
    (0.0, math.inf): _Activation.RELU,
    (0.0, 6.0): _Activation.RELU6,
    (-1.0, 1.0): _Activation.RELU_N1_TO_1,
}
_MAX_CODE = 127
_BINARY = {
    FloatOperator.ADD: ("ADD", schema.AddOptionsT),
    FloatOperator.SUB: ("SUB", schema.SubOptionsT),
    FloatOperator.MUL: ("MUL", schema.MulOptionsT),
    FloatOperator.DIV: ("DIV", schema.DivOptionsT),
}


def write_conv(state: State, op: FloatConv) -> None:
    """CONV_2D."""
    x, padding = slide(state, op.input, op.output, op.window)
    window = op.window

    def write(target: int, activation: int) -> None:
        state.add(
            "CONV_2D",
            [x, *_constants(state, op, op.weights, op.bias, 0)],
            target,
            schema.Conv2DOptionsT(
                padding=padding,
                strideH=window.stride_h,
                strideW=window.stride_w,
                dilationHFactor=window.dilation_h,
                dilationWFactor=window.dilation_w,
                fusedActivationFunction=activation,
            ),
        )

    _finish(state, op, write)


def write_depthwise(state: State, op: FloatDepthwiseConv) -> None:
    """DEPTHWISE_CONV_2D."""
    x, padding = slide(state, op.input, op.output, op.window)
    window = op.window
    weights = op.weights.transpose(1, 2, 0)[None]

    def write(target: int, activation: int) -> None:
        state.add(
            "DEPTHWISE_CONV_2D",
            [x, *_constants(state, op, weights, op.bias, 3)],
            target,
            schema.DepthwiseConv2DOptionsT(
                padding=padding,
                strideH=window.stride_h,
                strideW=window.stride_w,
                dilationHFactor=window.dilation_h,
                dilationWFactor=window.dilation_w,
                depthMultiplier=1,
                fusedActivationFunction=activation,
            ),
        )

    _finish(state, op, write)


def write_fully_connected(state: State, op: FloatFullyConnected) -> None:
    """FULLY_CONNECTED over the last dimension."""
    rank = len(state.tensor(op.input).shape)

    def write(target: int, activation: int) -> None:
        state.add(
            "FULLY_CONNECTED",
            [state.index(op.input), *_constants(state, op, op.weights, op.bias, 0)],
            target,
            schema.FullyConnectedOptionsT(keepNumDims=rank > 2, fusedActivationFunction=activation),
        )

    _finish(state, op, write)


def write_dynamic(state: State, op: DynamicFullyConnected) -> None:
    """FULLY_CONNECTED of int8 weights with float32 rows, which get their codes at run time by the kernel's own rule."""
    rank = len(state.tensor(op.input).shape)
    grid = Grid(op.multiplier, axis=0)
    # int4 codes have 8 bits too: without XNNPACK, LiteRT 2.3 takes the first channel's scale of int4 weights for all.
    kernel = state.file.add_parameter(f"{op.name}:weight", op.weights, grid)
    bias = state.file.add_parameter(f"{op.name}:bias", op.bias)
    state.add(
        "FULLY_CONNECTED",
        [state.index(op.input), kernel, bias],
        state.index(op.output),
        schema.FullyConnectedOptionsT(keepNumDims=rank > 2),
    )


def write_conv_transpose(state: State, op: FloatConvTranspose) -> None:
    """TRANSPOSE_CONV in one group, bounded where it is."""
    if op.groups != 1:
        refuse(op, "it has groups, which TRANSPOSE_CONV has not")
    target, bound = bounded(state, op.output, op.lo, op.hi)
    # TRANSPOSE_CONV has no hybrid kernel: its weights stay float.
    constants = _constants(state, op, op.weights, op.bias, None)
    write_transposed(state, op, op.window, constants, target)
    bound()


def write_matmul(state: State, op: FloatMatMul) -> None:
    """BATCH_MATMUL."""
    operands = [state.index(op.a), state.index(op.b)]
    options = schema.BatchMatMulOptionsT(adjY=op.transposed)
    state.add("BATCH_MATMUL", operands, state.index(op.output), options)


def write_binary(state: State, op: FloatBinary) -> None:
    """ADD, SUB, MUL, DIV with their bounds; MAXIMUM and MINIMUM."""
    operands = [state.index(op.a), state.index(op.b)]
    if op.operator in _BINARY:
        operator, options = _BINARY[op.operator]
        activation = _FUSED.get((op.lo, op.hi))
        lo, hi = (op.lo, op.hi) if activation is None else (-math.inf, math.inf)
        target, bound = bounded(state, op.output, lo, hi)
        chosen = _Activation.NONE if activation is None else activation
        state.add(operator, operands, target, options(fusedActivationFunction=chosen))
    else:
        target, bound = bounded(state, op.output, op.lo, op.hi)
        operator = "MAXIMUM" if op.operator is FloatOperator.MAX else "MINIMUM"
        state.add(operator, operands, target, schema.MaximumMinimumOptionsT())
    bound()


def bounded(state: State, name: str, lo: float, hi: float) -> tuple[int, Callable[[], None]]:
    """Returns the tensor for an operator to write ``name`` to before it is bounded, and what does that."""
    output = state.index(name)
    limits = [
        (operator, limit)
        for operator, limit in (("MAXIMUM", lo), ("MINIMUM", hi))
        if math.isfinite(limit)
    ]
    if not limits:
        return output, lambda: None
    y = state.tensor(name)
    steps = [state.codes(f"{name}:unbounded", y.shape, y) for _ in limits]

    def bound() -> None:
        for (operator, limit), source, target in zip(
            limits, steps, [*steps[1:], output], strict=True
        ):
            operands = [source, state.scalar(limit)]
            state.add(operator, operands, target, schema.MaximumMinimumOptionsT())

    return steps[0], bound


def _finish(state: State, op: FloatLayer, write: Callable[[int, int], None]) -> None:
    """Writes a layer, its residual and its bounds, the last one fused where TFLite has such bounds."""
    activation = _FUSED.get((op.lo, op.hi))
    lo, hi = (op.lo, op.hi) if activation is None else (-math.inf, math.inf)
    chosen = _Activation.NONE if activation is None else activation
    target, bound = bounded(state, op.output, lo, hi)
    if op.residual is None:
        write(target, chosen)
    else:
        y = state.tensor(op.output)
        own = state.codes(f"{op.name}:own", y.shape, y)
        write(own, _Activation.NONE)
        options = schema.AddOptionsT(fusedActivationFunction=chosen)
        state.add("ADD", [own, state.index(op.residual)], target, options)
    bound()


def _constants(
    state: State, op: Op, weights: Array, bias: Array, axis: int | None
) -> tuple[int, int]:
    """Adds weights, whose output channels lie along ``axis`` (None: never int8), and the bias."""
    name = f"{op.name}:weight"
    if state.weights is Weights.INT8 and axis is not None:
        kernel = _add_int8(state, name, weights, axis)
    elif state.weights is Weights.FLOAT16 or getattr(op, "weight_bits", 32) == 16:
        half = state.file.add_tensor(f"{name}:half", weights.shape, np.float16, data=weights)
        kernel = state.codes(name, weights.shape, Tensor(name, weights.shape, DType.FLOAT32))
        state.add("DEQUANTIZE", [half], kernel, schema.DequantizeOptionsT())
    else:
        kernel = state.file.add_tensor(name, weights.shape, np.float32, data=weights)
    return kernel, state.file.add_tensor(f"{op.name}:bias", bias.shape, np.float32, data=bias)


def _add_int8(state: State, name: str, weights: Array, axis: int) -> int:
    """Adds ``rne(w / s)`` with ``s = max |w| / 127`` for each channel along ``axis``."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / _MAX_CODE, 1.0).astype(np.float32)
    codes = np.rint(weights / scale).clip(-_MAX_CODE, _MAX_CODE).astype(np.int8)
    return state.file.add_tensor(
        name, codes.shape, np.int8, Grid(scale.reshape(-1), axis=axis), codes
    )
