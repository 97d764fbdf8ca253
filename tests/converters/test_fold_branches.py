"""Branches whose side is known leave the graph; those that are decided when the network runs are named."""

import re

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import edgekit
from edgekit import ModelError
from edgekit.converters.fold_branches import parse_constant
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import keep_float
from edgekit.converters.read_model import read_model
from edgekit.session import OnnxSession


def branch(name, factor, *, nested=None):
    """A subgraph ``x * factor``, or one with a branch of its own."""
    nodes = [
        helper.make_node(
            "Constant", [], [f"{name}.factor"], value=numpy_helper.from_array(np.float32(factor))
        ),
        helper.make_node("Mul", ["x", f"{name}.factor"], [f"{name}.scaled"]),
    ]
    if nested is None:
        nodes.append(helper.make_node("Identity", [f"{name}.scaled"], [f"{name}_out"]))
    else:
        then, other = nested
        nodes.append(
            helper.make_node(
                "If", ["is_wide"], [f"{name}_out"], then_branch=then, else_branch=other
            )
        )
    output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])


def draw(name):
    """A subgraph that adds random numbers."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], [f"{name}.noise"]),
        helper.make_node("Add", ["x", f"{name}.noise"], [f"{name}_out"]),
    ]
    output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])


def shrink(name):
    """A subgraph that gives another shape: the largest of each row."""
    node = helper.make_node("ReduceMax", ["x"], [f"{name}_out"], axes=[1])
    output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    return helper.make_graph([node], name, [], [output])


def write(path, *, nested=False, condition="rate", opset=16, other=None):
    """``y = If(rate == 16000, x * 2, x * 3)``, each side maybe with a branch on the width of x.

    ``other`` is another graph for the second side.
    """
    sides = [None, None]
    if nested:
        sides = [(branch(f"{s}.wide", 5), branch(f"{s}.narrow", 7)) for s in ("then", "else")]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["width"]),
        helper.make_node("Greater", ["width", "four"], ["is_wide"]),
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["peak", "zero"], ["is_loud"]),
        helper.make_node("Equal", ["sr", "rate16"], ["is_16"]),
        helper.make_node(
            "If",
            [{"rate": "is_16", "values": "is_loud"}[condition]],
            ["chosen"],
            "choose",
            then_branch=branch("then", 2, nested=sides[0]),
            else_branch=other or branch("else", 3, nested=sides[1]),
        ),
        helper.make_node("Relu", ["chosen"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(1), "one"),
        numpy_helper.from_array(np.array(4), "four"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.array(16000), "rate16"),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "width"]),
            helper.make_tensor_value_info("sr", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "width"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@settings(max_examples=20, deadline=None)
@given(
    st.booleans(),
    st.sampled_from([8000, 16000]),
    st.sampled_from([3, 6]),
    st.sampled_from([13, 16]),
)
def test_known_branches_go_and_the_answer_stays(tmp_path_factory, nested, rate, width, opset):
    path = write(tmp_path_factory.getbasetemp() / "if.onnx", nested=nested, opset=opset)
    source = read_model(path, constants={"sr": rate}, shapes={"x": (2, width)})
    graph = source.graph.graph
    assert not {"If"} & {node.op_type for node in graph.all_nodes()}
    assert [value.name for value in graph.inputs] == ["x"]
    x = np.random.default_rng(0).normal(0, 1, (2, width)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x, "sr": np.array(rate)})
    (given_,) = OnnxSession(source.reference, 1).run({"x": x}).values()
    np.testing.assert_allclose(given_, wanted, rtol=1e-6)


def test_nothing_of_the_other_side_is_left(tmp_path):
    source = read_model(write(tmp_path / "if.onnx"), constants={"sr": 16000})
    simplify(source.graph)
    constants = [value.const_value.numpy() for value in source.graph.graph.initializers.values()]
    assert not any(np.any(array == 3) for array in constants)


def test_a_branch_on_an_open_size_stays(tmp_path):
    source = read_model(write(tmp_path / "if.onnx", nested=True), constants={"sr": 16000})
    assert [node.op_type for node in source.graph.graph].count("If") == 1
    x = np.ones((1, 9), np.float32)
    (y,) = OnnxSession(source.reference, 1).run({"x": x}).values()
    np.testing.assert_array_equal(y, 5 * x)


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.sampled_from([3, 6]), st.sampled_from([13, 16]), st.booleans())
def test_both_sides_are_computed_where_values_decide(
    tmp_path_factory, nested, width, opset, is_open
):
    path = write(
        tmp_path_factory.getbasetemp() / "if.onnx", nested=nested, opset=opset, condition="values"
    )
    shapes = {} if is_open and not nested else {"x": (2, width)}
    source = read_model(path, constants={"sr": 16000}, shapes=shapes)
    assert not {"If"} & {node.op_type for node in source.graph.graph.all_nodes()}
    assert source.notes == ("If 'choose': both sides are computed, and one is taken",)
    x = np.random.default_rng(0).normal(0, 1, (2, width)).astype(np.float32)
    for sample in (np.abs(x), -np.abs(x)):
        (wanted,) = ReferenceEvaluator(onnx.load(path)).run(
            None, {"x": sample, "sr": np.array(16000)}
        )
        (given_,) = OnnxSession(source.reference, 1).run({"x": sample}).values()
        np.testing.assert_allclose(given_, wanted, rtol=1e-6)


@pytest.mark.parametrize("form", ["native", "onnx", "tflite"])
def test_a_branch_on_values_is_deployed(tmp_path, form):
    if form == "tflite":
        pytest.importorskip("ai_edge_litert", reason="TFLite files need the extra tflite")
    path = write(tmp_path / "if.onnx", condition="values", nested=True)
    random = np.random.default_rng(0)
    samples = [{"x": s * np.abs(random.normal(0, 1, (1, 8))).astype(np.float32)} for s in (-1, 1)]
    # Which of the inner branches is taken depends on the width, which the samples have.
    deployed = edgekit.deploy(
        path,
        calibration=samples,
        constants={"sr": 8000},
        format=form,
        output=tmp_path / form,
        precision="int8",
        target="x86-64-v2",
    )
    session = OnnxSession(path, 1)
    step = 7 * max(np.abs(sample["x"]).max() for sample in samples) / 100
    for sample in samples:
        (wanted,) = session.run({**sample, "sr": np.array(8000)}).values()
        (given_,) = deployed.load().run(sample).values()
        np.testing.assert_allclose(given_, wanted, atol=step)


def test_a_branch_that_stays_is_named_before_anything_runs(tmp_path):
    """The shapes that the samples have fit one side alone; the ONNX form keeps both."""
    path = write(tmp_path / "if.onnx", other=shrink("else"))
    sample = {"x": np.ones((1, 8), np.float32), "sr": np.array(16000)}
    with pytest.raises(ModelError, match=r"'choose' \(If\): .* decided .* by 'sr'.* constants="):
        edgekit.deploy(path, calibration=[sample], format="native", output=tmp_path / "native")
    kept = edgekit.deploy(path, calibration=[sample], format="onnx", output=tmp_path / "onnx")
    (y,) = kept.load().run(sample).values()
    np.testing.assert_allclose(y, 2 * sample["x"], atol=0.02)


def test_the_batch_is_what_is_open_in_front(tmp_path):
    """A state's first dimension is no batch, whatever the graph computes from its shapes."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 20]>
        net (float[N, 8] x, float[2, N, 8] state) => (float[2, N, 8] y)
        <float[1, 8] one = {1, 1, 1, 1, 1, 1, 1, 1}, int64[1] front = {0}>
        { whole = Shape (x) ones = Expand (one, whole) a = Add (x, ones) wide = Unsqueeze (a, front)
          y = Add (wide, state) }"""
    )
    onnx.save(model, tmp_path / "state.onnx")
    random = np.random.default_rng(0)
    sample = {
        "x": random.normal(0, 1, (1, 8)).astype(np.float32),
        "state": random.normal(0, 1, (2, 1, 8)).astype(np.float32),
    }
    deployed = edgekit.deploy(
        tmp_path / "state.onnx",
        calibration=[sample],
        format="native",
        precision="int8",
        target="x86-64-v2",
        output=tmp_path / "out",
    )
    (y,) = deployed.load().run(sample).values()
    np.testing.assert_allclose(y, sample["x"] + 1 + sample["state"], atol=0.1)


@pytest.mark.parametrize(
    ("condition", "other", "words"),
    [
        ("values", shrink("else"), r"by 'x', and its sides give 'then_out' of shape \[1, 8\] and"),
        ("values", draw("else"), r"'else.noise' \(RandomNormalLike\), which draws random numbers"),
        ("rate", shrink("else"), r"by 'sr', .* bind it with constants=\{'name': value\}"),
    ],
)
def test_a_branch_that_stays_is_named(tmp_path, condition, other, words):
    path = write(tmp_path / "if.onnx", condition=condition, other=other)
    source = read_model(path, shapes={"x": (1, 8)})
    for node in source.graph.graph:
        keep_float(node)
    if condition == "values":
        source.graph.graph.inputs.pop()  # The rate, which nothing reads.
    with pytest.raises(
        ModelError, match=r"'choose' \(If\): what it computes is decided when"
    ) as info:
        lower(source.graph)
    assert re.search(words, str(info.value))


def test_a_branch_on_an_open_size_says_that_shapes_are_wanted(tmp_path):
    source = read_model(write(tmp_path / "if.onnx", nested=True), constants={"sr": 16000})
    for node in source.graph.graph:
        keep_float(node)
    with pytest.raises(ModelError, match=r"depends on the shape of an input: give all shapes"):
        lower(source.graph)


@pytest.mark.parametrize(
    ("constants", "words"),
    [
        ({"rate": 16000}, "there is no input 'rate' to bind to a constant: the model has sr, x"),
        ({"sr": 16000.5}, "input 'sr' is int64 and cannot be 16000.5"),
        ({"sr": [1, 2]}, r"input 'sr' has the shape \[\] and cannot be of shape \[2\]"),
        ({"sr": "fast"}, "input 'sr' cannot be bound to 'fast'"),
        ({"sr": 1, "x": np.zeros((1, 8), np.float32)}, "input 'x' is the only one"),
    ],
)
def test_constants_that_do_not_fit_are_named(tmp_path, constants, words):
    with pytest.raises(ModelError, match=words):
        read_model(write(tmp_path / "if.onnx"), constants=constants)


def test_constants_are_parsed():
    assert parse_constant("sr=16000") == ("sr", [16000.0])
    for text in ("sr", "=1", "sr=", "sr=fast"):
        with pytest.raises(ModelError, match="is no constant: write NAME=16000"):
            parse_constant(text)
