"""Takes QuantizeLinear and DequantizeLinear out of an ONNX graph, and returns what they said of its values.

What is left is the float network; the records (``own_scales.py``) make the quantized one of it again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names, new_name
from edgekit.converters.program import MAX_CODE, MIN_CODE
from edgekit.converters.quantizable import BINARY, LAYERS
from edgekit.converters.quantization import (
    ActivationQuantization,
    Quantization,
    WeightQuantization,
)
from edgekit.targets.errors import ModelError

# By the names of values; None for weights whose codes do not fit int8 around 0.
Records = dict[str, Quantization | None]

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
_SHIFTS = {ir.DataType.INT8: 0, ir.DataType.UINT8: -128}
_WEIGHT_LIMIT = 127
_NIBBLES_KEY = "edgekit.int4_codes"
# Operators whose results writers of quantized files clamp by the range of a grid, without a Relu.
_CLAMPED = LAYERS | BINARY | {"BatchNormalization", "InstanceNormalization"}


def has_codes(model: ir.Model) -> bool:
    """Returns whether a value of ``model`` is dequantized, or is given as codes."""
    return any(
        _is(node, _DEQUANTIZE) or (_is(node, _QUANTIZE) and node.outputs[0].is_graph_output())
        for node in model.graph
    )


def take_codes(model: ir.Model) -> Records:
    """Makes ``model`` a float network, in place; returns the records of its values by name.

    Inputs and outputs that are codes become numbers. Values that are quantized in several ways, or are read as numbers
    too, get an Identity for each way, so that none is rounded that was not.

    Raises:
        ModelError: Codes are made by something else than QuantizeLinear, have several scales where a tensor can have
            one, or are neither int8 nor uint8; names the node.
    """
    graph = model.graph
    forget_names(graph)
    records: Records = {}
    for node in tuple(graph):
        if node.op_type == "Cast" and not node.domain:
            _widen_nibbles(graph, node)
    for node in tuple(graph):
        if _is(node, _QUANTIZE):
            _take_quantize(graph, node, records)
    for node in tuple(graph):
        if _is(node, _DEQUANTIZE):
            _take_dequantize(graph, node, records)
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype in _SHIFTS and value.name in records:
            value.dtype = ir.DataType.FLOAT
    forget_names(graph)
    return records


def _take_quantize(graph: ir.Graph, node: ir.Node, records: Records) -> None:
    """Lets the numbers of a QuantizeLinear stand for its codes, where a DequantizeLinear or the user reads those."""
    source, codes = node.inputs[0], node.outputs[0]
    assert source is not None
    readers = [use.node for use in codes.uses()]
    wrong = [reader for reader in readers if not _is(reader, _DEQUANTIZE)]
    if wrong:
        raise ModelError(
            f"node '{wrong[0].name}' ({wrong[0].op_type}) computes on codes; only QuantizeLinear and DequantizeLinear "
            "between float operators are read: write the model so (QDQ)"
        )
    if constant(source) is not None:
        _fold(graph, node)
        return
    record = _activation(node)
    other = [reader for reader in readers if _activation(reader) != record]
    if other:
        raise ModelError(
            f"node '{other[0].name}' (DequantizeLinear) reads the codes of '{node.name}' with another scale or zero "
            "point; calibrate the float model instead"
        )
    known = records.get(str(source.name))
    uses = [use.node for use in source.uses()]
    shared = source.is_graph_output() or any(
        not _is(user, _QUANTIZE) or _differs(user, node) for user in uses
    )
    holder = source
    if not shared and known is None and _saturates(record) and _can_clamp(source):
        holder = _add_clamp(graph, node, source, record)
    if (shared and not source.is_graph_input()) or (known is not None and known != record):
        copy = ir.node("Identity", [source], name=f"{node.name}:copy")
        copy.outputs[0].name = new_name(graph, f"{source.name}:rounded")
        copy.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        copy.outputs[0].shape = source.shape
        graph.insert_before(node, copy)
        holder = copy.outputs[0]
    records[str(holder.name)] = record
    for reader in readers:
        _replace(graph, reader, holder, records)
        graph.remove(reader, safe=True)
    if codes.is_graph_output():
        _replace(graph, node, holder, records)
    graph.remove(node, safe=True)


def _saturates(record: ActivationQuantization) -> bool:
    """Returns whether a grid ends at 0, as one does into whose range a Relu went."""
    return record.zero_point in (MIN_CODE, MAX_CODE)


def _can_clamp(value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and not maker.domain and maker.op_type in _CLAMPED


def _add_clamp(
    graph: ir.Graph, node: ir.Node, source: ir.Value, record: ActivationQuantization
) -> ir.Value:
    """Returns ``source`` within the ends of its grid: the float network has the clamp that the codes have."""
    ends = [
        add_initializer(
            graph,
            f"{node.name}:{name}",
            np.array(np.float32(code - record.zero_point) * np.float32(record.scale), np.float32),
        )
        for name, code in (("lo", MIN_CODE), ("hi", MAX_CODE))
    ]
    clamp = ir.node("Clip", [source, *ends], name=f"{node.name}:clamp")
    clamp.outputs[0].name = new_name(graph, f"{source.name}:clamped")
    clamp.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    clamp.outputs[0].shape = source.shape
    graph.insert_before(node, clamp)
    return clamp.outputs[0]


def _widen_nibbles(graph: ir.Graph, node: ir.Node) -> None:
    """Computes a Cast of int4 constants to int8, as writers have it for engines that know no int4 operators."""
    source = node.inputs[0]
    codes = constant(source)
    if source is None or codes is None or source.dtype != ir.DataType.INT4:
        return
    if node.attributes["to"].as_int() != ir.DataType.INT8.value:
        return
    value = add_initializer(graph, str(node.outputs[0].name), codes.astype(np.int8))
    value.meta[_NIBBLES_KEY] = True
    node.outputs[0].replace_all_uses_with(value)
    graph.remove(node, safe=True)


def _differs(node: ir.Node, other: ir.Node) -> bool:
    return _activation(node) != _activation(other)


def _take_dequantize(graph: ir.Graph, node: ir.Node, records: Records) -> None:
    """Replaces a DequantizeLinear of a constant or an input."""
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    codes = constant(source)
    if codes is None:
        if not source.is_graph_input():
            maker = source.producer()
            name = "" if maker is None else f"{maker.op_type} '{maker.name}'"
            raise ModelError(
                f"node '{node.name}' (DequantizeLinear) reads codes that {name} computes; only QuantizeLinear and "
                "DequantizeLinear between float operators are read: write the model so (QDQ)"
            )
        record = _activation(node)
        readers = [use.node for use in source.uses()]
        if any(not _is(reader, _DEQUANTIZE) or _activation(reader) != record for reader in readers):
            raise ModelError(
                f"node '{node.name}' (DequantizeLinear): others read input '{source.name}' as something else than "
                "these codes; calibrate the float model instead"
            )
        records[str(source.name)] = record
        source.dtype = ir.DataType.FLOAT
        _replace(graph, node, source, records)
        graph.remove(node, safe=True)
        return
    scale, zero_point, axis = _parameters(node)
    sizes = [1] * codes.ndim
    if scale.size > 1:
        sizes[axis] = scale.size
        scale_, zero_ = scale.reshape(sizes), zero_point.reshape(sizes)
    else:
        scale_, zero_ = scale.reshape(()), zero_point.reshape(())
    centered = np.asarray(codes).astype(np.int64) - zero_
    value = add_initializer(
        graph, str(output.name), np.asarray(centered.astype(np.float32) * scale_, np.float32)
    )
    records[str(value.name)] = _constant_record(node, source, centered, scale, axis)
    _replace(graph, node, value, records)
    graph.remove(node, safe=True)


def _constant_record(
    node: ir.Node,
    source: ir.Value,
    centered: npt.NDArray[np.int64],
    scale: npt.NDArray[np.float32],
    axis: int,
) -> Quantization | None:
    """Returns what a constant carries: codes of a layer's weights or bias, or the grid of an operand."""
    uses = [(use.node, use.idx) for use in node.outputs[0].uses()]
    if all(user.op_type in LAYERS and index > 0 for user, index in uses):
        if source.dtype == ir.DataType.INT32:
            whole = np.broadcast_to(scale, (centered.size,)).astype(np.float32)
            return WeightQuantization(centered.reshape(-1).astype(np.int32), whole, 0)
        if np.abs(centered).max(initial=0) > _WEIGHT_LIMIT:
            return None
        if scale.size == 1:
            axis = _output_axis(*uses[0]) if uses else 0
            scale = np.broadcast_to(scale.reshape(-1), (centered.shape[axis],))
        is_int4 = source.dtype == ir.DataType.INT4 or source.meta.get(_NIBBLES_KEY, False)
        bits = (
            4 if is_int4 and centered.min(initial=0) >= -8 and centered.max(initial=0) <= 7 else 8
        )
        codes = centered.astype(np.int8)
        return WeightQuantization(codes, scale.astype(np.float32), axis, bits=bits)
    return _activation(node) if source.dtype in _SHIFTS and scale.size == 1 else None


