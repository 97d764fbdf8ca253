"""Writes operators that move elements and compute nothing; those of float32 and of codes are the same."""

from __future__ import annotations

import numpy as np

from edgekit.converters.program import Concat, DType, Pad, Reshape, Slice, Transpose
from edgekit.converters.tflite.arithmetic import on_grid
from edgekit.converters.tflite.padding import pad_to
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State


def write_reshape(state: State, op: Reshape) -> None:
    """RESHAPE."""
    shape = state.tensor(op.output).shape
    state.add(
        "RESHAPE",
        [state.index(op.input), state.integers(shape)],
        state.index(op.output),
        schema.ReshapeOptionsT(newShape=np.array(shape, np.int32)),
    )


def write_transpose(state: State, op: Transpose) -> None:
    """TRANSPOSE."""
    state.add(
        "TRANSPOSE",
        [state.index(op.input), state.integers(op.permutation)],
        state.index(op.output),
        schema.TransposeOptionsT(),
    )


def write_concat(state: State, op: Concat) -> None:
    """CONCATENATION of parts that were brought to one grid."""
    y = state.tensor(op.output)
    is_real = y.dtype is DType.FLOAT32
    parts = [state.index(part) if is_real else on_grid(state, part, y) for part in op.parts]
    options = schema.ConcatenationOptionsT(axis=op.axis)
    state.add("CONCATENATION", parts, state.index(op.output), options)


def write_pad(state: State, op: Pad) -> None:
    """PAD, or PADV2 where it is not with what stands for 0."""
    x = state.tensor(op.input)
    fill = None if x.dtype is DType.FLOAT32 else op.value
    pad_to(state, state.index(op.input), x, list(op.pads), fill, state.index(op.output))


def write_slice(state: State, op: Slice) -> None:
    """SLICE, or STRIDED_SLICE where it skips or runs backwards."""
    shape = state.tensor(op.output).shape
    source, output = state.index(op.input), state.index(op.output)
    if all(step == 1 for step in op.step):
        inputs = [source, state.integers(op.begin), state.integers(shape)]
        state.add("SLICE", inputs, output, schema.SliceOptionsT())
        return
    ends = [begin + step * size for begin, step, size in zip(op.begin, op.step, shape, strict=True)]
    # An end before the first element cannot be told from one that counts from the last.
    mask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    inputs = [source, *(state.integers(values) for values in (op.begin, ends, op.step))]
    state.add("STRIDED_SLICE", inputs, output, schema.StridedSliceOptionsT(endMask=mask))
