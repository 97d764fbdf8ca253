"""Passes that remove nodes, and all passes together."""

import numpy as np
import onnx_ir as ir
import pytest
from check_pass import check, f32, ops, parse, run, used_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.passes import (
    PASSES,
    RemoveIdentities,
    SimplifyExpand,
    SimplifyReshape,
    simplify,
)
from edgekit.converters.read_onnx import bind_batch

IDENTITIES = [
    "a = Identity (x) y = Relu (a)",
    "a = Relu (x) y = Identity (a)",
    "a = Dropout (x) y = Relu (a)",
    "a = Cast <to = 1> (x) y = Relu (a)",
    "a = Transpose <perm = [0, 1, 2, 3]> (x) y = Relu (a)",
    "a = Concat <axis = 1> (x) y = Relu (a)",
    "a = Pad (x, nothing) y = Relu (a)",
    "a = Clip (x) y = Relu (a)",
    "a = Reshape (x, same) y = Relu (a)",
]


@pytest.mark.parametrize("body", IDENTITIES)
def test_remove_identities(body):
    model = parse(body, nothing=np.zeros(8, np.int64), same=np.array([0, 3, 9, 8], np.int64))
    check(model, RemoveIdentities(), ["Relu"])
    assert model.graph.outputs[0].name == "y"


def test_slices_of_all_there_is_are_removed():
    numbers = {
        "starts": np.zeros(3, np.int64),
        "ends": np.array([10**9, 8, 2**31 - 1]),
        "axes": np.array([0, 3, -2]),
        "ones": np.ones(3, np.int64),
        "shorter": np.array([10**9, 7, 9]),
        "bounded": np.array([4, 8, 9]),
        "second": np.array([0, 1, 0]),
    }
    for body in ("starts, ends, axes", "starts, ends, axes, ones"):
        model = parse(f"a = Slice (x, {body}) y = Relu (a)", **numbers)
        check(model, RemoveIdentities(), ["Relu"])
    for body in (
        "starts, shorter, axes",
        "starts, bounded, axes, ones",
        "second, ends, axes",
    ):
        model = parse(f"a = Slice (x, {body}) y = Relu (a)", **numbers)
        check(model, RemoveIdentities(), ["Slice", "Relu"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Identity (x)", "joins an input"),
        ("a, mask = Dropout (x) b = Cast <to = 1> (mask) y = Add (a, b)", "second output is used"),
    ],
)
def test_remove_identities_says_why_it_leaves_a_node(body, reason):
    report = RemoveIdentities()(parse(body))
    assert not report.changed
    assert reason in report.skipped[0].reason


def test_remove_identities_keeps_what_changes_something():
    body = "a = Transpose <perm = [0, 1, 3, 2]> (x) b = Pad (a, some) y = Cast <to = 10> (b)"
    some = np.array([0, 0, 0, 1, 0, 0, 0, 0], np.int64)
    model = parse(body, "float16[N, p, q, r] y", some=some)
    check(model, RemoveIdentities(), ["Transpose", "Pad", "Cast"])


RESHAPES = [
    "s = Shape (x) n = Gather (s, zero) a = Unsqueeze (n, ax) t = Concat <axis = 0> (a, minus)",
    "s = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (s, minus)",
    "s = Shape (x) a = Slice (s, ax, one) t = Concat <axis = 0> (a, minus)",
]


@pytest.mark.parametrize("target", RESHAPES)
def test_simplify_reshape_of_a_symbolic_batch(target):
    model = parse(
        f"{target} y = Reshape (x, t)",
        "float[N, p] y",
        zero=np.array(0),
        ax=np.array([0]),
        one=np.array([1]),
        minus=np.array([-1]),
    )
    x = f32(2, 3, 9, 8)
    before = run(model, x)[0]
    report = simplify(model)
    assert ops(model) == ["Reshape"]
    assert any("became the constant [0, -1]" in line for line in report.changed)
    np.testing.assert_array_equal(run(model, x)[0], before)
    bind_batch(model, 4)
    assert list(model.graph.outputs[0].shape) == [4, 216]


def test_simplify_reshape_leaves_what_depends_on_values():
    model = parse(
        "b = Cast <to = 7> (x) c = Reshape (b, flat) t = Gather (c, some) y = Reshape (x, t)",
        "float[p, q] y",
        flat=np.array([-1]),
        some=np.array([0, 1]),
    )
    report = SimplifyReshape()(model)
    assert not report.changed
    assert "more than one unknown" in report.skipped[0].reason


EXPANDS = [
    # The batch is a dimension of x by its name, or by what -1 stands for.
    ("r = Reshape (x, keep)", "Expand", [2, 216, 3]),
    ("r = Reshape (x, open)", "Expand", [2, 216, 3]),
    ("r = Reshape (x, keep)", None, [2, 216, 1]),
]


