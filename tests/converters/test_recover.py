"""Recovery leaves float answers as they were, undoes hostile networks, and is kept only where it helps."""

import numpy as np
import onnx_ir as ir
import pytest
from check_pass import f32, ops, run
from float_networks import FloatNet, float_networks, images
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scaling import assert_same, attention

from edgekit.converters.calibrate import Calibration, ChannelRange, calibrate
from edgekit.converters.noise import relative_noise
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.recover.absorb import absorb
from edgekit.converters.recover.align import align, migrate
from edgekit.converters.recover.channel_means import run_float, run_quantized
from edgekit.converters.recover.correct_biases import correct_biases, correct_biases_by_moments
from edgekit.converters.recover.equalize import equalize
from edgekit.converters.recover.fill_grids import choose_factors, find_groups
from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.converters.recover.recover import PASSES, choose_passes, correct, recover
from edgekit.targets.errors import EdgekitError
from hostile import make_channels_hostile


def samples(count=8, seed=3):
    return [{"x": image[None]} for image in images(count, seed)]


def chain(seed=0, kinds=("Relu", "Relu", "Relu"), width=8):
    net = FloatNet(seed)
    for kind in kinds:
        net.values.append(net.active(net.conv(net.values[-1], width), kind))
    return net.build()


def noise_db(model, reference=None):
    wanted = run_float(reference or model, samples(6, seed=9))
    quantized = quantize(model, calibrate(model, samples(24)))
    return -10 * np.log10(relative_noise(wanted, run_quantized(quantized, samples(6, seed=9))))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(float_networks(), st.sampled_from(["equalize", "align", "migrate"]))
def test_a_pass_leaves_the_float_answers(model, name):
    changed = model.clone()
    learned = calibrate(changed, samples())
    {"equalize": lambda m, _: equalize(m), "align": align, "migrate": migrate}[name](
        changed, learned
    )
    assert_same(model, changed, images())


