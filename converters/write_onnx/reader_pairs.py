"""Writes a pair of QuantizeLinear and DequantizeLinear before each reader that computes on codes, for TensorRT.

The placement follows NVIDIA's "Q/DQ Layer-Placement Recommendations" (TensorRT documentation, "Explicit
Quantization"): all inputs of an operator with weights get pairs, its output gets none; of a sum behind such an
operator the other input gets one, so that the sum goes into the operator; what only moves elements gets none, since
TensorRT moves pairs across it. Weights and biases are floats, weights behind a pair with a scale for each channel.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.program import MAX_CODE, MIN_CODE, codes_name
from edgekit.converters.quantizable import BINARY, LAYERS
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
    stays_float,
)
from edgekit.converters.write_onnx.codes import (
    bound,
    decode,
    grid_arrays,
    weight_arrays,
)
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.reals import serves_floats
from edgekit.converters.write_onnx.styles import Style
from edgekit.targets.errors import ModelError

# What TensorRT computes on codes and does not move pairs across.
READERS = LAYERS | BINARY | {"AveragePool", "GlobalAveragePool"}


def write_reader_pairs(model: ir.Model, style: Style) -> onnx.ModelProto:
    """Returns ``model`` with pairs on the edges to what computes on codes; values keep their names and are floats.

    Raises:
        ModelError: The zero point of a value is not 0.
    """
    file = ProtoGraph(model)
    for value in model.graph.initializers.values():
        if value.uses() or value.is_graph_output():
            _add_initializer(file, value)
    readers: Counter[str] = Counter()
    for node in model.graph:
        proto = ir.serde.serialize_node(node)
        for index in _quantized_inputs(node):
            name = proto.input[index]
            record = get_quantization(node.inputs[index])  # type: ignore[arg-type]
            if isinstance(record, ActivationQuantization):
                readers[name] += 1
                proto.input[index] = _add_pair(file, name, readers[name], record, style)
        file.nodes.append(proto)
        for index, value in enumerate(node.outputs):
            record = get_quantization(value)
            if isinstance(record, ActivationQuantization):
                _check(value, record)
                if (record.lo, record.hi) != (MIN_CODE, MAX_CODE):
                    name = name_of(value)
                    proto.output[index] = f"{name}:float"
                    lo, hi = (
                        -np.inf if record.lo == MIN_CODE else bound(record, record.lo),
                        np.inf if record.hi == MAX_CODE else bound(record, record.hi),
                    )
                    file.add_clamp(f"{name}:float", name, np.float32(lo), np.float32(hi))
    return file.finish()


def _quantized_inputs(node: ir.Node) -> list[int]:
    """Returns the inputs of ``node`` that get a pair."""
    if node.domain or node.op_type not in READERS:
        return []
    if node.op_type == "MatMul" and all(_has_grid(value) for value in node.inputs):
        return [0, 1]
    if stays_float(node):
        return []
    if node.op_type in LAYERS:
        return [0]
    indices = list(range(2 if node.op_type in BINARY else 1))
    if node.op_type == "Add":
        for index in indices:
            if _ends_in_sum(node.inputs[index]):
                return [1 - index]
    return indices


def _has_grid(value: ir.Value | None) -> bool:
    return value is not None and isinstance(get_quantization(value), ActivationQuantization)


def _ends_in_sum(value: ir.Value | None) -> bool:
    """Whether a layer makes ``value`` for one sum alone, which it can then compute."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return False
    maker, record = value.producer(), get_quantization(value)
    if maker is None or not isinstance(record, ActivationQuantization):
        return False
    if stays_float(maker):
        return False
    return maker.op_type in LAYERS and (record.lo, record.hi) == (MIN_CODE, MAX_CODE)


def _add_initializer(file: ProtoGraph, value: ir.Value) -> None:
    record, name = get_quantization(value), name_of(value)
    if not isinstance(record, WeightQuantization):
        file.copy_constant(value)
        return
    if record.codes.dtype == np.int32 or record.group or serves_floats(value):
        file.add_constant(name, decode(record))
        return
    scale, zero_point, axis = weight_arrays(record)
    source = file.add_constant(f"{name}:real", decode(record))
    parameters = [
        file.add_constant(f"{name}:scale", scale),
        file.add_constant(f"{name}:zero_point", zero_point),
    ]
    attributes: dict[str, int] = {} if axis is None else {"axis": axis}
    codes, node = codes_name(name), f"{name}:quantize"
    file.add_node("QuantizeLinear", [source, *parameters], [codes], node, "", **attributes)
    node = f"{name}:dequantize"
    file.add_node("DequantizeLinear", [codes, *parameters], [name], node, "", **attributes)


def _add_pair(
    file: ProtoGraph, name: str, count: int, record: ActivationQuantization, style: Style
) -> str:
    """Adds the pair of the ``count``th reader of ``name``; returns what that reader reads."""
    scale, zero_point = grid_arrays(record, style)
    parameters = [
        file.add_constant(f"{name}:scale", scale),
        file.add_constant(f"{name}:zero_point", zero_point),
    ]
    mark = "" if count == 1 else f":{count}"
    codes, result = codes_name(name) + mark, f"{name}:dequantized{mark}"
    file.add_node("QuantizeLinear", [name, *parameters], [codes], f"{name}:quantize{mark}")
    file.add_node("DequantizeLinear", [codes, *parameters], [result], f"{name}:dequantize{mark}")
    return result


def _check(value: ir.Value, record: ActivationQuantization) -> None:
    if record.zero_point:
        raise ModelError(
            f"value {value.name!r} has the zero point {record.zero_point}, and TensorRT takes 0 alone: "
            "quantize with RangeChoice(symmetric=True)"
        )
