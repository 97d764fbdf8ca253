"""int4 weights in a file: two to a byte where the engine reads that, else as the int8 codes that they are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx

from edgekit.converters.quantization import WeightQuantization
from edgekit.converters.write_onnx.codes import decode
from edgekit.converters.write_onnx.proto_graph import ProtoGraph
from edgekit.converters.write_onnx.styles import Style

_FIRST_INT4_OPSET = 21


def holds_nibbles(file: ProtoGraph, record: WeightQuantization, style: Style) -> bool:
    """Returns whether weights are written as int4: they are, the engine reads them, and so does the file's opset."""
    return record.bits == 4 and style.reads_int4 and file.opsets.get("", 0) >= _FIRST_INT4_OPSET


def add_weight_codes(file: ProtoGraph, name: str, record: WeightQuantization, style: Style) -> None:
    """Adds the int8 codes ``name`` of weights: a constant, or a Cast of an int4 one.

    ONNX Runtime folds the Cast before it looks for operators on codes, and so computes what it does with int8 codes.
    """
    if not holds_nibbles(file, record, style):
        file.add_constant(name, record.codes)
    elif not file.makes(name):
        source = file.add_constant(f"{name}:int4", record.codes.astype(ml_dtypes.int4))
        file.add_node("Cast", [source], [name], f"{name}:cast", to=onnx.TensorProto.INT8)


def add_blocks(file: ProtoGraph, name: str, record: WeightQuantization, style: Style) -> None:
    """Adds the floats ``name`` of weights with a scale for each group along k."""
    if not holds_nibbles(file, record, style):
        file.add_constant(name, decode(record))
        return
    scale = record.scale if record.axis == 1 else np.ascontiguousarray(record.scale.T)
    inputs = [
        file.add_constant(f"{name}:int4", record.codes.astype(ml_dtypes.int4)),
        file.add_constant(f"{name}:scale", scale),
    ]
    file.add_node(
        "DequantizeLinear",
        inputs,
        [name],
        f"{name}:dequantize",
        axis=1 - record.axis,
        block_size=record.group,
    )
