"""Lowers convolutions and fully connected layers, and proves that their sums stay in int32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.groups import lower_groups
from edgekit.converters.lower.products import lower_product, read_rows
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import (
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Float32Array,
    FullyConnected,
    Int8Array,
    Int32Array,
    Tensor,
)
from edgekit.converters.quantization import ActivationQuantization, WeightQuantization
from edgekit.converters.window import read_transposed_window, read_window

_INT32_MAX = 2**31 - 1


def lower_conv(lowering: Lowering, node: ir.Node) -> None:
    """Conv of an image, dense, grouped or depthwise."""
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    x = lowering.channels_last(source)
    record = lowering.weight(node, 1)
    if record is None:
        refuse(node, "its weight is missing")
    if record.axis != 0 or record.codes.ndim != 4:
        refuse(node, "its weight is not quantized along the output channel")
    weights = np.ascontiguousarray(record.codes.transpose(0, 2, 3, 1), np.int8)
    count, kernel_h, kernel_w, depth = weights.shape
    batch, height, width, channels = x.shape
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if depth * groups != channels or count % groups:
        refuse(
            node,
            f"{groups} groups of {depth} channels do not fit {channels} inputs, {count} outputs",
        )
    try:
        window = read_window(node, (kernel_h, kernel_w), height, width)
    except ValueError as error:
        refuse(node, str(error))
    grid = lowering.grid(node)
    bias, multiplier, weight_scale = _constants(lowering, node, x, record, weights, grid)
    rows, columns = window.output_size(height, width)
    y = lowering.add_output(node, (batch, rows, columns, count), grid, channels_last=True)
    if groups == channels == count and groups > 1:
        lowering.emit(
            DepthwiseConv(
                name=lowering.op_name(node),
                input=x.name,
                output=y.name,
                weights=np.ascontiguousarray(weights[..., 0]),
                bias=bias,
                multiplier=multiplier,
                weight_scale=weight_scale,
                weight_bits=record.bits,
                window=window,
                lo=grid.lo,
                hi=grid.hi,
            )
        )
        return
    lowering.emit(
        Conv(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights,
            bias=bias,
            multiplier=multiplier,
            weight_scale=weight_scale,
            weight_bits=record.bits,
            window=window,
            groups=groups,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def lower_conv_transpose(lowering: Lowering, node: ir.Node) -> None:
    """ConvTranspose of an image, in one group."""
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    if "group" in node.attributes and node.attributes["group"].as_int() != 1:
        refuse(node, "it has groups")
    x = lowering.channels_last(source)
    record = lowering.weight(node, 1)
    if record is None or record.axis != 1 or record.codes.ndim != 4:
        refuse(node, "its weight is not quantized along the output channel")
    weights = np.ascontiguousarray(record.codes.transpose(1, 2, 3, 0), np.int8)
    count, kernel_h, kernel_w, depth = weights.shape
    batch, height, width, channels = x.shape
    if depth != channels:
        refuse(node, f"weights for {depth} channels do not fit {channels} inputs")
    try:
        window, size = read_transposed_window(node, (kernel_h, kernel_w), height, width)
    except ValueError as error:
        refuse(node, str(error))
    grid = lowering.grid(node)
    bias, multiplier, weight_scale = _constants(lowering, node, x, record, weights, grid)
    y = lowering.add_output(node, (batch, *size, count), grid, channels_last=True)
    lowering.emit(
        ConvTranspose(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights,
            bias=bias,
            multiplier=multiplier,
            weight_scale=weight_scale,
            weight_bits=record.bits,
            window=window,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def lower_gemm(lowering: Lowering, node: ir.Node) -> None:
    """Gemm with a constant second operand."""

    def attribute(name: str, default: float) -> float:
        found = node.attributes.get(name)
        if found is None:
            return default
        return found.as_float() if found.type is ir.AttributeType.FLOAT else found.as_int()

    if attribute("transA", 0):
        refuse(node, "it transposes its first operand")
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    if attribute("alpha", 1) != 1 or (has_bias and attribute("beta", 1) != 1):
        refuse(node, "its alpha or beta is not 1")
    _lower_fully_connected(lowering, node, output_axis=0 if attribute("transB", 0) else 1)


def lower_matmul(lowering: Lowering, node: ir.Node) -> None:
    """MatMul with a constant second operand of rank 2, or of two computed tensors."""
    if lowering.constant(node, 1) is None:
        lower_product(lowering, node)
        return
    _lower_fully_connected(lowering, node, output_axis=1)


def _lower_fully_connected(lowering: Lowering, node: ir.Node, output_axis: int) -> None:
    record = lowering.weight(node, 1)
    if record is None or record.codes.ndim != 2 or record.axis != output_axis:
        refuse(node, "its second operand is not a matrix quantized along the output channel")
    codes = record.codes if output_axis == 0 else record.codes.T
    if record.group:
        lower_groups(lowering, node, record, codes.astype(np.int8))
        return
    x, weights = read_rows(lowering, node, codes.astype(np.int8))
    grid = lowering.grid(node)
    bias, multiplier, weight_scale = _constants(lowering, node, x, record, weights, grid)
    y = lowering.add_output(node, (*x.shape[:-1], len(weights)), grid, channels_last=False)
    lowering.emit(
        FullyConnected(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights,
            bias=bias,
            multiplier=multiplier,
            weight_scale=weight_scale,
            weight_bits=record.bits,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def _constants(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    record: WeightQuantization,
    weights: Int8Array,
    grid: ActivationQuantization,
) -> tuple[Int32Array, Float32Array, Float32Array]:
    """Returns the bias int32 ``[n]``, multiplier and scale float32 ``[n]`` of a layer with weights ``[n, ...]``.

    Raises:
        ModelError: The records do not fit together, or a sum could leave int32.
    """
    count = len(weights)
    if np.any(weights == -128):
        refuse(node, "a weight has the code -128, outside [-127, 127]")
    bias_record = lowering.weight(node, 2)
    weight_scale = np.array(np.broadcast_to(record.scale, (count,)), np.float32)
    product_scale = np.float32(x.scale) * weight_scale
    if bias_record is None:
        bias = np.zeros(count, np.int32)
    else:
        if bias_record.codes.size not in (1, count):
            refuse(node, f"its bias has {bias_record.codes.size} elements for {count} channels")
        bias = np.array(np.broadcast_to(bias_record.codes.reshape(-1), (count,)), np.int32)
        if not np.array_equal(np.broadcast_to(bias_record.scale, (count,)), product_scale):
            refuse(node, "the scale of its bias is not that of the input times that of the weight")
    # Kernels may hold 16 times a sum of weights of 4 bits.
    bound = largest_sum(weights, bias, x.zero_point) << (8 - record.bits)
    if bound > _INT32_MAX:
        refuse(node, f"its sums could reach {bound}, which leaves int32")
    multiplier = product_scale / np.float32(grid.scale)
    if not np.all(np.isfinite(multiplier) & (multiplier > 0)):
        refuse(node, "the ratio of its scales is not a positive finite float32")
    return bias, multiplier, weight_scale


def largest_sum(weights: Int8Array, bias: Int32Array, zero_point: int) -> int:
    """Bounds every partial sum of a layer, in any order of summation and either storage of the codes.

    With weights ``[n, ...]``, a code in [-128, 127] or [0, 255] and the zero point's share in the bias:
    ``max over c of max(|bias[c]|, |bias[c] - z * sum w[c]|) + 255 * sum |w[c]|``.
    """
    flat = weights.reshape(len(weights), -1).astype(np.int64)
    total, absolute = flat.sum(axis=1), np.abs(flat).sum(axis=1)
    start = np.abs(bias.astype(np.int64))
    for stored_zero_point in (zero_point, zero_point + 128):
        start = np.maximum(start, np.abs(bias - stored_zero_point * total))
    return int((start + 255 * absolute).max())
