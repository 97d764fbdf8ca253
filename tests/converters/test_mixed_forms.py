"""The three forms of a network whose layers are partly float32: what is equal, and how far the rest may be apart."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpret_tflite import run_bytes

import edgekit
from edgekit import _native
from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.compare import compare_layers
from edgekit.converters.fusion import report_fusion
from edgekit.converters.lower import fuse_floats, lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Quantize
from edgekit.converters.quantizable import LAYERS, can_be_dynamic
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.tflite import write_tflite
from edgekit.converters.tflite.compare import compare_operators
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan

BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, w, b)  r = Relu (a)
    d = Conv <group = 8, pads = [1, 1, 1, 1]> (r, v, b)  c = Clip (d, low, high)
    s = Add (c, r)  t = Conv (s, u, b)  n = Concat <axis = 1> (t, r)
    h = HardSwish (n)  g = GlobalAveragePool (h)  f = Flatten (g)
    k = Gemm <transB = 1> (f, m, o)  z = Gemm <transB = 1> (k, q, o)  y = Softmax <axis = 1> (z)
"""
NODES = "arcdsctnhgfkzy"
STYLE = "ort-x86" if _native.best_isa().startswith("x86") else "ort-arm"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A float network with branches, what calibration learned of it, and samples."""
    rng = np.random.default_rng(5)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 4, 10, 10] x) => (float[1, 10] y) '
        f"{{ {BODY} }}"
    )
    constants = {
        "w": rng.normal(0, 0.3, (8, 4, 3, 3)) * rng.uniform(0.1, 2, (8, 1, 1, 1)),
        "v": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "u": rng.normal(0, 0.5, (8, 8, 1, 1)),
        "m": rng.normal(0, 1, (10, 16)),
        "q": rng.normal(0, 1, (10, 10)),
        "b": rng.normal(0, 0.3, 8),
        "o": rng.normal(0, 0.3, 10),
        "low": np.array(-1.0),
        "high": np.array(2.0),
    }
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = node.output[0]
    path = tmp_path_factory.mktemp("mixed") / "net.onnx"
    onnx.save(model, path)
    samples = [{"x": rng.normal(0, 1, (1, 4, 10, 10)).astype(np.float32)} for _ in range(6)]
    graph = read_onnx(path)
    simplify(graph)
    return graph, calibrate(graph, samples), samples


def leave_float(network, names, *, dynamic=(), symmetric=False):
    graph, calibration, _ = network
    choice = RangeChoice("minmax", symmetric=symmetric)
    kept = dict.fromkeys(names, "left float32 for accuracy")
    return quantize(graph, calibration, method=choice, keep_float=kept, dynamic=dynamic)


def write_forms(model, folder):
    """Returns sessions of the three forms, and of ONNX's in operators on codes."""
    program = fuse_floats(lower(model, fuse=False))
    files = [
        folder / "net.plan",
        write_onnx(model, folder / "net.onnx", style=STYLE),
        write_onnx(model, folder / "operators.onnx", style=f"{STYLE}-qlinear"),
        write_tflite(program, folder / "net.tflite").path,
    ]
    isa = _native.best_isa()
    write_plan(lower(model), files[0], isa=isa, target="host", source_digest="0" * 64)
    return [edgekit.load(path) for path in files]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.sets(st.sampled_from(sorted(set(NODES)))))
def test_layers_on_codes_are_equal_and_floats_nearly(network, tmp_path_factory, names):
    model = leave_float(network, names)
    folder = tmp_path_factory.mktemp("forms")
    program = lower(model, fuse=False)
    sample = network[2][0]
    recorded = run_program(program, sample)
    native, *others = write_forms(model, folder)
    floats = {op.output for op in program.ops if op.kind.startswith("Float")}
    edges = {op.output for op in program.ops if isinstance(op, Quantize) and op.input in floats}
    for found in compare_layers(folder / "net.onnx", program, recorded):
        through = found.name in edges or f"{found.name}:codes" in edges
        assert found.largest <= (1 if through else 0), found
    for found in compare_operators(program, recorded, run_bytes):
        assert found.largest <= (1 if set(found.written) & {"MEAN", "SOFTMAX", "ADD"} else 0), found
    for sample in network[2]:
        wanted = native.run(sample)["y"]
        for session in others:
            # A code at an edge may be rounded the other way, where float sums end in its middle.
            np.testing.assert_allclose(session.run(sample)["y"], wanted, atol=1.1 / 256)


