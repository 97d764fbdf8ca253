"""Lowers layers with weights, and products of two tensors, that stay float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.float_program import (
    DynamicFullyConnected,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFullyConnected,
    FloatMatMul,
    Int4Weights,
)
from edgekit.converters.lower.groups import lower_groups, read_bias, read_source_rows
from edgekit.converters.lower.products import read_operands, read_rows
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import Float32Array
from edgekit.converters.quantization import (
    WeightQuantization,
    get_quantization,
    has_float16_weights,
    has_whole_scale,
    is_dynamic,
)
from edgekit.converters.window import read_transposed_window, read_window


def lower_conv(lowering: Lowering, node: ir.Node) -> None:
    """Conv of an image, dense, grouped or depthwise."""
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    x = lowering.channels_last(source)
    weights = np.ascontiguousarray(_weights(lowering, node, 1).transpose(0, 2, 3, 1))
    count, kernel_h, kernel_w, depth = weights.shape
    batch, height, width, channels = x.shape
    groups = attribute(node, "group", 1)
    if depth * groups != channels or count % groups:
        refuse(node, f"{groups} groups of {depth} channels do not fit {channels} inputs")
    try:
        window = read_window(node, (kernel_h, kernel_w), height, width)
    except ValueError as error:
        refuse(node, str(error))
    rows, columns = window.output_size(height, width)
    bias = _bias(lowering, node, 2, count)
    y = lowering.add_real_output(node, (batch, rows, columns, count), channels_last=True)
    name = lowering.op_name(node)
    if groups == channels == count and groups > 1:
        lowering.emit(
            FloatDepthwiseConv(
                name=name,
                input=x.name,
                output=y.name,
                weights=np.ascontiguousarray(weights[..., 0]),
                bias=bias,
                window=window,
                weight_bits=_weight_bits(node),
            )
        )
    else:
        lowering.emit(
            FloatConv(
                name=name,
                input=x.name,
                output=y.name,
                weights=weights,
                bias=bias,
                window=window,
                groups=groups,
                weight_bits=_weight_bits(node),
            )
        )


def lower_conv_transpose(lowering: Lowering, node: ir.Node) -> None:
    """ConvTranspose of an image, dense or grouped."""
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    x = lowering.channels_last(source)
    weights = _weights(lowering, node, 1)
    groups = attribute(node, "group", 1)
    batch, height, width, channels = x.shape
    if len(weights) != channels or channels % groups:
        refuse(
            node, f"weights for {len(weights)} channels in {groups} groups do not fit {channels}"
        )
    # [c, n / groups, kernel_h, kernel_w] to [n, kernel_h, kernel_w, c / groups].
    _, per_group, *kernel = weights.shape
    split = weights.reshape(groups, channels // groups, per_group, *kernel)
    count = groups * per_group
    try:
        window, size = read_transposed_window(node, kernel, height, width)
    except ValueError as error:
        refuse(node, str(error))
    bias = _bias(lowering, node, 2, count)
    y = lowering.add_real_output(node, (batch, *size, count), channels_last=True)
    lowering.emit(
        FloatConvTranspose(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=np.ascontiguousarray(
                split.transpose(0, 2, 3, 4, 1).reshape(count, *kernel, channels // groups)
            ),
            bias=bias,
            window=window,
            groups=groups,
        )
    )


def lower_gemm(lowering: Lowering, node: ir.Node) -> None:
    """Gemm with constant second and third operands; alpha and beta go into them."""
    if attribute(node, "transA", 0):
        refuse(node, "it transposes its first operand")
    codes = _codes(node)
    if codes is not None:
        _emit_codes(lowering, node, codes)
        return
    weights = _weights(lowering, node, 1)
    if not attribute(node, "transB", 0):
        weights = weights.T
    bias = _bias(lowering, node, 2, len(weights))
    alpha, beta = (
        node.attributes[name].as_float() if name in node.attributes else 1.0
        for name in ("alpha", "beta")
    )
    if alpha != 1:
        weights = weights * np.float32(alpha)
    if beta != 1:
        bias = bias * np.float32(beta)
    _emit_fully_connected(lowering, node, weights, bias)


def lower_matmul(lowering: Lowering, node: ir.Node) -> None:
    """MatMul with a constant matrix, or of two computed tensors."""
    codes = _codes(node)
    if codes is not None:
        _emit_codes(lowering, node, codes)
        return
    if lowering.constant(node, 1) is not None:
        weights = _weights(lowering, node, 1)
        if weights.ndim == 2:
            _emit_fully_connected(lowering, node, weights.T, np.zeros(weights.shape[1], np.float32))
            return
    a, b, shape = read_operands(lowering, node)
    y = lowering.add_real_output(node, shape, channels_last=False)
    lowering.emit(FloatMatMul(name=lowering.op_name(node), a=a.name, b=b.name, output=y.name))


def _emit_fully_connected(
    lowering: Lowering, node: ir.Node, weights: Float32Array, bias: Float32Array
) -> None:
    x, weights = read_rows(lowering, node, weights)
    y = lowering.add_real_output(node, (*x.shape[:-1], len(weights)), channels_last=False)
    lowering.emit(
        FloatFullyConnected(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights.astype(np.float32, copy=False),
            bias=bias,
            weight_bits=_weight_bits(node),
        )
    )


def _weight_bits(node: ir.Node) -> int:
    """Returns the bits in which the weights of a float32 layer are stored."""
    return 16 if has_float16_weights(node) else 32


def _codes(node: ir.Node) -> WeightQuantization | None:
    """Returns the record of the weights of a node that multiplies codes of them, None of any other."""
    value = node.inputs[1]
    record = None if value is None else get_quantization(value)
    if not isinstance(record, WeightQuantization) or not (is_dynamic(node) or record.bits == 4):
        return None
    return record


def _emit_codes(lowering: Lowering, node: ir.Node, record: WeightQuantization) -> None:
    """Emits a product with int8 weights whose rows get codes, or with int4 weights, whose rows may."""
    codes = record.codes if record.axis == 0 else record.codes.T
    if not is_dynamic(node):
        _emit_int4(lowering, node, record, codes.astype(np.int8))
    elif record.group:
        lower_groups(lowering, node, record, codes.astype(np.int8))
    else:
        _emit_dynamic(lowering, node, record, read_bias(lowering, node, len(codes)))


def _emit_int4(
    lowering: Lowering, node: ir.Node, record: WeightQuantization, codes: npt.NDArray[np.int8]
) -> None:
    x = read_source_rows(lowering, node, codes.shape[1])
    scale = np.ascontiguousarray(record.scale.reshape(-1, len(codes)), np.float32)
    real = codes.astype(np.float32) * (
        record.spread_scale() if record.axis == 0 else record.spread_scale().T
    )
    y = lowering.add_real_output(node, (*x.shape[:-1], len(codes)), channels_last=False)
    lowering.emit(
        FloatFullyConnected(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=np.ascontiguousarray(real, np.float32),
            bias=read_bias(lowering, node, len(codes)),
            int4=Int4Weights(np.ascontiguousarray(codes), scale, record.group or codes.shape[1]),
        )
    )


def _emit_dynamic(
    lowering: Lowering, node: ir.Node, record: WeightQuantization, bias: Float32Array
) -> None:
    codes = record.codes if record.axis == 0 else record.codes.T
    x, weights = read_rows(lowering, node, codes.astype(np.int8))
    y = lowering.add_real_output(node, (*x.shape[:-1], len(weights)), channels_last=False)
    lowering.emit(
        DynamicFullyConnected(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights,
            multiplier=np.ascontiguousarray(np.broadcast_to(record.scale, (len(weights),))),
            bias=bias,
            weight_bits=record.bits,
            whole=has_whole_scale(node),
        )
    )


def _weights(lowering: Lowering, node: ir.Node, index: int) -> npt.NDArray[np.float32]:
    array = lowering.constant(node, index)
    if array is None:
        refuse(node, "its weights are computed")
    return np.asarray(array, np.float32)


def _bias(lowering: Lowering, node: ir.Node, index: int, count: int) -> Float32Array:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return np.zeros(count, np.float32)
    array = lowering.constant(node, index)
    if array is None or array.size not in (1, count):
        refuse(node, "its bias is computed, or has not one element a channel")
    return np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (count,)), np.float32)
