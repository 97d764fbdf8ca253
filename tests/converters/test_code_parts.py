"""12x8 and 12x12: codes of 12 bits in parts, multiplied by the operators for int8."""

from itertools import product

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold, make_parts
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.part_program import QuantizeParts
from edgekit.converters.passes import simplify
from edgekit.converters.program import DType, Program, Tensor
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.quantize import quantize
from edgekit.converters.quantize.parts import leave_room
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.strips import choose_strips
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
LAYERS = ("first", "expand", "depthwise", "project", "dense", "product")
SUMS = ("sum",)
PARTS = (NumberFormat.INT12, NumberFormat.INT12_WEIGHTS)


def read_graph(graph):
    """Returns the simplified network of an `onnx.GraphProto`."""
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    proto.ir_version = 10
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    return model


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(0, 1, (1, 3, 11, 9)).astype(np.float32)} for _ in range(8)]


@pytest.fixture(scope="module")
def network():
    """An inverted residual block between a first layer and a dense one."""
    rng = np.random.default_rng(4)
    shapes = {
        "w1": (8, 3, 3, 3),
        "b1": (8,),
        "w2": (40, 8, 1, 1),
        "b2": (40,),
        "w3": (40, 1, 3, 3),
        "w4": (8, 40, 1, 1),
        "b4": (8,),
        "w5": (5, 8, 3, 2),
        "w6": (125, 7),
    }
    make = onnx.helper.make_node
    clip = ["zero", "six"]
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["a"], "first", pads=[0, 1, 1, 1], strides=[2, 1]),
        make("Clip", ["a", *clip], ["ra"], "clip1"),
        make("Conv", ["ra", "w2", "b2"], ["b"], "expand"),
        make("Clip", ["b", *clip], ["rb"], "clip2"),
        make("Conv", ["rb", "w3"], ["c"], "depthwise", group=40, pads=[1] * 4),
        make("Clip", ["c", *clip], ["rc"], "clip3"),
        make("Conv", ["rc", "w4", "b4"], ["d"], "project"),
        make("Add", ["d", "ra"], ["s"], "sum"),
        make("Conv", ["s", "w5"], ["e"], "dense", strides=[1, 2], pads=[1, 0, 1, 1]),
        make("Flatten", ["e"], ["f"], "flat"),
        make("MatMul", ["f", "w6"], ["y"], "product"),
    ]
    weights = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    bounds = [
        onnx.numpy_helper.from_array(np.float32(v), n) for n, v in zip(clip, (0, 6), strict=True)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 11, 9])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 7])],
        [*weights, *bounds],
    )
    return read_graph(graph)


@pytest.fixture(scope="module")
def calibration(network, samples):
    return calibrate(network, samples)


@pytest.fixture(scope="module")
def wanted(network, samples, calibration):
    everything = dict.fromkeys((*LAYERS, *SUMS), NumberFormat.FLOAT32)
    return run_judge(quantize(network, calibration, formats=everything), samples)


def run_judge(model, samples):
    program = lower(model)
    return [run_program(program, sample)["y"] for sample in samples]


def decibels(answers, wanted):
    noise = sum(float(((a - w) ** 2).sum()) for a, w in zip(answers, wanted, strict=True))
    return 10 * np.log10(sum(float((w**2).sum()) for w in wanted) / noise)


def check_everywhere(program, x, folder, answer="y"):
    """Compares every instruction set, on one thread and three, whole and in strips, with the judge."""
    expected = run_program(program, {"x": x})[answer]
    for isa, cache in product(RUNNABLE, (None, 1)):
        path = folder / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64, cache_bytes=cache)
        for threads in (1, 3):
            session = _native.Session(_native.Plan.open(path), threads)
            assert session.run({"x": x})[answer].tobytes() == expected.tobytes(), isa


def test_parts_are_closer_than_int8_and_weights_in_parts_closer_still(
    network, samples, calibration, wanted
):
    def measure(format):
        formats = dict.fromkeys((*LAYERS, *SUMS), format)
        return decibels(run_judge(quantize(network, calibration, formats=formats), samples), wanted)

    int8 = decibels(run_judge(quantize(network, calibration), samples), wanted)
    twelve, both = (measure(format) for format in PARTS)
    assert twelve > int8 + 3
    assert both > twelve + 6


