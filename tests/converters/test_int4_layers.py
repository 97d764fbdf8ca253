"""int4 weights in plans: every instruction set gives the judge's bytes, whatever else a layer computes on."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.can_hold import can_hold
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.program import DType, GroupFullyConnected, Program, Tensor
from edgekit.converters.quantizable import is_layer
from edgekit.converters.quantization import (
    WeightQuantization,
    get_quantization,
    set_quantization,
)
from edgekit.converters.quantize import quantize
from edgekit.converters.quantize.int4 import quantize_int4
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.round_weights import InputStatistics
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
NET = """<ir_version: 10, opset_import: ["" : 21]>
net (float[2, 3, 17, 15] x) => (float[2, 11] y) {
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1, b1)
    b = Relu (a)
    c = Conv (b, w2)
    d = Conv <group = 24, pads = [1, 1, 1, 1]> (c, w3, b3)
    e = Conv <pads = [1, 1, 1, 1]> (d, w4)
    f = Add (e, c)
    t = ConvTranspose <strides = [2, 2]> (f, w5)
    p = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> (t)
    h = Flatten (p)
    i = Gemm <transB = 1> (h, w6, b6)
    j = Sigmoid (i)
    y = MatMul (j, w7)
}"""
SHAPES = {
    "w1": (24, 3, 3, 3),
    "b1": (24,),
    "w2": (24, 24, 1, 1),
    "w3": (24, 1, 3, 3),
    "b3": (24,),
    "w4": (24, 24, 3, 3),
    "w5": (24, 6, 2, 2),
    "w6": (70, 96),
    "b6": (70,),
    "w7": (70, 11),
}


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(11)
    proto = onnx.parser.parse_model(NET)
    for name, shape in SHAPES.items():
        spread = 0.1 if name.startswith("b") else 1.5 / np.sqrt(np.prod(shape[1:]))
        array = rng.normal(0, spread, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    for node in model.graph:
        node.name = node.name or node.outputs[0].name
    samples = [{"x": rng.normal(0, 1, (2, 3, 17, 15)).astype(np.float32)} for _ in range(6)]
    return model, calibrate(model, samples), samples


def check_everywhere(program, inputs, folder):
    expected = run_program(program, inputs)
    for isa in RUNNABLE:
        path = folder / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        for threads in (1, 3):
            session = _native.Session(_native.Plan.open(path), threads)
            for _, tensor, values in session.trace(inputs):
                np.testing.assert_array_equal(values, expected[tensor], err_msg=f"{tensor} {isa}")
    return expected


@pytest.mark.parametrize(
    ("format", "group"),
    [
        (NumberFormat.INT4, 0),
        (NumberFormat.INT4, 32),
        (NumberFormat.INT4_ROWS, 0),
        (NumberFormat.INT4_ROWS, 64),
        (NumberFormat.INT4_FLOAT, 0),
        (NumberFormat.INT4_FLOAT, 32),
    ],
)
def test_networks_give_the_judges_bytes(network, format, group, tmp_path):
    model, calibration, samples = network
    able = [node for node in model.graph if is_layer(node) and can_hold(node, format) is None]
    matrices = [node for node in able if node.op_type in ("Gemm", "MatMul")]
    assert len(matrices) == 2
    assert len(able) == (7 if format is NumberFormat.INT4 else 2)
    made = quantize(
        model,
        calibration,
        formats={node.name: format for node in able},
        int4_groups={node.name: group for node in matrices},
    )
    for node in made.graph:
        record = get_quantization(node.inputs[1]) if len(node.inputs) > 1 else None
        if isinstance(record, WeightQuantization) and record.bits == 4:
            assert record.codes.min() >= -8
            assert record.codes.max() <= 7
    program = lower(made)
    expected = check_everywhere(program, samples[0], tmp_path)
    whole = run_program(lower(quantize(model, calibration)), samples[0])["y"]
    error = np.square(expected["y"] - whole).sum() / np.square(whole).sum()
    assert error < 0.1


def test_a_plan_holds_half_the_weights(network, tmp_path):
    model, calibration, _ = network
    sizes = []
    for formats in ({}, {n.name: NumberFormat.INT4 for n in model.graph if is_layer(n)}):
        program = lower(quantize(model, calibration, formats=formats))
        path = tmp_path / "net.plan"
        write_plan(program, path, isa=RUNNABLE[-1], target="host", source_digest="0" * 64)
        sizes.append(path.stat().st_size)
    weights = sum(np.prod(shape) for name, shape in SHAPES.items() if name.startswith("w"))
    assert sizes[0] - sizes[1] > 0.4 * weights


def _run_onnx(path, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    return session.run(None, inputs)[0], ops


@pytest.mark.parametrize("style", ["ort-x86", "ort-arm", "ort-x86-qlinear"])
def test_onnx_runtime_computes_on_codes_of_four_bits(network, style, tmp_path):
    model, calibration, samples = network
    formats = {n.name: NumberFormat.INT4 for n in model.graph if is_layer(n)}
    made = quantize(model, calibration, formats=formats)
    write_onnx(made, tmp_path / "int4.onnx", style=style)
    types = {t.data_type for t in onnx.load(tmp_path / "int4.onnx").graph.initializer}
    assert onnx.TensorProto.INT4 in types
    y, ops = _run_onnx(tmp_path / "int4.onnx", samples[0])
    for node in made.graph:
        value = node.inputs[1] if is_layer(node) else None
        if value is not None:
            set_quantization(value, replace(get_quantization(value), bits=8))
    write_onnx(made, tmp_path / "int8.onnx", style=style)
    same, same_ops = _run_onnx(tmp_path / "int8.onnx", samples[0])
    assert y.tobytes() == same.tobytes()
    assert ops.count("QLinearConv") == same_ops.count("QLinearConv") > 1
    sizes = [(tmp_path / name).stat().st_size for name in ("int4.onnx", "int8.onnx")]
    assert sizes[0] < sizes[1] - 3000


@pytest.mark.parametrize(
    ("format", "group"),
    [
        (NumberFormat.INT4, 32),
        (NumberFormat.INT4_ROWS, 0),
        (NumberFormat.INT4_ROWS, 32),
        (NumberFormat.INT4_FLOAT, 0),
        (NumberFormat.INT4_FLOAT, 64),
    ],
)
@pytest.mark.parametrize("style", ["ort-x86", "ort-arm", "ort-x86-qlinear", "openvino", "tensorrt"])
def test_onnx_forms_hold_the_same_weights(network, format, group, style, tmp_path):
    model, calibration, samples = network
    names = [n.name for n in model.graph if n.op_type in ("Gemm", "MatMul")]
    made = quantize(
        model,
        calibration,
        method=RangeChoice("minmax", symmetric=style == "tensorrt"),
        formats=dict.fromkeys(names, format),
        int4_groups=dict.fromkeys(names, group),
    )
    path = tmp_path / "net.onnx"
    write_onnx(made, path, style=style)
    y, _ = _run_onnx(path, samples[0])
    expected = run_program(lower(made), samples[0])["y"]
    assert np.square(y - expected).sum() < 2e-3 * np.square(expected).sum()


@pytest.mark.parametrize("format", [NumberFormat.INT4, NumberFormat.INT4_ROWS])
def test_tflite_holds_the_same_codes(network, format, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs edgekit[tflite]")
    from edgekit.converters.tflite import write_tflite

    model, calibration, samples = network
    names = [n.name for n in model.graph if is_layer(n) and can_hold(n, format) is None]
    groups = dict.fromkeys(names, 0)
    made = quantize(model, calibration, formats=dict.fromkeys(names, format), int4_groups=groups)
    program = lower(made, fuse=False)
    path = tmp_path / "net.tflite"
    write_tflite(program, path)
    whole = tmp_path / "int8.tflite"
    write_tflite(lower(quantize(model, calibration), fuse=False), whole)
    if format is NumberFormat.INT4:
        assert path.stat().st_size < whole.stat().st_size - 6000
    expected = run_program(program, samples[0])["y"]
    image = samples[0]["x"].transpose(0, 2, 3, 1)
    step = program.tensors["y:codes"].scale if "y:codes" in program.tensors else 0.02
    for resolver in ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
        found = interpreter.Interpreter(
            str(path),
            experimental_op_resolver_type=getattr(interpreter.OpResolverType, resolver),
        )
        y = found.get_signature_runner()(x=image)["y"]
        assert np.abs(y - expected).max() <= 4.01 * step


def test_tflite_refuses_groups_by_name(network, tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs edgekit[tflite]")
    from edgekit.converters.tflite import write_tflite

    model, calibration, _ = network
    name = next(n.name for n in model.graph if n.op_type == "MatMul")
    for format in (NumberFormat.INT4, NumberFormat.INT4_ROWS):
        made = quantize(model, calibration, formats={name: format}, int4_groups={name: 32})
        with pytest.raises(ModelError, match=name):
            write_tflite(lower(made, fuse=False), tmp_path / "net.tflite")


def make_program(rows, depth, width, group, seed):
    rng = np.random.default_rng(seed)
    groups = -(-depth // group)
    scale = rng.uniform(1e-4, 1e-2, (groups, width)).astype(np.float32)
    op = GroupFullyConnected(
        name="product",
        input="x",
        output="y",
        weights=rng.integers(-8, 8, (width, depth)).astype(np.int8),
        group=group,
        multiplier=scale,
        bias=rng.normal(0, 1, width).astype(np.float32),
        weight_scale=scale,
    )
    tensors = {
        "x": Tensor("x", (rows, depth), DType.FLOAT32),
        "y": Tensor("y", (rows, width), DType.FLOAT32),
    }
    return Program(tensors, ("x",), ("y",), (op,))


@pytest.mark.parametrize("group", [1, 32, 64, 128, 1000])
@pytest.mark.parametrize(("rows", "depth", "width"), [(1, 200, 130), (3, 64, 33), (40, 96, 20)])
def test_groups_of_rows_give_the_judges_bytes(rows, depth, width, group, tmp_path):
    program = make_program(rows, depth, width, group, rows)
    x = np.random.default_rng(depth).normal(0, 1, (rows, depth)).astype(np.float32)
    x[0, 0] = 50
    check_everywhere(program, {"x": x}, tmp_path)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    group=st.sampled_from([0, 32, 64, 128]),
    depth=st.integers(1, 150),
    axis=st.integers(0, 1),
)
def test_codes_stand_for_their_weights(seed, group, depth, axis):
    rng = np.random.default_rng(seed)
    shape = (5, depth) if axis == 0 else (depth, 5)
    weight = rng.normal(0, 1, shape).astype(np.float32)
    inputs = InputStatistics(np.zeros((5, depth)), np.ones((5, depth)))
    layer = quantize_int4(weight, None, np.float32(1), axis, inputs, group=group)
    record = layer.weight
    real = record.codes * record.spread_scale()
    assert real.shape == weight.shape
    assert record.scale.shape == ((-(-depth // group), 5) if group else (5,))
    assert np.square(real - weight).sum() <= 0.03 * np.square(weight).sum() + 1e-9


def test_what_is_no_group_is_refused(network):
    model, calibration, _ = network
    names = {node.op_type: node.name for node in model.graph if is_layer(node)}
    formats = {names["MatMul"]: NumberFormat.INT4, names["Conv"]: NumberFormat.INT4}
    with pytest.raises(ModelError, match="a group has 0, 32, 64, 128 weights"):
        quantize(model, calibration, formats=formats, int4_groups={names["MatMul"]: 16})
    with pytest.raises(ModelError, match="has no groups along k"):
        quantize(model, calibration, formats=formats, int4_groups={names["Conv"]: 32})
    with pytest.raises(ModelError, match="has no int4 weights"):
        quantize(model, calibration, formats=formats, int4_groups={names["Gemm"]: 32})
    add = next(node for node in model.graph if node.op_type == "Add")
    assert "only layers with weights" in can_hold(add, NumberFormat.INT4)
    conv = next(node for node in model.graph if node.op_type == "Conv")
    for format in (NumberFormat.INT4_ROWS, NumberFormat.INT4_FLOAT):
        assert "only fully connected layers" in can_hold(conv, format)
