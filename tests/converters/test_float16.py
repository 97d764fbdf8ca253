"""Weights that are stored as float16 and computed in float32."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
LAYERS = ("dense", "depthwise", "grouped", "product")


def read_network(weights):
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w1"], ["a"], name="dense", pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Conv", ["a", "w2"], ["b"], name="depthwise", group=10),
            onnx.helper.make_node("Conv", ["b", "w3", "b3"], ["c"], name="grouped", group=2),
            onnx.helper.make_node("Flatten", ["c"], ["f"], name="flat"),
            onnx.helper.make_node("MatMul", ["f", "w4"], ["y"], name="product"),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 7, 7])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 9])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    proto.ir_version = 10
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    return model


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(4)
    shapes = {"w1": (10, 3, 3, 3), "w2": (10, 1, 3, 3), "w3": (6, 5, 1, 1), "w4": (150, 9)}
    made = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    # Subnormal in float16, the largest that it holds, and what rounds to 0.
    made["w4"][0, :3] = 3e-7, 65504, 1e-9
    return {**made, "b3": rng.normal(0, 1, 6).astype(np.float32)}


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(0, 1, (1, 3, 7, 7)).astype(np.float32)} for _ in range(3)]


@pytest.fixture(scope="module")
def stored(weights, samples):
    """Returns the network whose layers are float16, quantized."""
    model = read_network(weights)
    formats = dict.fromkeys(LAYERS, NumberFormat.FLOAT16)
    return quantize(model, calibrate(model, samples), formats=formats)


@pytest.fixture(scope="module")
def rounded(weights, samples):
    """Returns the float32 network with the rounded weights."""
    short = {
        name: array if name == "b3" else array.astype(np.float16).astype(np.float32)
        for name, array in weights.items()
    }
    model = read_network(short)
    formats = dict.fromkeys(LAYERS, NumberFormat.FLOAT32)
    return quantize(model, calibrate(model, samples), formats=formats)


@pytest.mark.parametrize("isa", RUNNABLE)
def test_float16_gives_the_bytes_of_float32_with_rounded_weights(
    stored, rounded, samples, isa, tmp_path
):
    expected = run_program(lower(rounded), samples[0])["y"]
    sizes = []
    for number, model in enumerate((stored, rounded)):
        program = lower(model)
        assert run_program(program, samples[0])["y"].tobytes() == expected.tobytes()
        path = tmp_path / f"{number}.plan"
        summary = write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        sizes.append(summary.constants_size)
        for threads in (1, 2):
            session = _native.Session(_native.Plan.open(path), threads)
            assert session.run(samples[0])["y"].tobytes() == expected.tobytes()
    assert sizes[0] < 0.6 * sizes[1]


def test_the_onnx_form_holds_float16_and_casts_it(stored, samples, tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(stored, path, style="ort-x86")
    proto = onnx.load(path)
    halves = [i for i in proto.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) == len(LAYERS)
    y = onnxruntime.InferenceSession(path).run(None, samples[0])[0]
    expected = run_program(lower(stored), samples[0])["y"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)


def test_what_float16_cannot_hold_is_told(weights):
    model = read_network({**weights, "w1": weights["w1"] * 1e6})
    nodes = {node.name: node for node in model.graph}
    assert "float16 cannot hold" in can_hold(nodes["dense"], NumberFormat.FLOAT16)
    assert "only convolutions" in can_hold(nodes["flat"], NumberFormat.FLOAT16)
    assert can_hold(nodes["product"], NumberFormat.FLOAT16) is None