MIXTURES = [
    dict.fromkeys((*LAYERS, *SUMS), NumberFormat.INT12),
    dict.fromkeys((*LAYERS, *SUMS), NumberFormat.INT12_WEIGHTS),
    # Codes between, floats between, sums of codes, and a layer of codes behind one of parts.
    {"expand": NumberFormat.INT12_WEIGHTS, "project": NumberFormat.INT12},
    {"project": NumberFormat.INT12_WEIGHTS, "sum": NumberFormat.FLOAT32},
    {"first": NumberFormat.INT12, "sum": NumberFormat.FLOAT32, "dense": NumberFormat.INT12},
    {"depthwise": NumberFormat.INT12, "product": NumberFormat.INT12},
    {"depthwise": NumberFormat.INT12_WEIGHTS, "expand": NumberFormat.FLOAT32},
    {"project": NumberFormat.INT12, "dense": NumberFormat.FLOAT16, "sum": NumberFormat.INT12},
]


@pytest.mark.parametrize("formats", MIXTURES)
def test_every_instruction_set_gives_the_judges_bytes(
    formats, network, samples, calibration, tmp_path
):
    model = quantize(network, calibration, formats=formats)
    program = lower(model)
    check_everywhere(program, samples[0]["x"], tmp_path)
    plain = lower(model, fuse=False)
    fused, apart = (run_program(p, samples[0])["y"] for p in (program, plain))
    assert np.abs(fused - apart).max() <= 0.1 * np.abs(apart).max()


def test_floats_and_their_parts_run_in_strips(tmp_path):
    rng = np.random.default_rng(6)
    shapes = [(8, 3, 3, 3), (8, 1, 3, 3), (4, 8, 1, 1), (24, 4, 1, 1), (24, 1, 3, 3), (5, 24, 1, 1)]
    names = ("stem", "deep", "narrow", "wide", "deep2", "last")
    make = onnx.helper.make_node
    nodes, value = [], "x"
    for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        pads = [shape[2] // 2] * 4
        strides = [2, 2] if name in ("stem", "deep2") else [1, 1]
        group = shape[0] if shape[1] == 1 else 1
        nodes.append(
            make("Conv", [value, f"w{i}"], [name], name, pads=pads, strides=strides, group=group)
        )
        value = name
        if name not in ("narrow", "last"):
            nodes.append(make("Relu", [name], [f"{name}-relu"], f"{name}-relu"))
            value = f"{name}-relu"
    weights = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), f"w{i}")
        for i, shape in enumerate(shapes)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 21, 19])],
        [onnx.helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, None)],
        weights,
    )
    samples = [{"x": rng.normal(0, 1, (1, 3, 21, 19)).astype(np.float32)} for _ in range(3)]
    model = read_graph(graph)
    formats = dict.fromkeys(("narrow", "wide", "last"), NumberFormat.INT12_WEIGHTS)
    formats |= dict.fromkeys(("stem", "deep"), NumberFormat.FLOAT32)
    program = lower(quantize(model, calibrate(model, samples), formats=formats))
    chain, *_ = choose_strips(program, 1)
    ops = program.ops[chain.first_op : chain.first_op + chain.op_count]
    first = ["FloatConv", "FloatDepthwiseConv", "QuantizeParts", "Conv"]
    assert [op.kind for op in ops] == [*first, "QuantizeParts", "Conv", "DepthwiseConv"]
    assert choose_strips(program, sum(program.tensors[op.output].nbytes for op in ops)) == ()
    check_everywhere(program, samples[0]["x"], tmp_path, "last")


def test_layers_of_codes_behind_parts_write_codes_themselves(network, calibration):
    formats = {"expand": NumberFormat.INT12, "project": NumberFormat.INT12}
    program = lower(quantize(network, calibration, formats=formats))
    makers = {op.output: op for op in program.ops}
    (depthwise,) = (op for op in program.ops if op.kind == "DepthwiseConv")
    assert makers[depthwise.input].kind == "Conv"
    assert program.tensors[depthwise.input].dtype is DType.CODE


