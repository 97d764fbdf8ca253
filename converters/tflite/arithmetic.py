"""Writes arithmetic on codes without weights: sums, products, changes of scale, means and softmax."""

from __future__ import annotations

from functools import partial

import numpy as np

from edgekit.converters.program import (
    Binary,
    BinaryKind,
    GlobalMean,
    MatMul,
    Requantize,
    Softmax,
    Tensor,
)
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

_UNIT_SCALE = np.float32(1 / 256)
_OPTIONS = {
    BinaryKind.ADD: ("ADD", partial(schema.AddOptionsT, potScaleInt16=False)),
    BinaryKind.SUB: ("SUB", partial(schema.SubOptionsT, potScaleInt16=False)),
    BinaryKind.MUL: ("MUL", schema.MulOptionsT),
    BinaryKind.MAX: ("MAXIMUM", schema.MaximumMinimumOptionsT),
    BinaryKind.MIN: ("MINIMUM", schema.MaximumMinimumOptionsT),
}


def write_binary(state: State, op: Binary) -> None:
    """ADD, SUB, MUL, MAXIMUM and MINIMUM; the last two want one grid for all three tensors."""
    operator, options = _OPTIONS[op.binary]
    operands = [state.index(op.a), state.index(op.b)]
    if op.binary in (BinaryKind.MAX, BinaryKind.MIN):
        operands = [on_grid(state, name, state.tensor(op.output)) for name in (op.a, op.b)]
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    state.add(operator, operands, y, options())
    clamp()


def write_product(state: State, op: MatMul) -> None:
    """BATCH_MATMUL."""
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    options = schema.BatchMatMulOptionsT(adjX=False, adjY=op.transposed)
    state.add("BATCH_MATMUL", [state.index(op.a), state.index(op.b)], y, options)
    clamp()


def write_requantize(state: State, op: Requantize) -> None:
    """A change of scale; see `change_scale`."""
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    change_scale(state, state.index(op.input), y)
    clamp()


def on_grid(state: State, name: str, like: Tensor) -> int:
    """Returns the tensor ``name`` on the grid of ``like``."""
    tensor = state.tensor(name)
    if (tensor.scale, tensor.zero_point) == (like.scale, like.zero_point):
        return state.index(name)
    result = state.codes(f"{name}:requantized", tensor.shape, like)
    change_scale(state, state.index(name), result)
    return result


def change_scale(state: State, source: int, output: int) -> None:
    """Brings codes to the grid of ``output``: MUL by a code that stands for 1.

    So ``(q - z_x) * float32(s_x / s_y)`` is rounded once, as docs/arithmetic.md has it. QUANTIZE between codes would
    be the operator by name, but XNNPACK computes it with a ratio of 8 fractional bits.
    """
    state.add("MUL", [source, state.factor(1.0)], output, schema.MulOptionsT())


def write_global_mean(state: State, op: GlobalMean) -> None:
    """MEAN over height and width."""
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    inputs = [state.index(op.input), state.integers([1, 2])]
    state.add("MEAN", inputs, y, schema.ReducerOptionsT(keepDims=True))
    clamp()


def write_softmax(state: State, op: Softmax) -> None:
    """SOFTMAX, which TFLite has for results in 1/256 alone."""
    y = state.tensor(op.output)
    if y.scale != _UNIT_SCALE or y.zero_point != -128:
        refuse(
            op, f"its result is on the grid of {y.scale:g}, and TFLite has softmax in 1/256 alone"
        )
    inputs = [state.index(op.input)]
    state.add("SOFTMAX", inputs, state.index(op.output), schema.SoftmaxOptionsT(beta=1.0))
