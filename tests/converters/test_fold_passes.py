"""Passes that fold one operator into another: constants, batch norms, pads."""

import numpy as np
import pytest
from check_pass import check, f32, ops, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.passes import (
    FoldBatchNorm,
    FoldConstants,
    FoldPad,
    ReplaceBatchNorm,
    ResolveAutoPad,
    SinkReshapes,
    simplify,
)
from edgekit.converters.read_onnx import read_onnx


def test_fold_constants_computes_what_inputs_do_not_reach():
    model = parse(
        "a = Mul (c, c) b = Reshape (a, s) y = Add (x, b)", c=f32(24), s=np.array([3, 1, 8])
    )
    check(model, FoldConstants(), ["Add"])


def test_fold_constants_takes_static_shapes_and_keeps_to_its_bound():
    model = parse("s = Shape <start = 1> (x) e = Expand (c, s) y = Add (x, e)", c=f32(1))
    check(model, FoldConstants(), ["Add"])
    model = parse("s = Shape <start = 1> (x) e = Expand (c, s) y = Add (x, e)", c=f32(1))
    report = FoldConstants(max_elements=200)(model)
    assert ops(model) == ["Expand", "Add"]
    assert "more than 200 elements" in report.skipped[-1].reason


def test_fold_constants_leaves_randomness_alone():
    model = parse("r = RandomNormalLike (c) y = Add (x, r)", c=f32(1))
    assert not FoldConstants()(model).changed


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 3]),
    bias=st.booleans(),
    transpose=st.booleans(),
    seed=st.integers(0, 99),
)
def test_fold_batch_norm_into_convolutions(groups, bias, transpose, seed):
    out = 6
    shape = (3, out // groups, 3, 3) if transpose else (out, 3 // groups, 3, 3)
    rng = np.random.default_rng(seed)
    model = parse(
        f"a = {'ConvTranspose' if transpose else 'Conv'} <group = {groups}> (x, w{', b' if bias else ''}) "
        "y = BatchNormalization <epsilon = 0.01> (a, gamma, beta, mean, variance)",
        w=f32(*shape, seed=seed),
        b=f32(out, seed=seed + 1),
        gamma=f32(out, seed=seed + 2),
        beta=f32(out, seed=seed + 3),
        mean=f32(out, seed=seed + 4),
        variance=rng.uniform(0.1, 3.0, out).astype(np.float32),
    )
    check(model, FoldBatchNorm(), ["ConvTranspose" if transpose else "Conv"], tolerance=1e-4)


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_fold_batch_norm_into_gemm(turned, bias):
    model = parse(
        f"a = Gemm <transB = {turned}> (x, w{bias}) y = BatchNormalization (a, g, e, m, v)",
        "float[N, 5] y",
        "N, 4",
        w=f32(5, 4) if turned else f32(4, 5),
        **{name: f32(5, seed=i) for i, name in enumerate("bgem")},
        v=np.abs(f32(5)) + 1,
    )
    check(model, FoldBatchNorm(), ["Gemm"])


@pytest.mark.parametrize(
    "second",
    [
        "Mul (a, c)",
        "Mul (c, a)",
        "Add (a, c)",
        "Sub (a, c)",
        "Sub (c, a)",
        "Div (a, c)",
        "Mul (a, s)",
    ],
)
def test_fold_batch_norm_takes_constants_for_each_channel(second):
    constants = {"w": f32(4, 3, 1, 1), "c": f32(4, 1, 1), "s": f32(1)}
    check(parse(f"a = Conv (x, w) y = {second}", **constants), FoldBatchNorm(), ["Conv"])


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv (x, w) b = Mul (a, c) y = Add (a, b)",
        "a = Conv (x, w) y = Div (c, a)",
        "a = Conv (x, w) y = Mul (a, row)",
        "a = Relu (x) y = Mul (a, x)",
    ],
)
def test_fold_batch_norm_leaves_what_is_no_map_of_channels(body):
    model = parse(body, w=f32(4, 3, 1, 1), c=f32(4, 1, 1), row=f32(8))
    expected = ops(model)
    check(model, FoldBatchNorm(), expected)


def test_layers_that_share_weights_are_folded_apart():
    model = parse(
        "a = Conv (x, w) b = Mul (a, c) d = Conv (x, w) y = Add (b, d)",
        w=f32(4, 3, 1, 1),
        c=f32(4, 1, 1),
    )
    check(model, FoldBatchNorm(), ["Conv", "Conv", "Add"])


