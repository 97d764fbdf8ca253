"""Writes functions, pools, reductions, norms and resizes of float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.converters.float_program import (
    FloatFunction,
    FloatLayerNorm,
    FloatPool,
    FloatReduce,
    FloatReduction,
    FloatResize,
    FloatSoftmax,
    FloatUnary,
)
from edgekit.converters.program import PoolKind
from edgekit.converters.tflite.float_layers import bounded
from edgekit.converters.tflite.padding import place_window
from edgekit.converters.tflite.pooling import count_elements, pool_options, write_real_mean
from edgekit.converters.tflite.resizing import add_resize, find_linear, write_nearest
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

_Options = Callable[[FloatUnary], Any]
_FUNCTIONS: dict[FloatFunction, tuple[str, _Options]] = {
    FloatFunction.ABS: ("ABS", lambda op: schema.AbsOptionsT()),
    FloatFunction.NEGATE: ("NEG", lambda op: schema.NegOptionsT()),
    FloatFunction.SQRT: ("SQRT", lambda op: None),
    FloatFunction.FLOOR: ("FLOOR", lambda op: None),
    FloatFunction.CEIL: ("CEIL", lambda op: None),
    FloatFunction.ROUND: ("ROUND", lambda op: None),
    FloatFunction.LEAKY_RELU: ("LEAKY_RELU", lambda op: schema.LeakyReluOptionsT(alpha=op.alpha)),
    FloatFunction.HARD_SWISH: ("HARD_SWISH", lambda op: schema.HardSwishOptionsT()),
    FloatFunction.EXP: ("EXP", lambda op: schema.ExpOptionsT()),
    FloatFunction.LOG: ("LOG", lambda op: None),
    FloatFunction.TANH: ("TANH", lambda op: None),
    FloatFunction.SIGMOID: ("LOGISTIC", lambda op: None),
    FloatFunction.GELU: ("GELU", lambda op: schema.GeluOptionsT(approximate=False)),
    FloatFunction.GELU_TANH: ("GELU", lambda op: schema.GeluOptionsT(approximate=True)),
}
_RECTIFIERS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
_REDUCTIONS = {
    FloatReduction.SUM: "SUM",
    FloatReduction.MEAN: "MEAN",
    FloatReduction.MAX: "REDUCE_MAX",
    FloatReduction.MIN: "REDUCE_MIN",
}


def write_unary(state: State, op: FloatUnary) -> None:
    """The operator of the function, or those that it is made of."""
    source, output = state.index(op.input), state.index(op.output)
    match op.function:
        case FloatFunction.CLIP:
            _write_clip(state, op)
        case FloatFunction.RECIPROCAL:
            state.add("DIV", [state.scalar(1.0), source], output, schema.DivOptionsT())
        case FloatFunction.HARD_SIGMOID:
            shape = state.tensor(op.output)
            scaled = state.codes(f"{op.name}:scaled", shape.shape, shape)
            target, bound = bounded(state, op.output, 0.0, 1.0)
            state.add("MUL", [source, state.scalar(op.alpha)], scaled, schema.MulOptionsT())
            state.add("ADD", [scaled, state.scalar(op.beta)], target, schema.AddOptionsT())
            bound()
        case FloatFunction.ERF:
            refuse(op, "TFLite has no Erf")
        case _:
            operator, options = _FUNCTIONS[op.function]
            state.add(operator, [source], output, options(op))


def _write_clip(state: State, op: FloatUnary) -> None:
    source, output = state.index(op.input), state.index(op.output)
    rectifier = _RECTIFIERS.get((op.alpha, op.beta))
    if rectifier is not None:
        state.add(rectifier, [source], output)
        return
    limits = [
        (operator, limit)
        for operator, limit in (("MAXIMUM", op.alpha), ("MINIMUM", op.beta))
        if math.isfinite(limit)
    ]
    y = state.tensor(op.output)
    for place, (operator, limit) in enumerate(limits):
        last = place == len(limits) - 1
        target = output if last else state.codes(f"{op.name}:half", y.shape, y)
        options = schema.MaximumMinimumOptionsT()
        state.add(operator, [source, state.scalar(limit)], target, options)
        source = target
    if not limits:
        shape = state.integers(y.shape)
        state.add("RESHAPE", [source, shape], output, schema.ReshapeOptionsT())


def write_pool(state: State, op: FloatPool) -> None:
    """MAX_POOL_2D and AVERAGE_POOL_2D."""
    if (op.window.dilation_h, op.window.dilation_w) != (1, 1):
        refuse(op, "it is dilated, which TFLite's pools are not")
    x, (_, rows, columns, _) = state.tensor(op.input), state.tensor(op.output).shape
    source, output = state.index(op.input), state.index(op.output)
    if op.pool is PoolKind.MAX:
        lowest = float(np.finfo(np.float32).min)
        source, padding = place_window(state, source, x, op.window, (rows, columns), fill=lowest)
        state.add("MAX_POOL_2D", [source], output, pool_options(op.window, padding))
        return
    counts = count_elements(op.window, x, (rows, columns), include_pad=op.count_include_pad)
    write_real_mean(state, source, x, op.window, counts, output)


def write_reduce(state: State, op: FloatReduce) -> None:
    """SUM, MEAN, REDUCE_MAX and REDUCE_MIN."""
    rank, left = len(state.tensor(op.input).shape), len(state.tensor(op.output).shape)
    state.add(
        _REDUCTIONS[op.reduction],
        [state.index(op.input), state.integers(list(range(op.begin, op.end)))],
        state.index(op.output),
        schema.ReducerOptionsT(keepDims=rank == left),
    )


def write_softmax(state: State, op: FloatSoftmax) -> None:
    """SOFTMAX over the last dimension."""
    inputs = [state.index(op.input)]
    state.add("SOFTMAX", inputs, state.index(op.output), schema.SoftmaxOptionsT(beta=1.0))


def write_layer_norm(state: State, op: FloatLayerNorm) -> None:
    """The norm step by step: means, differences, and the reciprocal root."""
    x = state.tensor(op.input)
    rank, depth = len(x.shape), op.scale.ndim
    axes = state.integers(list(range(rank - depth, rank)))
    one = (*x.shape[: rank - depth], *(1,) * depth)

    def step(
        operator: str, part: str, inputs: list[int], shape: tuple[int, ...], options: Any
    ) -> int:
        made = state.codes(f"{op.name}:{part}", shape, x)
        state.add(operator, inputs, made, options)
        return made

    source = state.index(op.input)
    mean = step("MEAN", "mean", [source, axes], one, schema.ReducerOptionsT(keepDims=True))
    apart = step("SUB", "apart", [source, mean], x.shape, schema.SubOptionsT())
    square = step("MUL", "square", [apart, apart], x.shape, schema.MulOptionsT())
    power = step("MEAN", "power", [square, axes], one, schema.ReducerOptionsT(keepDims=True))
    epsilon = state.scalar(op.epsilon)
    moved = step("ADD", "moved", [power, epsilon], one, schema.AddOptionsT())
    root = step("RSQRT", "root", [moved], one, None)
    normal = step("MUL", "normal", [apart, root], x.shape, schema.MulOptionsT())
    scale, bias = (
        state.file.add_tensor(f"{op.name}:{part}", array.shape, np.float32, data=array)
        for part, array in (("scale", op.scale), ("bias", op.bias))
    )
    scaled = step("MUL", "scaled", [normal, scale], x.shape, schema.MulOptionsT())
    state.add("ADD", [scaled, bias], state.index(op.output), schema.AddOptionsT())


def write_resize(state: State, op: FloatResize) -> None:
    """RESIZE_NEAREST_NEIGHBOR, GATHER or RESIZE_BILINEAR."""
    output = state.index(op.output)
    rows, columns = (
        np.asarray(pairs[:, 0] + weights * (pairs[:, 1] - pairs[:, 0]), np.float32)
        for pairs, weights in ((op.rows, op.row_weights), (op.columns, op.column_weights))
    )
    if not np.any(op.rows[:, 0] != op.rows[:, 1]) and not np.any(
        op.columns[:, 0] != op.columns[:, 1]
    ):
        nearest = [[int(place) for place in pairs[:, 0]] for pairs in (op.rows, op.columns)]
        write_nearest(state, op.input, op.output, nearest[0], nearest[1], output)
        return
    flags = find_linear(state.tensor(op.input).shape, rows, columns)
    if flags is None:
        refuse(op, "none of the rules by which TFLite resizes has these places")
    add_resize(state, "RESIZE_BILINEAR", op.input, op.output, flags, output)