@pytest.mark.parametrize(("reshape", "kept", "shape"), EXPANDS)
def test_simplify_expand_of_a_symbolic_batch(reshape, kept, shape):
    model = parse(
        f"{reshape} s = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (s, rest) y = Expand (r, t)",
        "float[N, p, q] y",
        keep=np.array([0, 216, 1]),
        open=np.array([-1, 216, 1]),
        rest=np.array(shape[1:]),
    )
    x = f32(2, 3, 9, 8)
    before = run(model, x)[0]
    assert list(before.shape) == shape
    report = simplify(model)
    assert ops(model) == ["Reshape", *([kept] if kept else [])]
    assert any(f"became the constant {[1, *shape[1:]]}" in line for line in report.changed)
    np.testing.assert_array_equal(run(model, x)[0], before)
    bind_batch(model, 4)
    assert list(model.graph.outputs[0].shape) == [4, *shape[1:]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("s = Shape <start = 2, end = 3> (x) t = Concat <axis = 0> (s, rest)", "no dimension of"),
        ("b = Reshape (x, flat) c = Cast <to = 7> (b) t = Gather (c, some)", "cannot be followed"),
        ("m = Reshape (x, flat) s = Shape (m) t = Concat <axis = 0> (s, rest)", "no dimension of"),
    ],
)
def test_simplify_expand_leaves_what_it_cannot_know(body, reason):
    model = parse(
        f"{body} y = Expand (x, t)",
        "float[p, q, r, s] y",
        "N, 3, H, 8",
        rest=np.array([3, 1, 8]),
        flat=np.array([-1]),
        some=np.array([0, 1, 2, 3]),
    )
    report = SimplifyExpand()(model)
    assert not report.changed
    assert reason in report.skipped[0].reason


BLOCKS = [
    "{o} = Relu ({i})",
    "{o} = Conv <pads = [1, 1, 1, 1]> ({i}, w)",
    "{o} = BatchNormalization ({i}, c, c, c, v)",
    "{o} = Identity ({i})",
    "{o} = Mul ({i}, t)",
    "{o} = Add ({i}, t)",
    '{o} = AveragePool <kernel_shape = [3, 3], auto_pad = "SAME_LOWER"> ({i})',
    "{o}_ = Pad ({i}, p) {o} = Conv ({o}_, w)",
    "{o}_ = Conv <pads = [1, 1, 1, 1]> ({i}, w) {o} = Add ({o}_, {i})",
]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=6))
def test_simplify_keeps_what_any_chain_of_blocks_computes(blocks):
    body = " ".join(block.format(i=f"v{i}", o=f"v{i + 1}") for i, block in enumerate(blocks))
    body = f"v0 = Relu (x) {body} m = ReduceMean <keepdims = 0> (v{len(blocks)}, axes) a = MatMul (m, g) y = Add (a, b)"
    model = parse(
        body,
        "float[N, 4] y",
        w=f32(3, 3, 3, 3) / 4,
        c=f32(3),
        v=np.abs(f32(3)) + 1,
        t=f32(3, 1, 1),
        p=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        axes=np.array([2, 3]),
        g=f32(3, 4),
        b=f32(4),
    )
    x = f32(2, 3, 9, 8)
    before = run(model, x)[0]
    report = simplify(model)
    assert not any(line for rules in report.rounds[-1] for line in rules.changed)
    assert set(ops(model)) <= {
        "Conv",
        "Relu",
        "Add",
        "AveragePool",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-3, atol=1e-4)


def test_every_pass_has_its_rules_in_its_docstring():
    assert all("Rules" in (graph_pass.__doc__ or "") for graph_pass in PASSES)


def test_a_pass_that_breaks_the_graph_is_caught():
    class BreakGraph(RemoveIdentities):
        def rewrite(self, graph, node):
            node.replace_input_with(0, ir.Value(name="nowhere"))
            return "broke it"

    with pytest.raises(ir.passes.PostconditionError, match="uses 'nowhere' before it is made"):
        BreakGraph()(parse("a = Identity (x) y = Relu (a)"))


@pytest.mark.parametrize(
    "body",
    [
        "a = Mul (x, one) y = Relu (a)",
        "a = Add (zero, x) y = Relu (a)",
        "a = Div (x, one) b = Sub (a, zero) y = Relu (b)",
    ],
)
def test_neutral_operands_are_removed(body):
    check(parse(body, **used_numbers(body)), RemoveIdentities(), ["Relu"])


@pytest.mark.parametrize("body", ["y = Div (one, x)", "y = Sub (zero, x)", "y = Mul (x, half)"])
def test_operands_that_matter_stay(body):
    assert not RemoveIdentities()(parse(body, **used_numbers(body))).changed
