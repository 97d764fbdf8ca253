"""Passes that replace an operator by ones that a plan holds."""

import numpy as np
import pytest
from check_pass import check, f32, ops, parse, run

from edgekit.converters.passes import (
    NormalizeGemm,
    ReplaceConv1D,
    ReplaceGather,
    ReplaceGatherND,
    ReplaceReduceMean,
    ReplaceSplit,
    ReplaceVariadic,
    simplify,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Sum (x, w, x)", ["Add", "Add"]),
        ("a = Relu (x) y = Sum (a, x)", ["Relu", "Add"]),
        ("a = Relu (x) y = Sum (a)", ["Relu", "Identity"]),
        ("a = Relu (x) y = Max (a, w, x)", ["Relu", "Max", "Max"]),
        ("a = Relu (x) y = Min (a, w, x)", ["Relu", "Min", "Min"]),
        ("y = Max (x, w)", ["Max"]),
        ("y = Mean (x, w, x)", ["Add", "Add", "Mul"]),
    ],
)
def test_replace_variadic(body, expected):
    check(parse(body, w=f32(3, 9, 8)), ReplaceVariadic(), expected)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_replace_reduce_mean(axes, keep):
    model = parse(
        f"y = ReduceMean <keepdims = {keep}> (x, axes)",
        "float[N, p, q, r] y" if keep else "float[N, p] y",
        axes=np.array(axes, np.int64),
    )
    expected = ["GlobalAveragePool"] if keep else ["GlobalAveragePool", "Flatten"]
    check(model, ReplaceReduceMean(), expected)


@pytest.mark.parametrize("axes", [[1], [2], [1, 2, 3]])
def test_replace_reduce_mean_leaves_other_axes(axes):
    model = parse("y = ReduceMean (x, axes)", axes=np.array(axes, np.int64))
    report = check(model, ReplaceReduceMean(), ["ReduceMean"])
    assert report.skipped[0].reason == "it is not over height and width"


@pytest.mark.parametrize("turned", [0, 1])
def test_normalize_gemm(turned):
    model = parse(
        f"y = Gemm <alpha = 0.5, beta = 2.0, transA = {turned}> (x, w, b)",
        "float[p, q] y",
        "4, 4",
        w=f32(4, 5),
        b=f32(5),
    )
    expected = ["Transpose", "Gemm"] if turned else ["Gemm"]
    check(model, NormalizeGemm(), expected, x=f32(4, 4))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather <axis = 1> (x, one)", ["Slice", "Squeeze"]),
        ("y = Gather <axis = -2> (x, minus)", ["Slice", "Squeeze"]),
        ("y = Gather <axis = 3> (x, run)", ["Slice"]),
    ],
)
def test_replace_gather(body, expected):
    weights = {"one": np.array(1), "minus": np.array(-1), "run": np.array([2, 3, 4])}
    used = {name: array for name, array in weights.items() if f" {name})" in body}
    result = "float[N, p, q] y" if "Squeeze" in expected else "float[N, p, q, r] y"
    check(parse(body, result, **used), ReplaceGather(), expected)


@pytest.mark.parametrize(
    "split", ["Split <axis = 2> (x, sizes)", "Split <axis = -2, num_outputs = 3> (x)"]
)
def test_replace_split(split):
    sizes = {"sizes": np.array([2, 3, 4])} if "sizes" in split else {}
    model = parse(f"a, b, c = {split} d = Relu (b) y = Concat <axis = 2> (c, d, a)", **sizes)
    check(model, ReplaceSplit(), ["Slice", "Slice", "Slice", "Relu", "Concat"])


def test_replace_gather_at_places_of_two_dimensions():
    model = parse(
        "y = Gather <axis = 1> (x, some)",
        "float[p, q, r] y",
        "2, 9",
        some=np.array([[2, 3], [4, 5]]),
    )
    check(model, ReplaceGather(), ["Slice", "Reshape"], x=f32(2, 9))


def test_replace_gather_leaves_sizes():
    model = parse("s = Shape (x) y = Gather (s, one)", "int64 y", one=np.array(1))
    assert not ReplaceGather()(model).modified


@pytest.mark.parametrize(
    ("places", "result"),
    [
        ([[[0, 0], [1, 8]], [[0, -1], [-2, 3]]], "float[p, q, r] y"),
        ([[0], [1], [1]], "float[p, q, r] y"),
        ([1, 2, 0], "float y"),
    ],
)
def test_replace_gather_nd(places, result):
    shape = "2, 9, 3" if np.ndim(places) < 3 else "2, 9, 4"
    model = parse("y = GatherND (x, at)", result, shape, at=np.array(places))
    x = f32(*(int(size) for size in shape.split(", ")))
    check(model, ReplaceGatherND(), ["Reshape", "Gather"], x=x)


@pytest.mark.parametrize(
    ("body", "shape", "at"),
    [
        ("GatherND <batch_dims = 1> (x, at)", "2, 9, 4", [[0], [1]]),
        ("GatherND (x, at)", "N, 9, 4", [[0], [1]]),
        ("GatherND (x, at)", "2, 9, 4", [[0], [2]]),
    ],
)
def test_replace_gather_nd_leaves_what_it_cannot_number(body, shape, at):
    model = parse(f"y = {body}", "float[p, q, r] y", shape, at=np.array(at))
    report = ReplaceGatherND()(model)
    assert report.skipped
    assert not report.modified


def test_replace_gather_leaves_places_that_are_apart():
    model = parse("y = Gather <axis = 3> (x, some)", some=np.array([0, 2]))
    assert ReplaceGather()(model).skipped


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Conv <pads = [1, 2], strides = [2]> (x, w, b)", {"w": f32(5, 3, 3), "b": f32(5)}),
        ("y = Conv <dilations = [2], group = 3> (x, w)", {"w": f32(6, 1, 2)}),
        ("y = ConvTranspose <strides = [2], output_padding = [1]> (x, w)", {"w": f32(3, 2, 3)}),
        ("y = MaxPool <kernel_shape = [3], strides = [2]> (x)", {}),
        ("y = AveragePool <kernel_shape = [2], pads = [1, 0]> (x)", {}),
    ],
)
def test_replace_conv_1d(body, weights):
    model = parse(body, "float[N, p, q] y", "N, 3, 9", **weights)
    layer = body.split()[2]
    check(model, ReplaceConv1D(), ["Unsqueeze", layer, "Squeeze"])


def test_layers_over_sequences_follow_each_other_as_images():
    model = parse(
        "a = Conv (x, w) b = Relu (a) c = Conv (b, v) y = LeakyRelu (c)",
        "float[N, p, q] y",
        "N, 3, 9",
        w=f32(4, 3, 3),
        v=f32(5, 4, 3),
    )
    x = f32(2, 3, 9)
    before = run(model, x)[0]
    simplify(model)
    assert ops(model) == ["Unsqueeze", "Conv", "Relu", "Conv", "LeakyRelu", "Squeeze"]
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=1e-5)
