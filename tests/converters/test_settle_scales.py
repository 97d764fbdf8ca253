"""Scales of weights that let kernels requantize in one operation."""

import numpy as np

from edgekit.converters.quantization import ActivationQuantization, WeightQuantization
from edgekit.converters.quantize.settle_scales import settle_scales
from edgekit.converters.quantize.weights import LayerQuantization

_SOURCE = ActivationQuantization(np.float32(0.02), -5)
_RESULT = ActivationQuantization(np.float32(0.11), 3, -20, 100)


def _layer(channels: int, depth: int) -> LayerQuantization:
    random = np.random.default_rng(0)
    codes = random.integers(-127, 128, (channels, depth, 1, 1)).astype(np.int8)
    scale = random.uniform(0.004, 0.02, channels).astype(np.float32)
    bias = WeightQuantization(
        random.integers(-9999, 9999, channels).astype(np.int32), np.float32(0.02) * scale, 0
    )
    return LayerQuantization(WeightQuantization(codes, scale, 0), bias, ())


def test_scales_grow_by_a_few_last_places_and_then_stay():
    layer = _layer(300, 64)
    settled = settle_scales(layer, _SOURCE, _RESULT)
    before, after = layer.weight.scale, settled.weight.scale
    steps = after.view(np.int32) - before.view(np.int32)
    assert np.all((steps >= 0) & (steps < 64))
    assert 0 < np.count_nonzero(steps) < 150
    assert settled.bias is not None
    assert np.array_equal(settled.bias.scale, np.float32(0.02) * after)
    assert settled.weight.codes is layer.weight.codes
    again = settle_scales(settled, _SOURCE, _RESULT)
    assert np.array_equal(again.weight.scale, after)


def test_scales_that_have_no_proof_stay():
    layer = _layer(8, 64)
    steep = ActivationQuantization(np.float32(1e-4), 0)
    assert np.array_equal(settle_scales(layer, _SOURCE, steep).weight.scale, layer.weight.scale)


def test_layers_with_many_products_stay():
    layer = _layer(8, 300)
    assert settle_scales(layer, _SOURCE, _RESULT) is layer


def test_zeros_are_no_products():
    layer = _layer(300, 400)
    layer.weight.codes[:, 40:] = 0
    settled = settle_scales(layer, _SOURCE, _RESULT)
    assert np.count_nonzero(settled.weight.scale != layer.weight.scale)