def test_nothing_before_the_first_float_layer_differs(network, tmp_path):
    model = leave_float(network, ["t"])
    program = lower(model, fuse=False)
    sample = network[2][0]
    recorded = run_program(program, sample)
    path = write_onnx(model, tmp_path / "net.onnx", style=STYLE)
    layers = {found.name: found for found in compare_layers(path, program, recorded)}
    assert {"r", "c", "s"} <= layers.keys()
    for name in ("r", "c", "s"):
        assert layers[name].differing == 0
    assert "t" in layers  # Its codes, which the Concat reads.


def test_onnx_runtime_does_not_round_the_weights_of_a_float_layer(network, tmp_path):
    """Between codes it would give them one scale for all channels; those here differ twentyfold."""
    graph, _, samples = network
    model = leave_float(network, ["a", "r", "d", "c", "t", "k", "z"])
    native, *others = write_forms(model, tmp_path)
    for session in others:
        for sample in samples:
            wanted = native.run(sample)["y"]
            np.testing.assert_allclose(session.run(sample)["y"], wanted, atol=1.1 / 256)
    report = report_fusion(tmp_path / "net.onnx", STYLE)
    kinds = {node.name: node.integer for node in report.nodes}
    assert not any(kinds[name] for name in ("d", "t", "k", "z"))
    assert kinds["s"]
    assert len(graph.graph) == len(report.nodes)


def test_a_float_reader_gets_the_floats_and_not_their_codes(network, tmp_path):
    """``r`` is read by a float layer and by sums on codes: its floats and its codes are both there."""
    model = leave_float(network, ["a", "r", "d", "c"])
    native, *others = write_forms(model, tmp_path)
    proto = onnx.load(tmp_path / "net.onnx")
    readers = {node.name: list(node.input) for node in proto.graph.node}
    assert readers["d"][0] == "r"
    assert "r:dequantized" in readers["s"]
    sample = network[2][1]
    for session in others:
        np.testing.assert_allclose(
            session.run(sample)["y"], native.run(sample)["y"], atol=1.1 / 256
        )


def test_tensorrt_gets_pairs_before_readers_on_codes_alone(network, tmp_path):
    model = leave_float(network, ["t"], symmetric=True)
    proto = onnx.load(write_onnx(model, tmp_path / "net.onnx", style="tensorrt"))
    readers = {node.name: list(node.input) for node in proto.graph.node}
    assert readers["t"][:2] == ["s", "u"]
    assert readers["d"][0] == "r:dequantized"
    assert not any(
        node.op_type == "QuantizeLinear" and node.input[0] == "u" for node in proto.graph.node
    )


def test_weights_of_dynamic_layers_are_the_same_numbers_in_every_form(network, tmp_path):
    graph, _, samples = network
    able = [node.name for node in graph.graph if can_be_dynamic(node)]
    assert able
    model = leave_float(network, [node.name for node in graph.graph], dynamic=able)
    native, *others = write_forms(model, tmp_path)
    proto = onnx.load(tmp_path / "net.onnx")
    assert not any("Quantize" in node.op_type for node in proto.graph.node)
    assert any(layer.op_type in LAYERS for layer in graph.graph)
    for sample in samples:
        wanted = native.run(sample)["y"]
        for session in others:
            np.testing.assert_allclose(session.run(sample)["y"], wanted, atol=0.03)
