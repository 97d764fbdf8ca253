"""Puts what was trained into a graph: floats as they are, codes as training saw them."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir
import torch

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import LAYERS, output_axis
from edgekit.converters.quantization import (
    RowQuantization,
    WeightQuantization,
    get_quantization,
    set_quantization,
    stays_float,
)
from edgekit.converters.quantize.weights import limit_biases, quantize_layer
from edgekit.converters.round_weights import InputStatistics
from edgekit.distillation.quantized_network import QuantizedNetwork, record_range


def settle(network: QuantizedNetwork) -> ir.Model:
    """Gives the network's quantized graph the codes and scales that its weights have by now, and returns it.

    Where sums could leave int32 with these, a channel's scale grows, as `quantize_layer` has it.
    """
    graph = network.model.graph
    for node in network.nodes:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        for value in node.inputs[1:3]:
            record = None if value is None else get_quantization(value)
            if isinstance(record, RowQuantization) and value is not None:
                _settle_rows(network, value)
        record = None if weight is None else get_quantization(weight)
        if node.op_type in LAYERS and isinstance(record, WeightQuantization):
            _settle_layer(network, node, record)
    network.store()
    for value in graph.initializers.values():
        record = get_quantization(value)
        if isinstance(record, WeightQuantization) and record.codes.dtype == np.int8:
            real = record.codes.astype(np.float32) * record.spread_scale()
            value.const_value = ir.Tensor(np.ascontiguousarray(real, np.float32), name=value.name)
    return network.model


def _settle_layer(network: QuantizedNetwork, node: ir.Node, before: WeightQuantization) -> None:
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert weight is not None
    name, step, axis = str(weight.name), network.input_step(node), before.axis
    latent = network.weight(name).detach()
    scale = network.scale_of(name).detach()
    low, high = record_range(before)
    codes = torch.round(latent / scale).clamp(low, high).numpy()
    if before.group:
        set_quantization(weight, _with(before, codes, _by_group(scale, before)))
        return
    by_channel = scale.expand_as(latent).movedim(axis, 0).reshape(latent.shape[axis], -1)[:, 0]
    scales = by_channel.numpy().astype(np.float32).copy()
    is_static = not stays_float(node)
    offsets = np.zeros(len(scales))
    if bias is not None and is_static:
        offset = network.weight(str(bias.name)).detach().numpy()
        offsets = np.rint(offset / (np.float32(step) * scales))
    rows = np.moveaxis(codes, axis, 0).reshape(len(scales), -1).astype(np.float64)
    if is_static and before.bits == 8 and bool((np.abs(offsets) > limit_biases(rows)).any()):
        offset32 = None if bias is None else network.weight(str(bias.name)).detach().numpy()
        shape = len(scales), np.moveaxis(codes, axis, 0).shape[1]
        nothing = InputStatistics(np.zeros(shape), np.zeros(shape))
        layer = quantize_layer(
            latent.numpy(), offset32, np.float32(step), axis, nothing, _round_nearest
        )
        set_quantization(weight, layer.weight)
        if bias is not None:
            set_quantization(bias, layer.bias)
        return
    set_quantization(weight, _with(before, codes, scales))
    if bias is not None and is_static:
        sums = WeightQuantization(offsets.astype(np.int32), np.float32(step) * scales, 0)
        set_quantization(bias, sums)


def _with(before: WeightQuantization, codes: np.ndarray, scale: np.ndarray) -> WeightQuantization:
    whole = np.ascontiguousarray(codes, np.int8)
    return WeightQuantization(whole, scale, before.axis, bits=before.bits, group=before.group)


def _by_group(scale: torch.Tensor, record: WeightQuantization) -> np.ndarray:
    rows = scale if record.axis == 1 else scale.T
    return np.ascontiguousarray(rows[:: record.group].numpy(), np.float32)


def _settle_rows(network: QuantizedNetwork, value: ir.Value) -> None:
    name = str(value.name)
    weight, scale = network.weight(name).detach(), network.scale_of(name).detach()
    codes = torch.round(weight / scale).clamp(-127, 127).numpy()
    record = RowQuantization(np.ascontiguousarray(codes, np.int8), scale[..., 0].numpy().copy())
    set_quantization(value, record)


def _round_nearest(
    targets: np.ndarray, inputs: InputStatistics, limit: int, *_: object
) -> np.ndarray:
    return cast(np.ndarray, np.rint(targets).clip(-limit, limit))


def find_zeros(model: ir.Model) -> dict[str, float]:
    """Returns the share of zeros of each layer's weights, by the layer's name, where there are any."""
    found = {}
    for node in model.graph:
        if node.op_type not in LAYERS:
            continue
        array = constant(node.inputs[1])
        if array is not None and array.size and not array.all():
            assert output_axis(node) < array.ndim
            found[node.name or ""] = float((array == 0).mean())
    return found
