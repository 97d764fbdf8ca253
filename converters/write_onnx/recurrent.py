"""Writes recurrent nodes whose weights have codes.

Where ONNX Runtime has an operator for them, LSTM alone, it multiplies codes: x and h get theirs at each step, with one
scale for all rows and a zero point (``com.microsoft.DynamicQuantizeLSTM``). Any other node reads float weights that are
made of the codes when a session is, by operators that engines fold: the file is as small. By way of int32, since
OpenVINO keeps int8 that becomes float at once for layers that read codes of weights, and recurrent ones cannot.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.program import codes_name
from edgekit.converters.quantization import RowQuantization, get_quantization, has_int8_rows
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.styles import Style

_MICROSOFT = "com.microsoft"
# Inputs of an LSTM, behind which those of its codes lie.
_LSTM_INPUTS = 8


def has_codes(value: ir.Value | None) -> bool:
    """Returns whether ``value`` is a recurrent node's weights with codes, which `add_codes` writes."""
    return value is not None and isinstance(get_quantization(value), RowQuantization)


def add_codes(file: ProtoGraph, node: ir.Node, proto: onnx.NodeProto, style: Style) -> None:
    """Lets ``proto``, written for a recurrent ``node``, read the codes of its weights.

    Args:
        file: Gets the codes.
        node: May be of any kind; those without such weights are left alone.
        proto: Is changed; its outputs stay.
        style: Of the file.
    """
    if not has_int8_rows(node):
        return
    layout = node.attributes.get("layout")
    batch_first = layout is not None and layout.as_int() == 1
    if style.multiplies_dynamically and node.op_type == "LSTM" and not batch_first:
        _write_lstm(file, node, proto)
    else:
        for index in (1, 2):
            proto.input[index] = _decode(file, node.inputs[index])


def _write_lstm(file: ProtoGraph, node: ir.Node, proto: onnx.NodeProto) -> None:
    """Makes ``proto`` a DynamicQuantizeLSTM, whose weights are ``[directions, k, rows]``."""
    given = [*proto.input, *[""] * (_LSTM_INPUTS - len(proto.input))]
    grids = []
    for index in (1, 2):
        value = node.inputs[index]
        assert value is not None
        name, record = name_of(value), _record(value)
        given[index] = file.add_constant(codes_name(name), record.codes.swapaxes(1, 2))
        zero_points = np.zeros(record.scale.shape, np.int8)
        grids += [
            file.add_constant(f"{name}:scale", record.scale),
            file.add_constant(f"{name}:zero_point", zero_points),
        ]
    kept = [entry for entry in proto.attribute if entry.name != "layout"]
    del proto.attribute[:]
    proto.attribute.extend(kept)
    proto.input[:] = [*given, *grids]
    proto.op_type, proto.domain = "DynamicQuantizeLSTM", _MICROSOFT
    file.opsets.setdefault(_MICROSOFT, 1)


def _decode(file: ProtoGraph, value: ir.Value | None) -> str:
    """Adds what makes float weights of their codes; returns the name of those."""
    assert value is not None
    name, record = name_of(value), _record(value)
    source = file.add_constant(codes_name(name), record.codes)
    scale = file.add_constant(f"{name}:scale", record.scale[..., None])
    for kind, label in ((onnx.TensorProto.INT32, "whole"), (onnx.TensorProto.FLOAT, "real")):
        result = f"{name}:{label}"
        file.add_node("Cast", [source], [result], f"{name}:to_{label}", to=kind)
        source = result
    file.add_node("Mul", [source, scale], [name], f"{name}:dequantize")
    return name


def _record(value: ir.Value) -> RowQuantization:
    record = get_quantization(value)
    assert isinstance(record, RowQuantization)
    return record
