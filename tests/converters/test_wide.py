"""16x8: int8 weights on int16 codes around 0."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold
from edgekit.converters.lower import fuse_floats, lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.program import DType, Program, Tensor, Window
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program
from edgekit.converters.wide_program import WideConv, WideDepthwiseConv
from edgekit.converters.wide_reference import wide_codes
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
LAYERS = ("dense", "depthwise", "point", "product")
# Channels, outputs, window, size: one element, tails, pads that differ, strides, dilation.
DENSE = [
    (1, 1, Window(), 1),
    (7, 5, Window(), 3),
    (64, 33, Window(), 9),
    (3, 24, Window(3, 3, 2, 2, 1, 1, 1, 0, 0, 1), 9),
    (17, 16, Window(3, 2, 1, 1, 2, 1, 2, 1, 2, 0), 8),
]


def make_program(kind, c, n, window, size, seed, limit=127):
    rng = np.random.default_rng(seed)
    rows, columns = window.output_size(size, size)
    taps = (window.kernel_h, window.kernel_w)
    shape = (n, *taps, c) if kind is WideConv else (c, *taps)
    op = kind(
        name="layer",
        input="x",
        output="y",
        weights=rng.integers(-limit, limit + 1, shape).astype(np.int8),
        weight_scale=np.ones(n, np.float32),
        bias=rng.integers(-(2**33), 2**33, n).astype(np.float64),
        multiplier=rng.uniform(1e-6, 1e-3, n),
        input_step=np.float32(0.001),
        output_step=np.float32(0.37),
        window=window,
        lo=-30000,
        hi=32767,
    )
    tensors = {
        "x": Tensor("x", (2, size, size, c), DType.FLOAT32),
        "y": Tensor("y", (2, rows, columns, n), DType.FLOAT32),
    }
    return Program(tensors, ("x",), ("y",), (op,))


def check_everywhere(program, x, folder):
    """Compares every instruction set, on one thread and three, with the judge."""
    expected = run_program(program, {"x": x})["y"]
    for isa in RUNNABLE:
        path = folder / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        for threads in (1, 3):
            session = _native.Session(_native.Plan.open(path), threads)
            assert session.run({"x": x})["y"].tobytes() == expected.tobytes(), isa
    return expected


@pytest.mark.parametrize(("c", "n", "window", "size"), DENSE)
def test_every_instruction_set_gives_the_judges_bytes(c, n, window, size, tmp_path):
    program = make_program(WideConv, c, n, window, size, c)
    x = np.random.default_rng(n).normal(0, 9, (2, size, size, c)).astype(np.float32)
    check_everywhere(program, x, tmp_path)


@pytest.mark.parametrize("c", [1, 5, 16, 35])
@pytest.mark.parametrize("window", [case[2] for case in DENSE])
def test_depthwise_layers_give_the_judges_bytes(c, window, tmp_path):
    program = make_program(WideDepthwiseConv, c, c, window, 8, c)
    x = np.random.default_rng(c).normal(0, 9, (2, 8, 8, c)).astype(np.float32)
    check_everywhere(program, x, tmp_path)


def test_sums_of_the_largest_codes_are_exact(tmp_path):
    """1152 products of 32767 * 127 leave int32 by far."""
    program = make_program(WideConv, 1152, 20, Window(), 2, 3)
    program.ops[0].weights[:10] = 127
    program.ops[0].weights[10:] = -127
    program.ops[0].multiplier[:] = 32767 / (1152 * 127 * 32767 * 1.1)
    program.ops[0].bias[:] = 0
    x = np.full((2, 2, 2, 1152), 1e9, np.float32)
    x[1] = -np.inf
    x[0, 1, 1] = np.nan
    y = check_everywhere(program, x, tmp_path)
    assert len(np.unique(np.abs(y))) == 1
    assert y[0, 1, 1, 0] == -y[0, 0, 0, 0]


def test_codes_saturate_and_round_to_even():
    x = np.array([0.5, 1.5, -0.5, 1e9, -1e9, np.inf, np.nan], np.float32)
    assert wide_codes(x, np.float32(1)).tolist() == [0, 2, 0, 32767, -32767, 32767, -32767]


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    return [{"x": rng.normal(0, 1, (1, 3, 9, 9)).astype(np.float32)} for _ in range(6)]


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(4)
    weights = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)),
        "b1": rng.normal(0, 0.3, 16),
        "w2": rng.normal(0, 0.3, (16, 1, 3, 3)),
        "w3": rng.normal(0, 0.3, (8, 16, 1, 1)),
        "w4": rng.normal(0, 0.3, (200, 9)),
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                "Conv", ["x", "w1", "b1"], ["a"], "dense", pads=[1, 1, 1, 1], strides=[2, 2]
            ),
            onnx.helper.make_node("Relu", ["a"], ["r"], "relu"),
            onnx.helper.make_node("Conv", ["r", "w2"], ["b"], "depthwise", group=16, pads=[1] * 4),
            onnx.helper.make_node("Conv", ["b", "w3"], ["c"], "point"),
            onnx.helper.make_node("Flatten", ["c"], ["f"], "flat"),
            onnx.helper.make_node("MatMul", ["f", "w4"], ["y"], "product"),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 9, 9])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 9])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    proto.ir_version = 10
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    return model


def decibels(answers, wanted):
    noise = sum(float(((a - w) ** 2).sum()) for a, w in zip(answers, wanted, strict=True))
    return 10 * np.log10(sum(float((w**2).sum()) for w in wanted) / noise)


def run_judge(model, samples):
    program = lower(model)
    return [run_program(program, sample)["y"] for sample in samples]


def test_wide_layers_mix_with_others_and_are_closer_than_int8(network, samples, tmp_path):
    calibration = calibrate(network, samples)
    everything = dict.fromkeys(LAYERS, NumberFormat.FLOAT32)
    wanted = run_judge(quantize(network, calibration, formats=everything), samples)
    int8 = decibels(run_judge(quantize(network, calibration), samples), wanted)
    wide = quantize(network, calibration, formats=dict.fromkeys(LAYERS, NumberFormat.INT16))
    assert decibels(run_judge(wide, samples), wanted) > int8 + 3
    mixed = {
        "dense": NumberFormat.INT16,
        "point": NumberFormat.FLOAT16,
        "product": NumberFormat.INT16,
    }
    program = lower(quantize(network, calibration, formats=mixed))
    kinds = [op.kind for op in program.ops]
    assert {"WideConv", "DepthwiseConv", "FloatConv"} <= set(kinds)
    check_everywhere(program, samples[0]["x"], tmp_path)


def test_forms_agree(network, samples, tmp_path):
    """ONNX Runtime computes between the codes in float32, LiteRT with multipliers of 16 bits."""
    calibration = calibrate(network, samples)
    model = quantize(network, calibration, formats=dict.fromkeys(LAYERS, NumberFormat.INT16))
    native = run_judge(model, samples)
    write_onnx(model, tmp_path / "model.onnx", style="ort-x86")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert decibels([session.run(None, sample)[0] for sample in samples], native) > 70
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == 2 * len(LAYERS)


def test_the_tflite_form_agrees(network, samples, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    from edgekit.converters.tflite import write_tflite

    calibration = calibrate(network, samples)
    model = quantize(network, calibration, formats=dict.fromkeys(LAYERS, NumberFormat.INT16))
    native = run_judge(model, samples)
    path = tmp_path / "model.tflite"
    write_tflite(fuse_floats(lower(model, fuse=False)), path)
    runner = interpreter.Interpreter(str(path))
    runner.allocate_tensors()
    answers = []
    for sample in samples:
        runner.set_tensor(runner.get_input_details()[0]["index"], sample["x"].transpose(0, 2, 3, 1))
        runner.invoke()
        answers.append(runner.get_tensor(runner.get_output_details()[0]["index"]))
    assert decibels(answers, native) > 60


def test_what_cannot_be_wide_is_told(network):
    nodes = {node.name: node for node in network.graph}
    assert "only convolutions" in can_hold(nodes["flat"], NumberFormat.INT16)
    assert can_hold(nodes["depthwise"], NumberFormat.INT16) is None