@settings(deadline=None, max_examples=15)
@given(float_networks())
def test_absorption_leaves_the_answers_to_what_calibration_saw(model):
    changed = model.clone()
    absorb(changed, calibrate(changed, samples(3, seed=5)))
    assert_same(model, changed, images(3, seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spread", "outlier"])
@pytest.mark.parametrize("active", [("Relu",) * 3, ("Clip",) * 3, ("", "LeakyRelu", "PRelu")])
def test_equalization_undoes_what_made_a_network_hostile(kind, active):
    model = chain(kinds=active)
    hostile = model.clone()
    make_channels_hostile(hostile, kind=kind, seed=4, apart=1000.0)
    before = noise_db(hostile)
    equalized = hostile.clone()
    assert equalize(equalized)
    assert_same(model, equalized, images())
    assert noise_db(equalized) > noise_db(model) - 5 > before + 5


def test_equalization_makes_clips_of_bounds_that_are_equal_again():
    model = chain(kinds=("Clip", "Clip"))
    hostile = model.clone()
    make_channels_hostile(hostile, kind="spread", seed=1, apart=1000.0)
    assert "Min" in ops(hostile)
    equalize(hostile)
    assert ops(hostile) == ops(model)


def test_equalized_weights_are_of_one_size_on_both_sides():
    hostile = chain(seed=2, kinds=("Relu",))
    make_channels_hostile(hostile, kind="spread", seed=1, apart=100.0)
    equalize(hostile)
    conv, gemm = (node for node in hostile.graph if node.op_type in ("Conv", "Gemm"))
    made = np.abs(conv.inputs[1].const_value.numpy()).max(axis=(1, 2, 3))
    read = np.abs(gemm.inputs[1].const_value.numpy()).reshape(3, 8, 64).max(axis=(0, 2))
    np.testing.assert_allclose(made, read, rtol=1e-2)


def test_aligned_channels_lose_less():
    model = chain(seed=3, kinds=("Relu", "", "Relu"))
    hostile = model.clone()
    make_channels_hostile(hostile, kind="spread", seed=5, apart=30.0)
    before = noise_db(hostile)
    effects = align(hostile, calibrate(hostile, samples(24)))
    assert effects
    assert all(effect.gain_db > 0 for effect in effects)
    assert_same(model, hostile, images())
    assert noise_db(hostile) > before + 3


def test_the_noise_that_alignment_reckons_is_that_of_an_oracle():
    model = chain(seed=6, kinds=("Relu",), width=4)
    learned = calibrate(model, samples(12))
    (group,) = find_groups(model, find_scaling(model), learned, move_bounds=False)
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    weight = gemm.inputs[1].const_value.numpy().astype(np.float64)
    relu = next(node for node in model.graph if node.op_type == "Relu").outputs[0].name
    moments = learned.moments[gemm.inputs[0].name]
    energy = moments.variance() + moments.mean() ** 2
    factors = np.array([0.5, 1, 2, 4])
    each = np.repeat(factors, 64)
    power = float((weight**2 * energy).sum())
    step = (learned.channels[relu].hi * factors).max() / 255
    wanted = step**2 / 12 * (weight**2 / each**2).sum() / power
    rows = (np.abs(weight) / each).max(axis=1) / 127
    wanted += (rows**2).sum() / 12 * (energy * each**2).sum() / power
    assert group.noise(np.array([1, *factors])) == pytest.approx(wanted, rel=1e-6)
    best, gain = choose_factors(group)
    assert gain == pytest.approx(10 * np.log10(group.noise(np.ones(5)) / group.noise(best)))


@pytest.mark.parametrize("active", ["Clip", "Min"])
def test_alignment_moves_no_channel_that_a_bound_holds(active):
    model = chain(kinds=(active,))
    assert not align(model, calibrate(model, samples()))


def test_migration_moves_the_outliers_of_a_norm_into_weights():
    model = attention()
    make_channels_hostile(model, kind="outlier", seed=2, apart=100.0)
    given_samples = [{"x": f32(2, 5, 8, seed=seed)} for seed in range(8)]
    learned = calibrate(model, given_samples)
    changed = model.clone()
    effects = migrate(changed, learned)
    assert effects
    for layer in (model, changed):
        align(layer, calibrate(layer, given_samples))
    wanted = run_float(model, given_samples)
    before, after = (
        relative_noise(
            wanted, run_quantized(quantize(m, calibrate(m, given_samples)), given_samples)
        )
        for m in (model, changed)
    )
    assert after < before / 2
    assert relative_noise(wanted, run_float(changed, given_samples)) < 1e-8


def shift_biases(quantized, codes):
    for node in quantized.graph:
        if node.op_type in ("Conv", "Gemm"):
            get_quantization(node.inputs[2]).codes[...] += codes


@pytest.mark.parametrize("kinds", [("Relu",), ("Relu", "", "Clip")])
def test_biases_that_were_shifted_come_back(kinds):
    model = chain(kinds=kinds)
    quantized = quantize(model, calibrate(model, samples(24)))
    wanted = run_float(model, samples())
    clean = relative_noise(wanted, run_quantized(quantized, samples()))
    shift_biases(quantized, 1500)
    shifted = relative_noise(wanted, run_quantized(quantized, samples()))
    effects = correct_biases(model, quantized, samples(24))
    assert len(effects) == len(kinds) + 1
    after = relative_noise(wanted, run_quantized(quantized, samples()))
    assert after < 2 * clean < shifted


def test_no_correction_leaves_int32():
    model = chain(kinds=("Relu",))
    quantized = quantize(model, calibrate(model, samples(24)))
    node = next(iter(quantized.graph))
    weight, bias = (get_quantization(value) for value in node.inputs[1:3])
    bias.codes[...] = (1 << 30) - 1
    correct_biases(model, quantized, samples())
    bias = get_quantization(node.inputs[2])
    sums = np.abs(weight.codes.astype(np.int64)).reshape(len(weight.codes), -1).sum(axis=1)
    assert (np.abs(bias.codes.astype(np.int64)) + 510 * sums < 2**31).all()


def test_moments_know_what_rounding_shifts():
    model = chain(kinds=("Relu",))
    learned = calibrate(model, samples(24))
    quantized = quantize(model, learned)
    gemm = next(node for node in quantized.graph if node.op_type == "Gemm")
    weight = get_quantization(gemm.inputs[1])
    # Codes that are all one too large shift each output by its scale times the sum of the inputs' means.
    weight.codes[...] = np.minimum(weight.codes, 126) + 1
    before = get_quantization(gemm.inputs[2]).codes.copy()
    error = weight.codes * weight.scale[:, None].astype(np.float64)
    error -= gemm.inputs[1].const_value.numpy()
    correct_biases_by_moments(quantized, learned)
    record = get_quantization(gemm.inputs[2])
    wanted = -(error * learned.moments[gemm.inputs[0].name].mean()).sum(axis=1)
    moved = (record.codes - before) * record.scale.astype(np.float64)
    np.testing.assert_allclose(moved, wanted, atol=float(record.scale.max()))


def test_recovery_keeps_what_helps_and_says_so():
    hostile = chain()
    make_channels_hostile(hostile, kind="spread", seed=4, apart=1000.0)
    found = recover(hostile, samples(24))
    effects = {effect.name: effect for effect in found.report.effects}
    assert "equalize" in found.report.kept
    assert effects["equalize"].after_db > effects["equalize"].before_db + 5
    assert any("equalize" in line and "kept" in line for line in found.report.describe())
    effect = effects["equalize"]
    before, after = effect.same
    assert effect.samples == 12
    assert before <= after <= effect.samples
    assert f"{before} of {effect.samples} became {after}" in effect.describe()
    assert_same(hostile, found.model, images())
    assert noise_db(found.model) > noise_db(hostile) + 5


def test_recovery_without_passes_is_the_same_graph():
    model = chain()
    assert recover(model, samples(), passes="none").model is model
    assert recover(model, samples(), passes=["correct_biases"]).model is model


def test_a_correction_that_does_not_help_is_not_taken():
    model = chain()
    learned = calibrate(model, samples(24))
    quantized = quantize(model, learned)
    bad = quantized.clone()
    bad.meta.update(quantized.meta)
    shift_biases(bad, 4000)
    better, effect = correct(model, bad, samples(24), keep_always=False)
    assert effect.is_kept
    assert better is not bad
    once, effect = correct(model, better, samples(24), keep_always=False)
    assert effect.is_kept or once is better


def test_passes_are_named():
    assert choose_passes("auto") == PASSES
    assert choose_passes(["align", "equalize"]) == ("equalize", "align")
    with pytest.raises(EdgekitError, match=r"'polish' is not supported.*equalize"):
        choose_passes(["polish"])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.randoms())
def test_channel_ranges_are_exact_in_any_order(seeds, order):
    parts = [f32(2, 3, 4, seed=seed) for seed in seeds]
    whole = np.concatenate(parts)
    order.shuffle(parts)
    one, other = ChannelRange(1, 3), ChannelRange(1, 3)
    for index, part in enumerate(parts):
        (one if index % 2 else other).add(part)
    one.merge(other)
    np.testing.assert_array_equal(one.lo, whole.min(axis=(0, 2)))
    np.testing.assert_array_equal(one.hi, whole.max(axis=(0, 2)))


def test_channel_ranges_are_saved(tmp_path):
    model = chain()
    learned = calibrate(model, samples())
    assert learned.channels
    learned.save(tmp_path / "learned.npz")
    again = Calibration.load(tmp_path / "learned.npz")
    assert again.channels.keys() == learned.channels.keys()
    for name, channels in learned.channels.items():
        np.testing.assert_array_equal(again.channels[name].lo, channels.lo)
        np.testing.assert_array_equal(again.channels[name].hi, channels.hi)
        assert again.channels[name].axis == channels.axis


def test_an_open_batch_is_recovered_as_well(tmp_path):
    model = chain()
    ir.save(model, tmp_path / "net.onnx")
    assert run(recover(model, samples(), passes=["equalize"]).model, images(5))[0].shape == (5, 3)