def _output_axis(node: ir.Node, _index: int) -> int:
    """Returns the dimension of a layer's weights with its output channels."""
    transposed = node.attributes.get("transB")
    first = node.op_type == "Conv" or (transposed is not None and transposed.as_int() == 1)
    return 0 if first else 1


def _fold(graph: ir.Graph, node: ir.Node) -> None:
    """Computes the codes of a constant."""
    source = node.inputs[0]
    array = constant(source)
    assert array is not None
    scale, zero_point, axis = _parameters(node)
    sizes = [1] * array.ndim
    if scale.size > 1:
        sizes[axis] = scale.size
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    dtype = np.dtype(np.uint8) if zero is None or zero.dtype is None else zero.dtype.numpy()
    limits = np.iinfo(dtype)
    shape = sizes if array.ndim else ()
    codes = np.rint(array.astype(np.float32) / scale.reshape(shape)) + zero_point.reshape(shape)
    value = add_initializer(
        graph, str(node.outputs[0].name), np.clip(codes, limits.min, limits.max).astype(dtype)
    )
    node.outputs[0].replace_all_uses_with(value)
    graph.remove(node, safe=True)


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value, records: Records) -> None:
    """Lets ``value`` stand for the output of ``node``; an output of the graph keeps its name."""
    output = node.outputs[0]
    if not output.is_graph_output():
        output.replace_all_uses_with(value)
        return
    name = str(output.name)
    if not (value.is_graph_input() or value.is_graph_output() or value.is_initializer()):
        known = str(value.name) in records
        record = records.pop(str(value.name), None)
        value.shape = value.shape or output.shape
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        output.name, value.name = None, name
        if known:
            records[name] = record
        return
    copy = ir.node("Identity", [value], name=f"{node.name}:output")
    copy.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    copy.outputs[0].shape = output.shape
    graph.insert_before(node, copy)
    output.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
    output.name = None
    copy.outputs[0].name = name
    if str(value.name) in records:
        records[name] = records[str(value.name)]