@pytest.mark.parametrize(
    "node", ["BatchNormalization (x, c, c, c, v)", "Mul (x, t)", "Sub (t, x)", "Div (x, t)"]
)
def test_replace_batch_norm_by_a_depthwise_convolution(node):
    model = parse(f"y = {node}", c=f32(3), v=np.ones(3, np.float32), t=f32(3, 1, 1))
    check(model, ReplaceBatchNorm(), ["Conv"])


@settings(max_examples=25, deadline=None)
@given(
    padded=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    own=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    stride=st.integers(1, 2),
)
def test_fold_pad(padded, own, stride):
    top, left, bottom, right = padded
    model = parse(
        f"a = Pad (x, p) y = Conv <pads = {own}, strides = [{stride}, {stride}]> (a, w)",
        p=np.array([0, 0, top, left, 0, 0, bottom, right], np.int64),
        w=f32(4, 3, 3, 3),
    )
    check(model, FoldPad(), ["Conv"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Pad (x, p, one) y = Conv (a, w)", "zeros"),
        ("a = Pad <mode = 'edge'> (x, p) y = Conv (a, w)", "constant padding"),
        ("a = Pad (x, crop) y = Conv (a, w)", "crops"),
        ("a = Pad (x, p) b = Conv (a, w) c = Conv (a, w) y = Add (b, c)", "only user"),
        ("a = Pad (x, p) y = MaxPool <kernel_shape = [2, 2]> (a)", "only user"),
        ("a = Pad (x, p) y = Conv <auto_pad = 'SAME_UPPER'> (a, w)", "SAME_UPPER"),
    ],
)
def test_fold_pad_leaves_what_convolutions_cannot_do(body, reason):
    model = parse(
        body.replace("'", '"'),
        p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        crop=np.array([0, 0, -1, 1, 0, 0, 1, 1]),
        one=np.ones((), np.float32),
        w=f32(3, 3, 3, 3),
    )
    report = check(model, FoldPad(), ops(model))
    assert reason in report.skipped[0].reason


@settings(max_examples=30, deadline=None)
@given(
    mode=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
)
def test_resolve_auto_pad(mode, kernel, stride, op):
    # ONNX Runtime refuses to pool with a stride beyond the kernel when it resolves the padding itself.
    stride = min(stride, kernel)
    inputs = "x, w" if op == "Conv" else "x"
    model = parse(
        f'y = {op} <auto_pad = "{mode}", kernel_shape = [{kernel}, {kernel}], '
        f"strides = [{stride}, {stride}]> ({inputs})",
        w=f32(4, 3, kernel, kernel),
    )
    check(model, ResolveAutoPad(), [op])
    assert "auto_pad" not in next(iter(model.graph)).attributes


def test_a_batch_norm_that_does_not_fit_its_channels_is_left_alone(model_file):
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {
      a = Conv (x, w) y = BatchNormalization (a, s, s, s, s)
    }"""
    ones = {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.ones(3, np.float32)}
    model = read_onnx(model_file(text, **ones))
    simplify(model)
    assert [node.op_type for node in model.graph] == ["Conv", "BatchNormalization"]


@pytest.mark.parametrize("step", ["Add (s, b)", "Mul (b, s)", "Sub (b, s)", "Div (s, one)"])
def test_what_a_channel_is_scaled_and_shifted_by_goes_through_a_squeeze_into_the_layer(step):
    body = f"c = Conv <kernel_shape = [9, 1]> (x, w) s = Squeeze (c, two) y = {step}"
    weights = {
        "w": f32(5, 3, 9, 1),
        "b": f32(1, 5, 1, seed=1),
        "one": np.float32(2.5),
        "two": np.array([2], np.int64),
    }
    model = parse(body, "float[N, p, q] y", **weights)
    check(model, SinkReshapes(), ["Conv", step.split()[0], "Squeeze"])
    simplify(model)
    assert ops(model) == ["Conv", "Squeeze"]


def test_a_squeeze_stays_before_what_no_layer_can_take():
    body = "m = MaxPool <kernel_shape = [9, 1]> (x) s = Squeeze (m, two) y = Add (s, b)"
    model = parse(body, "float[N, p, q] y", b=f32(1, 3, 1), two=np.array([2], np.int64))
    check(model, SinkReshapes(), ["MaxPool", "Squeeze", "Add"])
