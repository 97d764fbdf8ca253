"""Lowers layers that are computed in 16x8 between float32 tensors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.lower.groups import read_bias
from edgekit.converters.lower.products import read_rows
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import Int8Array, Tensor, Window
from edgekit.converters.quantization import WeightQuantization, WideSteps, get_quantization
from edgekit.converters.wide_program import WideConv, WideDepthwiseConv
from edgekit.converters.window import read_window

# Doubles hold every whole number up to this, sums of products besides.
_MOST_BIAS = 2.0**52


def lower_wide(lowering: Lowering, node: ir.Node, steps: WideSteps) -> None:
    """Emits a convolution or a fully connected layer whose weights carry codes.

    Raises:
        ModelError: Its shapes or records do not fit together, or a bias is too large for its scales.
    """
    value = node.inputs[1]
    record = None if value is None else get_quantization(value)
    if not isinstance(record, WeightQuantization):
        refuse(node, "its weights have no codes")
    if node.op_type == "Conv":
        _lower_conv(lowering, node, steps, record)
        return
    codes = record.codes if record.axis == 0 else record.codes.T
    x, weights = read_rows(lowering, node, codes.astype(np.int8))
    y = lowering.add_real_output(node, (*x.shape[:-1], len(weights)), channels_last=False)
    whole = np.ascontiguousarray(weights.reshape(len(weights), 1, 1, -1))
    _emit(lowering, node, steps, record, WideConv, x, y, whole, Window())


def _lower_conv(
    lowering: Lowering, node: ir.Node, steps: WideSteps, record: WeightQuantization
) -> None:
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it convolves a tensor of rank {len(source.shape)}, not 4")
    x = lowering.channels_last(source)
    weights = np.ascontiguousarray(record.codes.transpose(0, 2, 3, 1), np.int8)
    count, kernel_h, kernel_w, depth = weights.shape
    batch, height, width, channels = x.shape
    groups = attribute(node, "group", 1)
    depthwise = groups == channels == count and groups > 1
    if depth * groups != channels or (groups != 1 and not depthwise):
        refuse(node, f"{groups} groups of {depth} channels do not fit {channels} inputs")
    try:
        window = read_window(node, (kernel_h, kernel_w), height, width)
    except ValueError as error:
        refuse(node, str(error))
    rows, columns = window.output_size(height, width)
    y = lowering.add_real_output(node, (batch, rows, columns, count), channels_last=True)
    if depthwise:
        weights = np.ascontiguousarray(weights[..., 0])
    kind = WideDepthwiseConv if depthwise else WideConv
    _emit(lowering, node, steps, record, kind, x, y, weights, window)


def _emit(
    lowering: Lowering,
    node: ir.Node,
    steps: WideSteps,
    record: WeightQuantization,
    kind: type[WideConv] | type[WideDepthwiseConv],
    x: Tensor,
    y: Tensor,
    weights: Int8Array,
    window: Window,
) -> None:
    count = len(weights)
    scale = np.array(np.broadcast_to(record.scale, (count,)), np.float32)
    product = float(steps.input) * scale.astype(np.float64)
    bias: npt.NDArray[np.float64] = np.rint(read_bias(lowering, node, count) / product)
    multiplier = product / float(steps.output)
    if not (np.abs(bias).max(initial=0.0) < _MOST_BIAS and np.isfinite(multiplier).all()):
        refuse(node, "its bias is too large for the scales of its input and its weights")
    lowering.emit(
        kind(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            weights=weights,
            weight_scale=scale,
            bias=bias,
            multiplier=multiplier,
            input_step=steps.input,
            output_step=steps.output,
            window=window,
        )
    )
