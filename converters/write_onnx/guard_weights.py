"""Keeps ONNX Runtime from rounding the weights of layers that stay float between codes.

Its optimizer (`WeightBiasQuantization`, ONNX Runtime 1.31) gives codes to the float32 weights of a Conv, ConvTranspose
or Gemm, with one scale for all channels, where the input comes from a DequantizeLinear with a single scale and the
output goes to a QuantizeLinear, straight or through Relu and Clip. A DequantizeLinear that has the same scale for each
index of a dimension gives the same floats and is left alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.program import codes_name
from edgekit.converters.quantization import (
    ActivationQuantization,
    get_quantization,
    stays_float,
)
from edgekit.converters.write_onnx.codes import grid_arrays
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.reals import is_real
from edgekit.converters.write_onnx.styles import Style

_ROUNDED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_CLAMPS = frozenset({"Clip", "Relu"})


def guard_weights(file: ProtoGraph, node: ir.Node, style: Style) -> str | None:
    """Adds the floats of the first input of ``node`` in the way that its weights are left alone.

    Args:
        file: Gets the DequantizeLinear.
        node: A node that computes in floats.
        style: Says for whom the file is.

    Returns:
        The name of the floats, None where ONNX Runtime would not touch the weights.
    """
    value = node.inputs[0] if node.inputs else None
    record = None if value is None else get_quantization(value)
    if (
        style.engine != "onnxruntime"
        or node.op_type not in _ROUNDED
        or not stays_float(node)
        or not isinstance(record, ActivationQuantization)
        or value is None
        or is_real(value)
        or not _ends_in_codes(node)
    ):
        return None
    axis, size = _find_axis(value)
    if size == 1:
        return None
    name = f"{value.name}:dequantized:{size}"
    parameters = [
        file.add_constant(f"{value.name}:{label}:{size}", np.repeat(array, size))
        for label, array in zip(("scale", "zero_point"), grid_arrays(record, style), strict=True)
    ]
    inputs = [codes_name(name_of(value)), *parameters]
    if not file.makes(name):
        file.add_node(
            "DequantizeLinear", inputs, [name], f"{value.name}:dequantize:{size}", axis=axis
        )
    return name


def _ends_in_codes(node: ir.Node) -> bool:
    """Whether what ``node`` makes goes to a QuantizeLinear alone, maybe through clamps."""
    value = node.outputs[0]
    while True:
        uses = list(value.uses())
        if value.is_graph_output():
            return False
        readers = [use.node for use in uses]
        if get_quantization(value) is not None:
            return not any(stays_float(reader) for reader in readers)
        if len(readers) != 1 or readers[0].op_type not in _CLAMPS:
            return False
        value = readers[0].outputs[0]


def _find_axis(value: ir.Value) -> tuple[int, int]:
    """Returns a dimension that is longer than 1, and how long it is; the length 1 where none is known to be."""
    sizes = () if value.shape is None else tuple(value.shape)
    for axis, size in enumerate(sizes):
        if isinstance(size, int) and size > 1:
            return axis, size
    return 0, 1
