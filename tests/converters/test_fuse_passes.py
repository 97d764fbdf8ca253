"""Passes that find one operator in several: activations, clamps, norms, softmaxes, sums."""

import numpy as np
import pytest
from check_pass import check, f32, ops, parse, run, used_numbers

from edgekit.converters.passes import (
    FactorSum,
    FuseLayerNorm,
    FuseMatMulAdd,
    MoveSoftmaxAxis,
    UnwrapSoftmax,
    simplify,
)
from edgekit.converters.passes.fuse_clamps import Clamp, FuseClamps, get_clamp


@pytest.mark.parametrize("add", ["Add (a, b)", "Add (b, a)", "Add (a, row)"])
def test_fuse_matmul_add(add):
    constants = {"w": f32(4, 5), "b": f32(5), "row": f32(1, 5)}
    check(
        parse(f"a = MatMul (x, w) y = {add}", "float[N, 5] y", "N, 4", **constants),
        FuseMatMulAdd(),
        ["Gemm"],
    )


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("a = MatMul (x, w) y = Add (a, one)", "N, 4"),
        ("a = MatMul (x, w) y = Add (a, x)", "N, 4"),
        ("a = MatMul (x, w) y = Add (a, b)", "N, M, 4"),
    ],
)
def test_fuse_matmul_add_leaves_other_sums(body, shape):
    constants = {"w": f32(4, 4), "b": f32(4), "one": f32(1)}
    result = "float[N, 4] y" if shape == "N, 4" else "float[N, M, 4] y"
    x = f32(2, 4) if shape == "N, 4" else f32(2, 3, 4)
    check(parse(body, result, shape, **constants), FuseMatMulAdd(), ["MatMul", "Add"], x=x)


@pytest.mark.parametrize("add", ["Add (a, b)", "Add (row, a)"])
def test_fuse_matmul_add_of_larger_rank(add):
    constants = {"w": f32(4, 5), "b": f32(5), "row": f32(1, 1, 5)}
    model = parse(f"a = MatMul (x, w) y = {add}", "float[N, 3, 5] y", "N, 3, 4", **constants)
    check(model, FuseMatMulAdd(), ["Reshape", "Gemm", "Reshape"], x=f32(2, 3, 4))


def test_fuse_clamps_leaves_bounds_to_the_range():
    model = parse(
        "a = Conv (x, w) b = Relu (a) c = Clip (b, lo, hi) d = Conv (c, w) y = Add (d, x)",
        w=f32(3, 3, 1, 1),
        lo=np.array(-1, np.float32),
        hi=np.array(6, np.float32),
    )
    report = FuseClamps(lambda node: node.op_type == "Conv")(model)
    assert ops(model) == ["Conv", "Conv", "Add"]
    assert len(report.changed) == 2
    value = next(iter(model.graph)).outputs[0]
    assert value.name == "c"
    assert get_clamp(value) == Clamp(0.0, 6.0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Conv (x, w) b = Relu (a) y = Add (a, b)", "other users"),
        ("a = MaxPool <kernel_shape = [1, 1]> (x) y = Relu (a)", "not requantized"),
        ("a = Conv (x, w) y = Clip (a, lo, hi)", "0 is not between"),
        ("a = Conv (x, w) m = ReduceMax <keepdims = 0> (x) y = Clip (a, , m)", "not constant"),
    ],
)
def test_fuse_clamps_keeps_what_a_range_cannot_do(body, reason):
    bounds = {"lo": np.array(1, np.float32), "hi": np.array(6, np.float32)}
    model = parse(body, w=f32(3, 3, 1, 1), **bounds)
    report = FuseClamps(lambda node: node.op_type == "Conv")(model)
    assert not report.changed
    assert reason in report.skipped[0].reason


ACTIVATIONS = [
    ("a = Add (x, three) b = Clip (a, zero, six) c = Mul (x, b) y = Div (c, six)", "HardSwish"),
    ("a = Add (three, x) b = Clip (a, zero, six) c = Mul (b, x) y = Mul (sixth, c)", "HardSwish"),
    ("a = Add (x, three) b = Clip (a, zero, six) c = Div (b, six) y = Mul (x, c)", "HardSwish"),
    ("a = Add (x, three) b = Clip (a, zero, six) y = Mul (b, sixth)", "HardSigmoid"),
    ("a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, half)", "Gelu"),
    ("a = Mul (x, rooth) b = Erf (a) c = Add (one, b) d = Mul (half, x) y = Mul (d, c)", "Gelu"),
    ("a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (c, half) y = Mul (x, d)", "Gelu"),
]


@pytest.mark.parametrize(("body", "expected"), ACTIVATIONS)
def test_fuse_activations(body, expected):
    model = parse(body, **used_numbers(body))
    x = np.linspace(-8, 8, 2 * 3 * 9 * 8, dtype=np.float32).reshape(2, 3, 9, 8)
    before = run(model, x)[0]
    simplify(model)
    assert ops(model) == [expected]
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add (x, three) b = Clip (a, zero, six) c = Mul (x, b) y = Div (c, three)",
        "a = Add (x, half) b = Clip (a, zero, six) c = Mul (x, b) y = Div (c, six)",
        "a = Add (x, three) b = Clip (a, zero, three) c = Mul (x, b) y = Div (c, six)",
        "a = Add (x, three) b = Clip (a, zero, six) c = Mul (a, b) y = Div (c, six)",
        "a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, six)",
        "a = Mul (x, half) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, half)",
        "a = Div (x, root) b = Erf (a) c = Add (b, one) d = Div (half, c) y = Mul (d, x)",
    ],
)
def test_fuse_activations_leaves_what_is_close_to_one(body):
    model = parse(body, **used_numbers(body))
    simplify(model)
    assert not {"HardSwish", "HardSigmoid", "Gelu"} & set(ops(model))


