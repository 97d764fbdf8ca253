"""Writes where codes begin and end: inputs and outputs of the network, as float32 or as codes."""

from __future__ import annotations

from edgekit.converters.program import Dequantize, Quantize
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State


def write_quantize(state: State, op: Quantize) -> None:
    """QUANTIZE; an input of the model that becomes an NHWC image lies NHWC in the file."""
    source, y = state.tensor(op.input), state.tensor(op.output)
    if y.channels_last and not source.channels_last:
        state.channels_last.add(op.input)
        state.put(op.input, state.file.add_tensor(op.input, y.shape, source.dtype.numpy))
    state.add(
        "QUANTIZE", [state.index(op.input)], state.index(op.output), schema.QuantizeOptionsT()
    )


def write_dequantize(state: State, op: Dequantize) -> None:
    """DEQUANTIZE; an output of the model that comes from an NHWC image lies NHWC in the file."""
    source, y = state.tensor(op.input), state.tensor(op.output)
    if source.channels_last and not y.channels_last:
        state.channels_last.add(op.output)
        state.put(op.output, state.file.add_tensor(op.output, source.shape, y.dtype.numpy))
    state.add(
        "DEQUANTIZE", [state.index(op.input)], state.index(op.output), schema.DequantizeOptionsT()
    )
