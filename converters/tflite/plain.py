"""Writes operators on plain numbers: whole ones, bools and float32."""

from __future__ import annotations

import numpy as np

from edgekit.converters.plain_program import (
    ArgExtreme,
    Cast,
    Compare,
    Comparison,
    Expand,
    Extreme,
    Gather,
    IntegerBinary,
    IntegerOperator,
    Where,
)
from edgekit.converters.program import DType
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

# What BROADCAST_TO takes.
_MOST_DIMENSIONS = 8
_COMPARISONS = {
    Comparison.EQUAL: ("EQUAL", schema.EqualOptionsT),
    Comparison.LESS: ("LESS", schema.LessOptionsT),
    Comparison.LESS_OR_EQUAL: ("LESS_EQUAL", schema.LessEqualOptionsT),
}
_LOGIC = {
    IntegerOperator.AND: ("LOGICAL_AND", schema.LogicalAndOptionsT),
    IntegerOperator.OR: ("LOGICAL_OR", schema.LogicalOrOptionsT),
    IntegerOperator.XOR: ("NOT_EQUAL", schema.NotEqualOptionsT),
}
# What TFLite's kernels of comparisons take; EQUAL takes bools as well.
_COMPARED = frozenset({DType.FLOAT32, DType.INT32, DType.INT64})
# What SELECT_V2 chooses from, besides codes of 8 bits.
_CHOSEN = frozenset({DType.FLOAT32, DType.INT32, DType.INT64, DType.BOOL, DType.CODE})
# Dimensions that they and SELECT_V2 broadcast.
_MOST_COMPARED = 4


def write_expand(state: State, op: Expand) -> None:
    """BROADCAST_TO."""
    shape = state.tensor(op.output).shape
    if len(shape) > _MOST_DIMENSIONS:
        refuse(op, f"it makes {len(shape)} dimensions, more than TFLite's BROADCAST_TO")
    inputs = [state.index(op.input), state.integers(shape)]
    state.add("BROADCAST_TO", inputs, state.index(op.output), schema.BroadcastToOptionsT())


def write_compare(state: State, op: Compare) -> None:
    """EQUAL, LESS or LESS_EQUAL."""
    a, b = state.tensor(op.a), state.tensor(op.b)
    is_logic = op.comparison is Comparison.EQUAL and a.dtype is DType.BOOL
    if a.dtype not in _COMPARED and not is_logic:
        refuse(op, f"TFLite compares no {a.dtype.value} so")
    if a.shape != b.shape and max(len(a.shape), len(b.shape)) > _MOST_COMPARED:
        refuse(op, f"TFLite broadcasts at most {_MOST_COMPARED} dimensions there")
    operator, options = _COMPARISONS[op.comparison]
    inputs = [state.index(op.a), state.index(op.b)]
    state.add(operator, inputs, state.index(op.output), options())


def write_gather(state: State, op: Gather) -> None:
    """GATHER, which wants places that lie inside: constants are brought there, others are taken at their word."""
    indices = op.indices
    places = state.program.constants.get(indices)
    if places is not None:
        size = state.tensor(op.input).shape[op.axis]
        inside = np.where(places < 0, places + size, places).clip(0, size - 1)
        source = state.file.add_parameter("places", inside.astype(np.int32))
    else:
        source = state.index(indices)
    state.add(
        "GATHER",
        [state.index(op.input), source],
        state.index(op.output),
        schema.GatherOptionsT(axis=op.axis),
    )


def write_arg_extreme(state: State, op: ArgExtreme) -> None:
    """ARG_MAX or ARG_MIN, which drop the dimension and find the first place."""
    if op.last:
        refuse(op, "it looks for the last of equal elements, and TFLite finds the first")
    x, y = state.tensor(op.input), state.tensor(op.output)
    inputs = [state.index(op.input), state.integers([op.axis])]
    shape = (*x.shape[: op.axis], *x.shape[op.axis + 1 :])
    target = state.index(op.output)
    found = target if shape == y.shape else state.codes(f"{op.name}:places", shape, y)
    if op.extreme is Extreme.MAX:
        state.add("ARG_MAX", inputs, found, schema.ArgMaxOptionsT(schema.TensorType.INT64))
    else:
        state.add("ARG_MIN", inputs, found, schema.ArgMinOptionsT(schema.TensorType.INT64))
    if found != target:
        options = schema.ReshapeOptionsT(newShape=np.array(y.shape, np.int32))
        state.add("RESHAPE", [found, state.integers(y.shape)], target, options)


def write_where(state: State, op: Where) -> None:
    """SELECT_V2."""
    tensors = [state.tensor(name) for name in (op.condition, op.a, op.b)]
    if tensors[1].dtype not in _CHOSEN:
        refuse(op, f"TFLite's SELECT_V2 takes no {tensors[1].dtype.value}")
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) > 1 and max(len(shape) for shape in shapes) > _MOST_COMPARED:
        refuse(op, f"TFLite broadcasts at most {_MOST_COMPARED} dimensions there")
    inputs = [state.index(name) for name in (op.condition, op.a, op.b)]
    state.add("SELECT_V2", inputs, state.index(op.output), schema.SelectV2OptionsT())


def write_logic(state: State, op: IntegerBinary) -> None:
    """LOGICAL_AND, LOGICAL_OR, or NOT_EQUAL where one of two is true and not both."""
    if op.operator not in _LOGIC:
        refuse(op, f"this version writes no {op.operator.value} of whole numbers to TFLite files")
    a, b = state.tensor(op.a), state.tensor(op.b)
    if a.shape != b.shape and max(len(a.shape), len(b.shape)) > _MOST_COMPARED:
        refuse(op, f"TFLite broadcasts at most {_MOST_COMPARED} dimensions there")
    operator, options = _LOGIC[op.operator]
    inputs = [state.index(op.a), state.index(op.b)]
    state.add(operator, inputs, state.index(op.output), options())


def write_cast(state: State, op: Cast) -> None:
    """CAST."""
    state.add("CAST", [state.index(op.input)], state.index(op.output), schema.CastOptionsT())