def test_a_sum_and_both_parts_of_weights_are_in_the_convolution(network, calibration):
    formats = {
        "project": NumberFormat.INT12_WEIGHTS,
        "sum": NumberFormat.FLOAT32,
        "first": NumberFormat.INT12,
    }
    program = lower(quantize(network, calibration, formats=formats))
    own = [op for op in program.ops if op.name.startswith("project")]
    assert [op.kind for op in own] == ["Conv", "Conv"]
    assert own[1].residual.tensor == own[0].output


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(width=32), min_size=2, max_size=40),
    scale=st.floats(2**-20, 2**20, width=32),
    zero_point=st.integers(-112, 111),
    count=st.integers(2, 3),
)
def test_parts_add_up_to_what_they_stand_for(values, scale, zero_point, count):
    """Within the range, half a step of 1/16 code is what is lost; and every code is a code."""
    width = len(values)
    tensors = {
        "x": Tensor("x", (1, width), DType.FLOAT32),
        "y": Tensor("y", (1, width * count), scale=np.float32(scale), zero_point=zero_point),
    }
    op = QuantizeParts(name="parts", input="x", output="y", axis=1)
    x = np.array([values], np.float32)
    y = run_program(Program(tensors, ("x",), ("y",), (op,)), {"x": x})["y"]
    whole, rest, *coarse = (
        part.astype(np.float64) - zero_point for part in np.split(y, count, axis=1)
    )
    assert np.abs(rest).max() <= 8
    inside = np.isfinite(x) & (x / scale > -128 - zero_point) & (x / scale < 127 - zero_point)
    wanted = x.astype(np.float64)[inside] / scale
    assert np.all(np.abs((whole + rest / 16)[inside] - wanted) <= 1 / 32 + 1e-4)
    if coarse:
        assert np.abs(16 * coarse[0] - whole).max() <= 8


@settings(deadline=None)
@given(scale=st.floats(2**-30, 2**30, width=32), zero_point=st.integers(-128, 127))
def test_room_for_parts_keeps_the_range(scale, zero_point):
    grid = ActivationQuantization(np.float32(scale), zero_point)
    wide = leave_room(grid)
    assert -112 <= wide.zero_point <= 111
    assert -128 <= wide.lo <= wide.hi <= 127
    for end in ("lo", "hi"):
        before = (getattr(grid, end) - grid.zero_point) * float(grid.scale)
        after = (getattr(wide, end) - wide.zero_point) * float(wide.scale)
        assert abs(before - after) <= float(wide.scale) * 0.51


def test_the_onnx_form_is_close(network, samples, calibration, tmp_path):
    for format in PARTS:
        model = quantize(network, calibration, formats=dict.fromkeys((*LAYERS, *SUMS), format))
        write_onnx(model, tmp_path / "model.onnx", style="ort-x86")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        answers = [session.run(None, sample)[0] for sample in samples]
        assert decibels(answers, run_judge(model, samples)) > 25


def test_the_tflite_form_refuses_them_by_name(network, calibration, tmp_path):
    pytest.importorskip("ai_edge_litert")
    from edgekit.converters.tflite import write_tflite

    for name in ("expand", "project", "product"):
        model = quantize(network, calibration, formats={name: NumberFormat.INT12})
        with pytest.raises(ModelError, match="TFLite form cannot hold"):
            write_tflite(lower(model, fuse=False), tmp_path / "model.tflite")


def test_what_has_no_parts_is_told(network):
    nodes = {node.name: node for node in network.graph}
    for format in PARTS:
        assert "only convolutions" in can_hold(nodes["flat"], format)
        assert can_hold(nodes["depthwise"], format) is None
        assert can_hold(nodes["sum"], format) is None


def test_all_dense_layers_have_parts_behind_the_first(network, samples, calibration, wanted):
    formats = make_parts(network.graph)
    assert formats == {
        "first": NumberFormat.FLOAT32,
        **dict.fromkeys(
            ("expand", "project", "sum", "dense", "product"), NumberFormat.INT12_WEIGHTS
        ),
    }
    int8 = decibels(run_judge(quantize(network, calibration), samples), wanted)
    model = quantize(network, calibration, formats=formats)
    assert decibels(run_judge(model, samples), wanted) > int8 + 6
