"""Tells which values of a quantized graph are there in floats, whatever codes they have besides."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.quantization import stays_float


def is_real(value: ir.Value) -> bool:
    """Returns whether ``value`` is there in floats before it has codes, if it has any: inputs, and what floats make."""
    maker = value.producer()
    return value.is_graph_input() if maker is None else stays_float(maker)


def serves_floats(weight: ir.Value) -> bool:
    """Returns whether all that reads ``weight`` stays float: codes of it then stand for their numbers alone."""
    return all(stays_float(use.node) for use in weight.uses())
