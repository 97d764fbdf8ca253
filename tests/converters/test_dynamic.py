"""Products of int8 weights with rows whose codes are made at run time."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.float_program import DynamicFullyConnected
from edgekit.converters.float_reference import quantize_rows
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import DType, Program, Tensor
from edgekit.converters.quantization import WeightQuantization, get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.costs.sparse_work import find_sparse_work

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
# Rows that take one tile, some, and more than a block of codes; k and n around the widths of vectors.
SHAPES = [(1, 1, 1), (3, 7, 5), (7, 64, 33), (130, 65, 17), (20, 384, 96), (300, 9, 2)]


def make_program(rows, k, n, seed, *, whole=False):
    rng = np.random.default_rng(seed)
    op = DynamicFullyConnected(
        name="product",
        input="x",
        output="y",
        weights=rng.integers(-127, 128, (n, k)).astype(np.int8),
        multiplier=rng.uniform(1e-4, 1e-2, n).astype(np.float32),
        bias=rng.normal(0, 1, n).astype(np.float32),
        whole=whole,
    )
    tensors = {
        "x": Tensor("x", (rows, k), DType.FLOAT32),
        "y": Tensor("y", (rows, n), DType.FLOAT32),
    }
    return Program(tensors, ("x",), ("y",), (op,))


def run_everywhere(program, x, folder):
    """Returns what every instruction set gives, on one thread and three."""
    found = []
    for isa in RUNNABLE:
        path = folder / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        for threads in (1, 3):
            session = _native.Session(_native.Plan.open(path), threads)
            found.append((isa, session.run({"x": x})["y"]))
    return found


@pytest.mark.parametrize(("rows", "k", "n"), SHAPES)
@pytest.mark.parametrize("whole", [False, True])
def test_every_instruction_set_gives_the_judges_bytes(rows, k, n, whole, tmp_path):
    program = make_program(rows, k, n, rows, whole=whole)
    x = np.random.default_rng(k).normal(0, 1, (rows, k)).astype(np.float32)
    x[:, 0] *= 50
    expected = run_program(program, {"x": x})["y"]
    for isa, y in run_everywhere(program, x, tmp_path):
        assert y.tobytes() == expected.tobytes(), isa


@pytest.mark.parametrize(("rows", "k", "n"), [(1, 384, 96), (20, 384, 96), (130, 256, 130)])
def test_blocks_of_zeros_are_left_out_with_the_judges_bytes(rows, k, n, tmp_path):
    program = make_program(rows, k, n, rows)
    kept = np.random.default_rng(0).random((-(-n // 32), k // 4)) < 0.1
    mask = np.kron(kept, np.ones((32, 4), bool))[:n]
    op = replace(program.ops[0], weights=program.ops[0].weights * mask)
    program = replace(program, ops=(op,))
    x = np.random.default_rng(k).normal(0, 1, (rows, k)).astype(np.float32)
    expected = run_program(program, {"x": x})["y"]
    for isa, y in run_everywhere(program, x, tmp_path):
        assert y.tobytes() == expected.tobytes(), isa
        work = find_sparse_work(tmp_path / f"{isa}.plan")
        # No table has rows of AMX.
        if isa != "x86_amx":
            assert work["product"].density < 0.35


def test_one_scale_is_that_of_the_largest_magnitude_of_all_rows():
    x = np.array([[1, -2], [127, 0.4]], np.float32)
    codes, scale = quantize_rows(x, whole=True)
    assert scale.tolist() == [[1.0]]
    assert codes.tolist() == [[1, -2], [127, 0]]


def test_rows_of_zeros_and_of_extreme_values(tmp_path):
    program = make_program(8, 40, 6, 1)
    x = np.random.default_rng(2).normal(0, 1, (8, 40)).astype(np.float32)
    x[0] = 0
    x[1] = np.float32(1e-45)
    x[2] *= np.float32(1e-38)
    x[3] *= np.float32(1e37)
    x[4, 7] = np.inf
    x[5, 39] = np.nan
    x[6, 0] = np.nan
    expected = run_program(program, {"x": x})["y"]
    assert np.array_equal(expected[0], program.ops[0].bias)
    assert np.isnan(expected[5:7]).all()
    assert np.isfinite(expected[[0, 1, 2, 3, 7]]).all()
    for isa, y in run_everywhere(program, x, tmp_path):
        np.testing.assert_array_equal(y, expected, err_msg=isa)


@given(
    x=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 40)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False),
    )
)
@settings(max_examples=60)
def test_codes_are_within_half_a_step_of_their_row(x):
    codes, scale = quantize_rows(x)
    assert codes.min() >= -127
    largest = np.abs(x).max(axis=1)
    whole = largest > 2.0**-100
    error = np.abs(codes.astype(np.float64) * scale - x)[whole]
    assert np.all(error <= 0.5001 * scale[whole])
    assert np.all(np.abs(codes[whole]).max(axis=1) == 127)


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul (x, w)",
        "a = MatMul (x, w) y = Add (a, b)",
        "f = Reshape (x, flat) g = Gemm <transB = 1> (f, v, b) y = Reshape (g, back)",
    ],
)
def test_layers_that_stay_float_take_codes_of_their_weights(body, tmp_path):
    rng = np.random.default_rng(3)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> '
        f"net (float[2, 5, 24] x) => (float[2, 5, 8] y) {{ {body} }}"
    )
    constants = {
        "w": rng.normal(0, 0.3, (24, 8)).astype(np.float32),
        "v": rng.normal(0, 0.3, (8, 24)).astype(np.float32),
        "b": rng.normal(0, 0.3, 8).astype(np.float32),
        "flat": np.array([10, 24]),
        "back": np.array([2, 5, 8]),
    }
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name)
        for name, array in constants.items()
        if f" {name}" in body or f"({name}" in body
    )
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    samples = [{"x": rng.normal(0, 1, (2, 5, 24)).astype(np.float32)} for _ in range(4)]
    samples[0]["x"][0, 1, 3] = 40
    names = {node.name: "the test wants it" for node in model.graph}
    calibration = calibrate(model, samples)
    quantized = quantize(model, calibration, keep_float=names, dynamic=names)
    layer = next(node for node in quantized.graph if node.op_type in ("Gemm", "MatMul"))
    assert isinstance(get_quantization(layer.inputs[1]), WeightQuantization)
    program = lower(quantized)
    kinds = [op.kind for op in program.ops]
    assert "DynamicFullyConnected" in kinds
    assert "FloatFullyConnected" not in kinds
    recorded = run_program(program, samples[0])
    for isa, y in run_everywhere(program, samples[0]["x"], tmp_path):
        assert y.tobytes() == recorded["y"].tobytes(), isa
    (expected,) = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, samples[0])
    wrong = np.square(recorded["y"] - expected).sum()
    assert wrong < 1e-3 * np.square(expected).sum()


@pytest.mark.parametrize("style", ["ort-x86", "ort-arm", "ort-x86-qlinear", "openvino"])
@pytest.mark.parametrize(("depth", "turned"), [(20, 0), (150, 1), (384, 1)])
def test_onnx_forms_multiply_the_same_codes(style, depth, turned, tmp_path):
    random = np.random.default_rng(depth)
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float[2, 3, {depth}] x) => (float[2, 3, 9] y) {{ '
        f"a = MatMul (x, v) r = Reshape (a, rows) g = Gemm <transB = {turned}> (r, w, b) y = Reshape (g, whole) }}"
    )
    constants = {
        "v": random.normal(size=(depth, depth)).astype(np.float32),
        "w": random.normal(size=(9, depth) if turned else (depth, 9)).astype(np.float32),
        "b": random.normal(size=9 if turned else 1).astype(np.float32),
        "rows": np.array([6, depth]),
        "whole": np.array([2, 3, 9]),
    }
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items())
    model = ir.from_proto(proto)
    infer_shapes(model)
    for number, node in enumerate(model.graph):
        node.name = f"node {number}"
    names = [str(node.name) for node in model.graph]
    x = random.normal(size=(2, 3, depth)).astype(np.float32)
    x[0, 1] *= 30
    keep = dict.fromkeys(names, "asked for")
    quantized = quantize(model, calibrate(model, [{"x": x}]), keep_float=keep, dynamic=names)
    wanted = run_program(lower(quantized), {"x": x})["y"]
    path = write_onnx(quantized, tmp_path / "net.onnx", style=style)
    file = onnx.load(path)
    kinds = [node.op_type for node in file.graph.node]
    # OpenVINO has no such product: it gets the numbers that the codes stand for.
    assert kinds.count("MatMulNBits") == (0 if style == "openvino" else 2)
    if style != "openvino" and depth > 128:
        assert path.stat().st_size < 1.6 * depth * (depth + 9)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    # Both round the rows, each with scales of its own.
    for sample, reference in zip(found.reshape(6, 9), wanted.reshape(6, 9), strict=True):
        noise = np.square(sample - reference).sum() / np.square(reference).sum()
        assert noise < 3e-3
