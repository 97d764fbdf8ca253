import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.quantize.weights import PAIR_LIMIT, largest_pairs, quantize_layer
from edgekit.converters.round_weights import InputStatistics, round_weights

LARGEST_SUM = 2**31 - 1


def statistics(channels, inputs, seed=0):
    rng = np.random.default_rng(seed)
    mean = np.broadcast_to(rng.normal(size=inputs), (channels, inputs))
    return InputStatistics(mean, np.broadcast_to(rng.uniform(0, 2, inputs), (channels, inputs)))


def worst_sum(layer):
    """The largest magnitude of a partial sum, whatever the input's codes, its zero point and their storage."""
    codes = layer.weight.codes.astype(np.int64)
    weights = np.abs(codes).sum(axis=tuple(i for i in range(codes.ndim) if i != layer.weight.axis))
    bias = 0 if layer.bias is None else np.abs(layer.bias.codes.astype(np.int64))
    return bias + 255 * weights + 255 * weights


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    axis=st.sampled_from([0, 1]),
    spread=st.sampled_from([1e-30, 1e-3, 1.0, 1e6]),
    step=st.sampled_from([2.0**-64, 1e-6, 0.02, 1e4]),
    lean=st.sampled_from([0.0, 1.0, 1e9]),
)
def test_layer_keeps_limits_and_every_weight_to_one_step(seed, axis, spread, step, lean):
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(5, 7)) * spread).astype(np.float32)
    weight[(0, slice(None)) if axis == 0 else (slice(None), 0)] = 0
    channels = weight.shape[axis]
    bias = (rng.normal(size=channels) * lean).astype(np.float32)
    layer = quantize_layer(
        weight,
        bias,
        np.float32(step),
        axis,
        statistics(channels, weight.shape[1 - axis], seed % 97),
    )
    codes, scale = layer.weight.codes, layer.weight.scale
    assert codes.dtype == np.int8
    assert codes.shape == weight.shape
    assert np.abs(codes.astype(int)).max() <= 127
    assert np.all(scale > 0)
    assert np.all(np.isfinite(scale))
    assert np.all(worst_sum(layer) <= LARGEST_SUM)
    wide = scale[:, None] if axis == 0 else scale
    assert np.all(np.abs(codes * wide.astype(np.float64) - weight) <= wide * 1.0001)
    np.testing.assert_array_equal(layer.bias.scale, np.float32(step) * scale)
    real = layer.bias.codes * layer.bias.scale.astype(np.float64)
    assert np.all(np.abs(real - bias) <= layer.bias.scale.astype(np.float64) * 0.5001)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    spread=st.sampled_from(["normal", "one sign", "one large"]),
)
def test_no_two_products_of_narrow_weights_leave_16_bits(seed, count, spread):
    """VPMADDUBSW, whichever weights of a channel a kernel takes in pairs."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, count)).astype(np.float32)
    if spread == "one sign":
        weight = np.abs(weight)
    elif spread == "one large":
        weight[:, 0] *= 100
    known = statistics(6, count, seed % 97)
    wide = quantize_layer(weight, None, np.float32(0.02), 0, known)
    narrow = quantize_layer(weight, None, np.float32(0.02), 0, known, pair_limit=PAIR_LIMIT)
    codes = narrow.weight.codes.astype(np.int64)
    order = rng.permutation(count + count % 2)
    padded = np.pad(codes, ((0, 0), (0, count % 2)))[:, order]
    inputs = rng.choice([0, 1, 254, 255], padded.shape[1])
    pairs = (padded * inputs).reshape(6, -1, 2).sum(axis=2)
    assert np.array_equal(pairs, np.clip(pairs, -32768, 32767))
    assert (largest_pairs(codes.astype(np.float64)) <= PAIR_LIMIT).all()
    # Scales grow as far as they must and no farther; those that need not grow stay.
    grown = narrow.weight.scale > wide.weight.scale
    assert narrow.narrowed == tuple(np.flatnonzero(grown))
    assert (largest_pairs(codes[grown].astype(np.float64)) >= PAIR_LIMIT - 2).all()
    assert (narrow.weight.scale <= 2 * wide.weight.scale).all()


def test_largest_weight_of_each_channel_takes_the_whole_range():
    weight = np.random.default_rng(1).normal(size=(6, 4, 3, 3)).astype(np.float32)
    layer = quantize_layer(weight, None, np.float32(0.01), 0, statistics(6, 4))
    np.testing.assert_allclose(
        layer.weight.scale, np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=1e-6
    )
    assert layer.bias is None
    assert layer.widened == ()


def test_bias_beyond_int32_widens_its_channel_alone():
    weight = np.full((2, 3), 1e-8, np.float32)
    bias = np.array([5.0, 0.0], np.float32)
    layer = quantize_layer(weight, bias, np.float32(0.01), 0, statistics(2, 3))
    assert layer.widened == (0,)
    assert layer.bias.codes[0] * float(layer.bias.scale[0]) == pytest.approx(5.0, rel=1e-6)
    assert layer.weight.scale[1] == pytest.approx(1e-8 / 127)


def test_sums_that_could_leave_int32_widen_the_channel_until_they_cannot():
    weight = np.ones((1, 60_000), np.float32)
    layer = quantize_layer(
        weight, np.zeros(1, np.float32), np.float32(0.1), 0, statistics(1, 60_000)
    )
    assert layer.widened == (0,)
    assert worst_sum(layer)[0] <= LARGEST_SUM
    assert layer.weight.codes.max() > 60


def test_channel_without_weights_keeps_its_bias():
    layer = quantize_layer(
        np.zeros((1, 4), np.float32),
        np.array([0.7], np.float32),
        np.float32(0.1),
        0,
        statistics(1, 4),
    )
    assert layer.bias.codes[0] * float(layer.bias.scale[0]) == pytest.approx(0.7, rel=1e-5)


def expected_error(targets, codes, inputs):
    """The objective of round_weights, written out."""
    d = codes - targets
    size = np.mean(inputs.mean**2 + inputs.variance, axis=1)
    per_input = d.sum(axis=2)
    moved = (inputs.mean * per_input).sum(axis=1) ** 2 + (inputs.variance * per_input**2).sum(
        axis=1
    )
    return moved / size + 0.1 * (d**2).sum(axis=(1, 2))


@settings(deadline=None)
@given(
    channels=st.integers(1, 4),
    inputs=st.integers(1, 12),
    taps=st.sampled_from([1, 4, 9]),
    seed=st.integers(0, 999),
)
def test_rounding_never_costs_more_than_the_nearest_and_moves_by_less_than_a_step(
    channels, inputs, taps, seed
):
    rng = np.random.default_rng(seed)
    targets = rng.uniform(-127, 127, size=(channels, inputs, taps))
    known = statistics(channels, inputs, seed)
    codes = round_weights(targets, known, 127)
    assert np.array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() <= 127
    assert np.all(np.abs(codes - targets) <= 1)
    nearest = expected_error(targets, np.rint(targets), known)
    assert np.all(expected_error(targets, codes, known) <= nearest + 1e-9)


def test_rounding_lowers_the_measured_error_of_a_depthwise_layer():
    rng = np.random.default_rng(8)
    targets = rng.normal(size=(32, 1, 9)) * 40
    images = rng.normal(2.0, 1.0, size=(200, 1)) + rng.normal(0, 0.1, size=(200, 9))
    known = InputStatistics(np.full((32, 1), 2.0), np.full((32, 1), 1.0))
    codes = round_weights(targets, known, 127)

    def error(rounded):
        return np.mean(((rounded - targets).reshape(32, 9) @ images.T) ** 2)

    assert error(codes) < 0.3 * error(np.rint(targets))
