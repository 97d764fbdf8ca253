import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.passes import (
    PASSES,
    FactorSum,
    FoldBatchNorm,
    FoldConstants,
    FoldPad,
    FuseLayerNorm,
    FuseMatMulAdd,
    MoveSoftmaxAxis,
    NormalizeGemm,
    RemoveIdentities,
    ReplaceBatchNorm,
    ReplaceConv1D,
    ReplaceGather,
    ReplaceReduceMean,
    ReplaceSplit,
    ReplaceSum,
    ResolveAutoPad,
    SimplifyReshape,
    UnwrapSoftmax,
    simplify,
)
from edgekit.converters.passes.fuse_clamps import Clamp, FuseClamps, get_clamp
from edgekit.converters.read_onnx import bind_batch, infer_shapes, read_onnx


def f32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(body, result="float[N, p, q, r] y", shape="N, 3, 9, 8", **weights):
    """Returns the model of ``body``, canonical, with ``weights`` as initializers."""
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    net (float[{shape}] x) => ({result}) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def run(model, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})


def ops(model):
    return [node.op_type for node in model.graph]


def check(model, graph_pass, expected, x=None, tolerance=1e-5):
    """Applies the pass: the operators become ``expected``, the results stay, a second time changes nothing."""
    if x is None:
        x = f32(2, *(dim for dim in model.graph.inputs[0].shape[1:]), seed=7)
    before = run(model, x)
    report = graph_pass(model)
    assert ops(model) == expected
    assert report.modified == bool(report.changed)
    assert not graph_pass(model).changed
    infer_shapes(model)
    for new, old in zip(run(model, x), before, strict=True):
        np.testing.assert_allclose(new, old, rtol=tolerance, atol=tolerance)
    return report


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


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Sum (x, w, x)", ["Add", "Add"]),
        ("a = Relu (x) y = Sum (a, x)", ["Relu", "Add"]),
        ("a = Relu (x) y = Sum (a)", ["Relu", "Identity"]),
    ],
)
def test_replace_sum(body, expected):
    check(parse(body, w=f32(3, 9, 8)), ReplaceSum(), expected)


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


def test_a_batch_norm_that_does_not_fit_its_channels_is_left_alone(model_file):
    text = """<ir_version: 8, opset_import: ["": 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {
      a = Conv (x, w) y = BatchNormalization (a, s, s, s, s)
    }"""
    ones = {"w": np.ones((4, 3, 3, 3), np.float32), "s": np.ones(3, np.float32)}
    model = read_onnx(model_file(text, **ones))
    simplify(model)
    assert [node.op_type for node in model.graph] == ["Conv", "BatchNormalization"]


ACTIVATIONS = [
    ("a = Add (x, three) b = Clip (a, zero, six) c = Mul (x, b) y = Div (c, six)", "HardSwish"),
    ("a = Add (three, x) b = Clip (a, zero, six) c = Mul (b, x) y = Mul (sixth, c)", "HardSwish"),
    ("a = Add (x, three) b = Clip (a, zero, six) c = Div (b, six) y = Mul (x, c)", "HardSwish"),
    ("a = Add (x, three) b = Clip (a, zero, six) y = Mul (b, sixth)", "HardSigmoid"),
    ("a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, half)", "Gelu"),
    ("a = Mul (x, rooth) b = Erf (a) c = Add (one, b) d = Mul (half, x) y = Mul (d, c)", "Gelu"),
    ("a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (c, half) y = Mul (x, d)", "Gelu"),
]
NUMBERS = {
    "zero": 0.0,
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "six": 6.0,
    "sixth": 1 / 6,
    "root": 2**0.5,
    "rooth": 0.5**0.5,
}


def used_numbers(body):
    words = body.replace(",", " ").replace("(", " ").replace(")", " ").split()
    return {name: np.float32(value) for name, value in NUMBERS.items() if name in words}


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


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_move_softmax_axis(axis):
    model = parse(f"y = Softmax <axis = {axis}> (x)")
    check(model, MoveSoftmaxAxis(), ["Transpose", "Softmax", "Transpose"])


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_move_softmax_axis_leaves_channels_and_the_last(axis):
    assert not MoveSoftmaxAxis()(parse(f"y = Softmax <axis = {axis}> (x)")).changed


@pytest.mark.parametrize(
    "split", ["Split <axis = 2> (x, sizes)", "Split <axis = -2, num_outputs = 3> (x)"]
)
def test_replace_split(split):
    sizes = {"sizes": np.array([2, 3, 4])} if "sizes" in split else {}
    model = parse(f"a, b, c = {split} d = Relu (b) y = Concat <axis = 2> (c, d, a)", **sizes)
    check(model, ReplaceSplit(), ["Slice", "Slice", "Slice", "Relu", "Concat"])


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
