"""Channels that are scaled apart leave a float network's answers as they were."""

import numpy as np
import onnx_ir as ir
import pytest
from check_pass import f32, ops, parse, run
from float_networks import FloatNet, float_networks, images
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.converters.recover.rescale import bounds_of, rescale, restore_clips
from hostile import KINDS, make_channels_hostile, make_hostile


def assert_same(model, changed, x, tolerance=1e-4):
    (before,), (after,) = run(model, x), run(changed, x)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(after, before, atol=tolerance * np.abs(before).max(), rtol=0)


@settings(deadline=None, max_examples=40)
@given(float_networks(), st.integers(0, 99), st.sampled_from(KINDS))
def test_answers_stay_though_channels_lie_apart(model, seed, kind):
    changed = model.clone()
    make_channels_hostile(changed, kind=kind, seed=seed, apart=1000.0)
    assert_same(model, changed, images())


def test_image_networks_of_other_operators_stay_too(image_net):
    @settings(deadline=None, max_examples=25)
    @given(st.data())
    def check(data):
        net = image_net(data)
        model = net.build()
        changed = model.clone()
        make_channels_hostile(changed, kind="spread", seed=1, apart=1000.0)
        x = net.images()
        (before,) = run_any(model, x)
        (after,) = run_any(changed, x)
        np.testing.assert_allclose(after, before, atol=1e-4 * max(np.abs(before).max(), 1e-3))

    check()


def run_any(model, x):
    plain = model.clone()
    for value in plain.graph.initializers.values():
        value.meta.clear()
    return run(plain, x)


def test_every_pair_of_layers_is_scaled_and_the_ends_are_not():
    net = FloatNet(0)
    for kind in ("Relu", "", "Clip"):
        net.values.append(net.active(net.conv(net.values[-1], 4), kind))
    scaling = find_scaling(net.build())
    assert scaling.free().size == 4 + 4 + 4
    first, *_, last = [site for site in scaling.sites if hasattr(site, "inputs")]
    assert not scaling.variables.roots(first.inputs).any()
    assert not scaling.variables.roots(last.outputs).any()


def test_a_residual_sum_gives_all_its_operands_one_factor():
    net = FloatNet(1)
    first = net.active(net.conv(net.values[-1], 4), "")
    second = net.conv(net.active(net.conv(first, 4), "Relu"), 4)
    net.values.append((net.node("Add", [first[0], second[0]]), 4, 8))
    assert find_scaling(net.build()).free().size == 4 + 4


def test_what_is_not_homogeneous_pins_its_channels():
    net = FloatNet(2)
    net.values.append(net.active(net.conv(net.values[-1], 4), "HardSwish"))
    assert find_scaling(net.build()).free().size == 0


def test_a_flattened_image_has_a_factor_for_each_channel():
    net = FloatNet(3)
    net.values.append(net.active(net.conv(net.values[-1], 5), "Relu"))
    model = net.build("Gemm")
    scaling = find_scaling(model)
    assert scaling.free().size == 5
    flat = next(node for node in model.graph if node.op_type == "Flatten")
    assert scaling.axis(flat.outputs[0]) == 1
    channels = scaling.channels(flat.outputs[0])
    assert np.array_equal(channels.reshape(5, 64)[:, 0], scaling.free())


def test_a_scaled_clip_has_bounds_for_each_channel_until_they_are_equal_again():
    net = FloatNet(4)
    net.values.append(net.active(net.conv(net.values[-1], 4), "Clip"))
    model = net.build()
    changed = model.clone()
    make_channels_hostile(changed, kind="spread", seed=0, apart=100.0)
    assert ops(changed) == ["Conv", "Relu", "Min", "Flatten", "Gemm"]
    assert_same(model, changed, images())
    scaling = find_scaling(changed)
    limits = next(node for node in changed.graph if node.op_type == "Min").inputs[1]
    assert limits is not None
    ends = limits.const_value.numpy().reshape(-1)
    site = next(site for site in scaling.sites if hasattr(site, "outputs"))
    roots = scaling.variables.roots(site.outputs).tolist()
    rescale(changed, scaling, {root: 1.5 / end for root, end in zip(roots, ends, strict=True)})
    assert restore_clips(changed)
    assert ops(changed) == ["Conv", "Clip", "Flatten", "Gemm"]
    clip = next(node for node in changed.graph if node.op_type == "Clip")
    assert bounds_of(clip) == pytest.approx((0.0, 1.5))
    assert_same(model, changed, images())


ATTENTION = """
    norm = LayerNormalization<axis = -1>(x, gamma, beta)
    q = MatMul (norm, wq)
    k = MatMul (norm, wk)
    v = MatMul (norm, wv)
    kt = Transpose<perm = [0, 2, 1]>(k)
    scores = MatMul (q, kt)
    shares = Softmax<axis = -1>(scores)
    mixed = MatMul (shares, v)
    out = MatMul (mixed, wo)
    sum = Add (x, out)
    again = LayerNormalization<axis = -1>(sum, gamma, beta)
    hidden = MatMul (again, w1)
    active = Relu (hidden)
    y = MatMul (active, w2)
"""


def attention():
    """A block of a transformer over ``x`` [2, 5, 8]."""
    weights = {f"w{name}": f32(8, 8, seed=i) for i, name in enumerate("qkvo")}
    return parse(
        ATTENTION,
        result="float[2, 5, 8] y",
        shape="2, 5, 8",
        gamma=1 + 0.1 * f32(8, seed=9),
        beta=f32(8, seed=8),
        w1=f32(8, 16, seed=7),
        w2=f32(16, 8, seed=6),
        **weights,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_outliers_of_norms_and_of_values_stay_within_attention(kind):
    model = attention()
    # Two norms, the values' columns, and the hidden layer.
    assert find_scaling(model).free().size == 8 + 8 + 8 + 16
    changed = model.clone()
    make_channels_hostile(changed, kind=kind, seed=3, apart=1000.0)
    assert_same(model, changed, f32(2, 5, 8, seed=11))


def test_a_file_is_made_hostile_by_its_seed(tmp_path):
    net = FloatNet(5)
    net.values.append(net.active(net.conv(net.values[-1], 4), "Relu"))
    ir.save(net.build(), tmp_path / "net.onnx")
    one, same, other = (make_hostile(tmp_path / "net.onnx", seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