def _activation(node: ir.Node) -> ActivationQuantization:
    """Returns the grid of a tensor with one scale, in int8.

    Raises:
        ModelError: It has several, or other codes.
    """
    scale, zero_point, _ = _parameters(node)
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    codes = node.inputs[0] if _is(node, _DEQUANTIZE) else node.outputs[0]
    known = codes if zero is None else zero
    dtype = ir.DataType.UINT8 if known is None or known.dtype is None else known.dtype
    if dtype not in _SHIFTS or scale.size != 1:
        raise ModelError(
            f"node '{node.name}' ({node.op_type}) has {scale.size} scales and codes of {dtype}; activations are read "
            "in int8 or uint8 with one scale: calibrate the float model instead"
        )
    return ActivationQuantization(
        np.float32(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]) + _SHIFTS[dtype]
    )


def _parameters(node: ir.Node) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    """Returns scales, zero points and the dimension that has them."""
    scales = constant(node.inputs[1])
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1, np.int64)
    if scales is None or zero is None:
        raise ModelError(
            f"node '{node.name}' ({node.op_type}): its scale or zero point is computed"
        )
    scale: npt.NDArray[np.float32] = scales.astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ModelError(f"node '{node.name}' ({node.op_type}): a scale is not a positive number")
    block = node.attributes.get("block_size")
    if scale.ndim > 1 or (block is not None and block.as_int()):
        raise ModelError(
            f"node '{node.name}' ({node.op_type}): scales by blocks are not read; calibrate the float model"
        )
    zero_point = np.asarray(zero).astype(np.int64).reshape(-1)
    source = node.inputs[0]
    rank = 1 if source is None or source.shape is None else max(source.shape.rank(), 1)
    found = node.attributes.get("axis")
    axis = (1 if found is None else found.as_int()) % rank
    whole = np.broadcast_to(zero_point, scale.reshape(-1).shape)
    sizes = None if source is None or source.shape is None else list(source.shape)
    if scale.size > 1 and (sizes is None or sizes[axis] != scale.size):
        raise ModelError(
            f"node '{node.name}' ({node.op_type}): {scale.size} scales do not fit dimension {axis}"
        )
    return scale.reshape(-1), np.array(whole), axis


def _is(node: ir.Node, op: str) -> bool:
    return node.op_type == op and node.domain in _DOMAINS
