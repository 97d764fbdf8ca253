"""Moves the int32 biases of a quantized graph so that the mean of each channel is what it is in float.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019. Rounding of weights, rounding of activations and what ranges cut off shift the mean of a channel; a bias takes
the shift back and costs nothing when the network runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.noise import relative_noise
from edgekit.converters.passes.fuse_clamps import Clamp, get_clamp
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import is_layer, output_axis
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
    is_dynamic,
    set_quantization,
    stays_float,
)
from edgekit.converters.quantize.weights import limit_biases
from edgekit.converters.recover.channel_means import (
    Sample,
    float_means,
    quantized_means,
    run_float,
    run_quantized,
)
from edgekit.converters.recover.report import LayerEffect
from edgekit.converters.recover.rescale import lay_out

Floats = npt.NDArray[np.float64]
# Times that the network is run on all samples.
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class _Corrected:
    """A layer with a bias in integers whose result has a grid."""

    node: ir.Node
    source: str
    output: str
    axis: int
    weight: WeightQuantization
    bias: ir.Value

    @property
    def record(self) -> WeightQuantization:
        """The bias as it is now."""
        found = get_quantization(self.bias)
        assert isinstance(found, WeightQuantization)
        return found

    def apply(self, mean: Floats) -> Floats:
        """Returns what the layer makes of an input that has one value a channel, without its bias."""
        codes, out = self.weight.codes, self.weight.axis
        shape = [-1 if axis == out else 1 for axis in range(codes.ndim)]
        real = codes * self.weight.scale.astype(np.float64).reshape(shape)
        summed = real.reshape(*real.shape[:2], -1).sum(axis=2)
        below, _ = lay_out(self.node, mean, np.zeros(codes.shape[out]))
        made: Floats = (summed * below).sum(axis=1 - out)
        return made

    def move(self, shift: Floats) -> Floats:
        """Subtracts ``shift``, real numbers by output channel, from the bias; returns by how much it moved."""
        record = self.record
        scale = record.scale.astype(np.float64)
        wanted = record.codes.astype(np.float64) - shift / scale
        rows = np.moveaxis(self.weight.codes, self.weight.axis, 0).astype(np.float64)
        room = limit_biases(rows.reshape(len(rows), -1))
        codes = np.rint(np.clip(wanted, -room, room)).astype(np.int32)
        set_quantization(self.bias, replace(record, codes=codes))
        return (codes.astype(np.float64) - record.codes) * scale


def correct_biases(
    model: ir.Model, quantized: ir.Model, samples: Sequence[Sample], *, rounds: int = _ROUNDS
) -> list[LayerEffect]:
    """Moves biases, in place, until the mean of each layer's output channels over ``samples`` is that of float.

    All layers are corrected at once, each for its own part of the shift: what of it comes with its input, by its
    weights, is left to the layers before it. ``rounds`` times over, each with the network as it is by then; the biases
    with which the answers have least noise are kept. A bias that moves by less than a step may move many elements by
    a whole one, where they are equal, so that not every move is for the better. Sums stay in int32.

    Args:
        model: The float graph that ``quantized`` was made from.
        quantized: What `quantize` made of it; its biases' records change.
        samples: What both are run on.
        rounds: Times that means are taken and biases moved.

    Returns:
        The layers whose biases moved.

    Raises:
        ModelError: ONNX Runtime cannot run one of both.
    """
    layers = [layer for layer in _find_layers(quantized) if _has_value(model, layer.output)]
    if not layers or not samples:
        return []
    axes = {layer.output: layer.axis for layer in layers}
    axes.update({layer.source: layer.axis for layer in layers if _has_value(model, layer.source)})
    clamps = {layer.output: get_clamp(layer.node.outputs[0]) for layer in layers}
    bounds = {name: clamps.get(name, Clamp(-math.inf, math.inf)) for name in axes}
    means, shares = float_means(model, axes, bounds, samples)
    wanted = run_float(model, samples)
    given = [layer.record for layer in layers]
    best, least = given, relative_noise(wanted, run_quantized(quantized, samples))
    for _ in range(rounds):
        found = quantized_means(quantized, axes, samples)
        for layer in layers:
            shift = found[layer.output] - means[layer.output]
            if layer.source in axes:
                passed = layer.apply(found[layer.source] - means[layer.source])
                shift -= shares[layer.output] * passed
            layer.move(shift)
        noise = relative_noise(wanted, run_quantized(quantized, samples))
        if noise < least:
            best, least = [layer.record for layer in layers], noise
    effects = []
    for layer, before, after in zip(layers, given, best, strict=True):
        set_quantization(layer.bias, after)
        moved = np.abs(after.codes.astype(np.float64) - before.codes) * after.scale
        if moved.any():
            note = f"mean moved by up to {moved.max():.3g}"
            effects.append(LayerEffect(layer.node.name or "", 0.0, note))
    return effects


def correct_biases_by_moments(quantized: ir.Model, calibration: Calibration) -> list[LayerEffect]:
    """Moves biases, in place, by what the rounding of weights shifts the mean of each channel, without running it.

    ``b[c] -= sum over i of E[x[i]] * sum over taps of (w'[c, i] - w[c, i])`` with the codes' real values w'.

    Args:
        quantized: What `quantize` made; its biases' records change, its initializers still hold the float weights.
        calibration: Of the float graph.

    Returns:
        The layers whose biases moved.
    """
    effects = []
    for layer in _find_layers(quantized):
        source, weight = layer.node.inputs[0], constant(layer.node.inputs[1])
        moments = None if source is None else calibration.moments.get(str(source.name))
        if moments is None or weight is None:
            continue
        axis = layer.weight.axis
        shape = [-1 if a == axis else 1 for a in range(weight.ndim)]
        real = layer.weight.codes * layer.weight.scale.astype(np.float64).reshape(shape)
        error = np.moveaxis(real - weight.astype(np.float64), axis, 0)
        error = error.reshape(*error.shape[:2], -1).sum(axis=2)
        groups = attribute(layer.node, "group", 1)
        mean = np.repeat(moments.mean().reshape(groups, -1), len(error) // groups, axis=0)
        moved = layer.move((error * mean).sum(axis=1))
        if moved.any():
            note = f"mean moved by up to {np.abs(moved).max():.3g}"
            effects.append(LayerEffect(layer.node.name or "", 0.0, note))
    return effects


def _find_layers(quantized: ir.Model) -> Iterator[_Corrected]:
    for node in quantized.graph:
        if not is_layer(node) or stays_float(node) or is_dynamic(node) or len(node.inputs) < 3:
            continue
        bias, output = node.inputs[2], node.outputs[0]
        weight = get_quantization(node.inputs[1]) if node.inputs[1] is not None else None
        record = get_quantization(bias) if bias is not None else None
        grid = get_quantization(output)
        if (
            bias is None
            or not isinstance(weight, WeightQuantization)
            or not isinstance(record, WeightQuantization)
            or not isinstance(grid, ActivationQuantization)
            or record.codes.size != weight.codes.shape[output_axis(node)]
        ):
            continue
        axis = 1 if node.op_type.startswith("Conv") else -1
        source = node.inputs[0]
        grid = get_quantization(source) if source is not None else None
        maker = None if source is None else source.producer()
        named = isinstance(grid, ActivationQuantization) and maker is not None
        name = str(source.name) if source is not None and named else ""
        yield _Corrected(node, name, str(output.name), axis, weight, bias)


def _has_value(model: ir.Model, name: str) -> bool:
    return bool(name) and any(value.name == name for node in model.graph for value in node.outputs)
