"""Lowers norms over channels and images that stay float32, as steps of simpler operators."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFunction,
    FloatLayerNorm,
    FloatOperator,
    FloatPool,
)
from edgekit.converters.lower.float_steps import FloatSteps
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import PoolKind, Window


def lower_instance_norm(lowering: Lowering, node: ir.Node) -> None:
    """InstanceNormalization: a layer norm of each channel's image, then a scale and bias for each channel."""
    x = lowering.source_order(lowering.codes(node, 0))
    scale, bias = (lowering.constant(node, index) for index in (1, 2))
    if scale is None or bias is None or len(x.shape) < 3:
        refuse(node, "its scale or bias is computed, or it norms no images")
    batch, channels, *size = x.shape
    pixels = math.prod(size)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    steps = FloatSteps(lowering, node)
    rows = lowering.reshaped(x, (batch, channels, pixels), steps.label("rows"))
    normed = steps.tensor("normed", rows.shape)
    lowering.emit(
        FloatLayerNorm(
            name=steps.name("normed"),
            input=rows.name,
            output=normed.name,
            scale=np.ones(pixels, np.float32),
            bias=np.zeros(pixels, np.float32),
            epsilon=epsilon,
        )
    )
    by_channel = [
        steps.constant(np.asarray(array, np.float32).reshape(1, channels, 1), part)
        for array, part in ((scale, "scale"), (bias, "bias"))
    ]
    scaled = steps.binary(FloatOperator.MUL, normed, by_channel[0], "scaled")
    moved = steps.binary(FloatOperator.ADD, scaled, by_channel[1], "moved")
    steps.finish(moved, x.shape)


def lower_lrn(lowering: Lowering, node: ir.Node) -> None:
    """LRN: ``x / (bias + alpha / size * sum of the squares of nearby channels) ^ beta``."""
    x = lowering.codes(node, 0)
    if len(x.shape) != 4:
        refuse(node, f"it norms a tensor of rank {len(x.shape)}, not 4")
    x = lowering.channels_last(x)
    numbers = {
        name: node.attributes[name].as_float() if name in node.attributes else default
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    }
    size = node.attributes["size"].as_int()
    batch, height, width, channels = x.shape
    steps = FloatSteps(lowering, node)
    square = steps.binary(FloatOperator.MUL, x, x, "square")
    rows = (batch, height * width, channels, 1)
    image = lowering.reshaped(square, rows, steps.label("rows"))
    mean = steps.tensor("mean", rows)
    lowering.emit(
        FloatPool(
            name=steps.name("mean"),
            input=image.name,
            output=mean.name,
            pool=PoolKind.AVERAGE,
            window=Window(kernel_w=size, pad_left=(size - 1) // 2, pad_right=size // 2),
            count_include_pad=True,
        )
    )
    share = steps.binary(
        FloatOperator.MUL, mean, steps.constant(np.float32(numbers["alpha"]), "alpha"), "share"
    )
    base = steps.binary(
        FloatOperator.ADD, share, steps.constant(np.float32(numbers["bias"]), "offset"), "base"
    )
    power = steps.binary(
        FloatOperator.MUL,
        steps.unary(FloatFunction.LOG, base, "log"),
        steps.constant(np.float32(-numbers["beta"]), "beta"),
        "power",
    )
    factor = steps.unary(FloatFunction.EXP, power, "factor")
    back = steps.reshape_image(factor, x.shape, "back")
    y = lowering.add_real_output(node, x.shape, channels_last=True)
    lowering.emit(
        FloatBinary(
            name=lowering.op_name(node),
            operator=FloatOperator.MUL,
            a=x.name,
            b=back.name,
            output=y.name,
        )
    )