NORM = "m = ReduceMean (x, last) d = Sub (x, m) q = {square} v = ReduceMean (q, last) e = Add ({sum}) s = Sqrt (e) "


@pytest.mark.parametrize("square", ["Mul (d, d)", "Pow (d, two)"])
@pytest.mark.parametrize("total", ["v, eps", "eps, v"])
@pytest.mark.parametrize(
    "rest",
    [
        "y = Div (d, s)",
        "n = Div (d, s) y = Mul (n, g)",
        "n = Div (d, s) h = Mul (g, n) y = Add (b, h)",
        "n = Div (d, s) y = Add (n, b)",
        "r = Reciprocal (s) n = Mul (d, r) h = Mul (n, g) y = Add (h, b)",
        "r = Reciprocal (s) y = Mul (r, d)",
    ],
)
def test_fuse_layer_norm(square, total, rest):
    body = NORM.format(square=square, sum=total) + rest
    weights = {"last": np.array([-1]), "two": np.float32(2), "eps": np.float32(1e-5)}
    weights |= {name: f32(8) for name in "gb" if f"{name}," in rest or f" {name})" in rest}
    model = parse(body, **{name: array for name, array in weights.items() if name in body})
    x = f32(2, 3, 9, 8, seed=4)
    before = run(model, x)[0]
    simplify(model)
    assert ops(model) == ["LayerNormalization"]
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("square", "rest"),
    [("Mul (d, x)", "y = Div (d, s)"), ("Mul (d, d)", "y = Div (x, s)")],
)
def test_fuse_layer_norm_leaves_what_is_none(square, rest):
    body = NORM.format(square=square, sum="v, eps") + rest
    model = parse(body, last=np.array([-1]), eps=np.float32(1e-5))
    assert not FuseLayerNorm()(model).changed


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_move_softmax_axis(axis):
    model = parse(f"y = Softmax <axis = {axis}> (x)")
    check(model, MoveSoftmaxAxis(), ["Transpose", "Softmax", "Transpose"])


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_move_softmax_axis_leaves_channels_and_the_last(axis):
    assert not MoveSoftmaxAxis()(parse(f"y = Softmax <axis = {axis}> (x)")).changed


@pytest.mark.parametrize("body", ["p = Mul (x, s) y = Add (x, p)", "p = Mul (s, x) y = Add (p, x)"])
def test_factor_sum(body):
    model = parse(f"g = GlobalAveragePool (x) s = Sigmoid (g) {body}")
    check(model, FactorSum(), ["GlobalAveragePool", "Sigmoid", "Add", "Mul"])


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid (x) p = Mul (x, s) y = Add (x, p)",
        "g = GlobalAveragePool (x) p = Mul (x, g) q = Add (x, p) y = Mul (q, p)",
        "g = GlobalAveragePool (x) r = Relu (x) p = Mul (x, g) y = Add (r, p)",
    ],
)
def test_factor_sum_leaves_what_is_none(body):
    assert not FactorSum()(parse(body)).changed


@pytest.mark.parametrize(
    ("body", "shape", "expected"),
    [
        ("a = Flatten <axis = 3> (x) b = Softmax (a) y = Reshape (b, whole)", "2, 3, 9, 8", True),
        (
            "a = Reshape (x, flat) b = Softmax <axis = 1> (a) y = Reshape (b, whole)",
            "2, 3, 9, 8",
            True,
        ),
        (
            "a = Flatten <axis = 3> (x) b = Softmax <axis = 0> (a) y = Reshape (b, whole)",
            "2, 3, 9, 8",
            False,
        ),
        ("a = Flatten <axis = 2> (x) b = Softmax (a) y = Reshape (b, whole)", "2, 3, 9, 8", False),
        ("a = Flatten <axis = 3> (x) b = Softmax (a) y = Reshape (b, other)", "2, 3, 9, 8", False),
    ],
)
def test_softmax_is_taken_out_of_reshapes_that_keep_its_rows(body, shape, expected):
    whole, other = np.array([2, 3, 9, 8], np.int64), np.array([3, 2, 9, 8], np.int64)
    model = parse(body, shape=shape, whole=whole, other=other, flat=np.array([54, 8], np.int64))
    before = ops(model)
    check(model, UnwrapSoftmax(), ["Softmax"] if expected else before, x=f32(2, 3, 9, 8))


def test_softmax_leaves_the_rows_that_others_read():
    body = "a = Flatten <axis = 3> (x) b = Softmax (a) c = Reshape (b, s) d = Reshape (a, s) y = Add (c, d)"
    model = parse(body, shape="2, 3, 9, 8", s=np.array([2, 3, 9, 8], np.int64))
    check(model, UnwrapSoftmax(), ["Flatten", "Softmax", "Reshape", "Add"], x=f32(2, 3, 9, 8))
