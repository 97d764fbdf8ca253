import re
import sys

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit.converters.calibrate import Calibration, Range, RangeChoice, calibrate
from edgekit.converters.compare import compare_layers
from edgekit.converters.grids import make_grid
from edgekit.converters.layer_rounding import LayerRounding
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.passes.fuse_clamps import Clamp
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
)
from edgekit.converters.quantize import get_report, quantize
from edgekit.converters.read_onnx import infer_shapes, read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.targets.errors import CalibrationError


def f32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parse(body, result="float[N, p, q, r] y", inputs="float[N, 4, 6, 6] x", **weights):
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    net ({inputs}) => ({result}) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def samples_for(model, count=6, seed=3):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            value.name: rng.normal(size=(1, *value.shape[1:])).astype(np.float32)
            for value in model.graph.inputs
        }


def quantized(model, **options):
    return quantize(model, calibrate(model, samples_for(model)), **options)


def records(model):
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    values += [value for node in model.graph for value in node.outputs]
    return {value.name: get_quantization(value) for value in values}


def ops(model):
    return [node.op_type for node in model.graph]


def test_weights_are_rounded_once_for_a_calibration_and_again_when_they_change(monkeypatch):
    model = parse("y = Conv (x, w)", w=f32(3, 4, 1, 1))
    calls = []
    module = sys.modules[LayerRounding.__module__]
    rounds = module.round_weights
    monkeypatch.setattr(
        module, "round_weights", lambda *args, **more: calls.append(0) or rounds(*args, **more)
    )
    calibration = calibrate(model, samples_for(model))
    first = records(quantize(model, calibration, method="minmax"))["w"].codes
    second = records(quantize(model, calibration, method="mse"))["w"].codes
    assert len(calls) == 1
    assert np.array_equal(first, second)
    model.graph.initializers["w"].const_value = ir.tensor(f32(3, 4, 1, 1, seed=1), name="w")
    third = records(quantize(model, calibration))["w"].codes
    assert len(calls) == 2
    assert not np.array_equal(first, third)
    fresh = calibrate(model, samples_for(model))
    assert np.array_equal(third, records(quantize(model, fresh))["w"].codes)


@given(lo=st.floats(-1e6, 0), hi=st.floats(0, 1e6))
def test_grid_covers_the_range_and_holds_zero(lo, hi):
    grid = make_grid(Range(lo, hi))
    scale = float(grid.scale)
    assert scale > 0
    assert -128 <= grid.zero_point <= 127
    assert (-128 - grid.zero_point) * scale <= lo + scale * 0.51
    assert (127 - grid.zero_point) * scale >= hi - scale * 0.51
    if lo == 0:
        assert grid.zero_point == -128


@given(lo=st.floats(-50, 0), hi=st.floats(0, 50), seed=st.integers(0, 99))
def test_saturation_of_a_grid_is_the_clamp_to_its_range(lo, hi, seed):
    assume(hi - lo > 1e-3)
    grid = make_grid(Range(lo, hi))
    x = np.random.default_rng(seed).normal(size=500).astype(np.float32) * 60

    def encode(values):
        codes = np.rint(values.astype(np.float64) / float(grid.scale)) + grid.zero_point
        return codes.clip(-128, 127)

    # At an end between two multiples of the scale the clamped value may round to the inner one.
    assert np.abs(encode(x) - encode(x.clip(lo, hi))).max() <= 1


@given(hi=st.floats(1e-3, 50), seed=st.integers(0, 99))
def test_saturation_of_a_range_that_begins_at_zero_is_exactly_relu(hi, seed):
    grid = make_grid(Range(0.0, hi))
    x = np.random.default_rng(seed).normal(size=500).astype(np.float32) * 60
    codes = [np.rint(v / grid.scale) + grid.zero_point for v in (x, np.clip(x, 0, np.float32(hi)))]
    np.testing.assert_array_equal(*(c.clip(-128, 127) for c in codes))


NET = """<ir_version: 8, opset_import: ["": 13]>
net (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
  low = Constant <value = float {0.0}> ()
  high = Constant <value = float {6.0}> ()
  c = Clip (a, low, high)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
  m = ReduceMean <axes = [2, 3], keepdims = 0> (p)
  y = Gemm <transB = 1> (m, g)
}"""


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_small_net_is_int8_throughout(model_file, method):
    weights = {"w": f32(4, 3, 3, 3) * 3, "b": f32(4, seed=1), "g": f32(5, 4, seed=2)}
    model = read_onnx(model_file(NET, **weights))
    simplify(model)
    result = quantized(model, method=method)
    assert ops(result) == ["Conv", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]
    report = get_report(result)
    assert report.method == method
    assert not report.float_nodes
    assert len(report.quantized) == 5
    assert len(report.fused_clamps) == 1

    found = records(result)
    used = [v.name for v in result.graph.initializers.values() if v.uses()]
    assert all(found[name] is not None for name in used)
    clipped = found["c"]
    assert isinstance(clipped, ActivationQuantization)
    assert clipped.zero_point == -128
    assert clipped.scale <= np.float32(6 / 255)
    assert found["p"] == clipped
    assert isinstance(found["w"], WeightQuantization)
    np.testing.assert_array_equal(found["b"].scale, found["x"].scale * found["w"].scale)
    assert all(record is None for record in records(model).values())


def test_last_bits_of_a_calibration_do_not_show():
    def grids(calibration):
        quantized = quantize(model, calibration)
        values = (value for node in quantized.graph for value in node.outputs)
        return {value.name: get_quantization(value) for value in values}

    model = parse(
        "a = Conv (x, w)  b = Sigmoid (a)  y = Add (a, b)",
        inputs="float[1, 4, 6, 6] x",
        w=f32(4, 4, 1, 1),
    )
    calibration = calibrate(model, [{"x": f32(1, 4, 6, 6, seed=1)}])
    before = grids(calibration)
    for sketch in calibration.sketches.values():
        sketch.lo = np.nextafter(np.float32(sketch.lo), np.float32(-np.inf))
        sketch.hi = np.nextafter(np.float32(sketch.hi), np.float32(np.inf))
    assert grids(calibration) == before
    # What y has no codes for, a needs none for.
    sketch = calibration.sketches["y"]
    sketch.hi = sketch.hi * np.float32(1.01)
    assert grids(calibration) != before


def test_known_intervals_have_known_grids():
    model = parse(
        "a = Sigmoid (x) b = Tanh (x) c = Erf (x) d = Softmax (x)",
        ", ".join(f"float[N, 4, 6, 6] {name}" for name in "abcd"),
    )
    found = records(quantized(model))
    unsigned = ActivationQuantization(np.float32(1 / 256), -128)
    signed = ActivationQuantization(np.float32(1 / 128), 0)
    assert [found[name] for name in "abcd"] == [unsigned, signed, signed, unsigned]


MOVES = [
    "y = Reshape (a, shape)",
    "y = Transpose <perm = [0, 2, 3, 1]> (a)",
    "y = MaxPool <kernel_shape = [2, 2]> (a)",
    "y = Slice (a, one, three, two)",
    "y = Pad (a, pads)",
]


@pytest.mark.parametrize("move", MOVES)
def test_operators_that_move_codes_share_their_input_grid(move):
    model = parse(
        f"a = Conv (x, w) {move}",
        w=f32(4, 4, 1, 1),
        shape=np.array([0, 4, 4, 9]),
        one=np.array([1]),
        two=np.array([2]),
        three=np.array([3]),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    )
    found = records(quantized(model))
    assert found["y"] == found["a"] is not None


def test_concat_shares_a_grid_where_that_is_harmless_and_not_otherwise():
    body = "a = Conv (x, w) b = Conv (x, v) y = Concat <axis = 1> (a, b)"
    near = records(quantized(parse(body, w=f32(4, 4, 1, 1), v=f32(4, 4, 1, 1, seed=1))))
    assert near["a"] == near["b"] == near["y"]
    far = records(quantized(parse(body, w=f32(4, 4, 1, 1), v=f32(4, 4, 1, 1, seed=1) * 50)))
    assert far["a"].scale < far["b"].scale / 10
    assert far["y"].scale >= far["b"].scale


def test_concat_does_not_undo_a_clamp():
    body = "a = Conv (x, w) r = Relu (a) b = Conv (x, w) y = Concat <axis = 1> (r, b)"
    found = records(quantized(parse(body, w=f32(4, 4, 1, 1))))
    assert found["r"].zero_point == -128
    assert found["b"].zero_point > -128


def test_padding_outside_a_clamp_stays_float_and_is_reported():
    body = "a = Conv (x, w) r = Relu (a) y = Pad (r, pads, value)"
    pads, value = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array(-1, np.float32)
    result = quantized(parse(body, w=f32(4, 4, 1, 1), pads=pads, value=value))
    assert "range excludes" in get_report(result).float_nodes[0].reason
    assert records(result)["y"] is None


def test_clamp_that_a_range_cannot_do_stays_a_node():
    body = "a = Conv (x, w) r = Relu (a) y = Add (a, r)"
    result = quantized(parse(body, w=f32(4, 4, 1, 1)))
    assert ops(result) == ["Conv", "Relu", "Add"]
    assert not get_report(result).float_nodes


def test_shared_weights_and_biases_are_quantized_for_each_layer():
    body = "a = Conv (x, w, b) c = Conv (a, w, b) d = Mul (c, c) y = Conv (d, w, b)"
    result = quantized(parse(body, w=f32(4, 4, 1, 1), b=f32(4)))
    layers = [node for node in result.graph if node.op_type == "Conv"]
    assert len({node.inputs[1] for node in layers}) == 3
    for node in layers:
        source, weight, bias = (get_quantization(value) for value in node.inputs)
        np.testing.assert_array_equal(bias.scale, source.scale * weight.scale)


def test_scalar_bias_of_gemm_becomes_one_for_each_column():
    model = parse("y = Gemm (x, w, b)", "float[N, 3] y", "float[N, 4] x", w=f32(4, 3), b=f32(1))
    result = quantized(model)
    bias = next(iter(result.graph)).inputs[2]
    assert get_quantization(bias).codes.shape == tuple(bias.shape.numpy()) == (3,)


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("y = CumSum (x, axis)", {"axis": np.array(2)}, "no int8 CumSum"),
        ("y = Conv (x, z)", {}, "computed"),
        ("y = Div (x, w)", {"w": f32(4, 1, 1)}, "no int8 Div"),
        ("y = MatMul (x, w)", {"w": f32(4, 6, 6)}, "rank 3"),
        (
            "a, b = MaxPool <kernel_shape = [1, 1]> (x) c = Cast <to = 1> (b) y = Add (a, c)",
            {},
            "second output",
        ),
    ],
)
def test_what_stays_float_is_reported_with_its_reason(body, weights, reason):
    inputs = "float[N, 4, 6, 6] x" + (", float[M, 4, 1, 1] z" if " z)" in body else "")
    model = parse(body, inputs=inputs, **weights)
    notes = get_report(quantized(model)).float_nodes
    assert any(re.search(reason, note.reason) for note in notes)


def test_calibration_of_another_model_is_refused():
    model = parse("a = Relu (x) y = Conv (a, w)", w=f32(4, 4, 1, 1))
    other = parse("y = Conv (x, w)", w=f32(4, 4, 1, 1))
    with pytest.raises(CalibrationError, match="tensor 'a' was not calibrated"):
        quantize(model, calibrate(other, samples_for(other)))
    with pytest.raises(CalibrationError, match="was not calibrated"):
        quantize(model, Calibration("none"))


BLOCKS = [
    "{o}_ = Conv <pads = [1, 1, 1, 1]> ({i}, w, b) {o} = Relu ({o}_)",
    "{o}_ = Conv <pads = [1, 1, 1, 1]> ({i}, w) {o} = Add ({o}_, {i})",
    "{o} = Conv <group = 4, pads = [1, 1, 1, 1]> ({i}, d, b)",
    "{o}_ = Sigmoid ({i}) {o} = Mul ({o}_, {i})",
    "{o} = HardSwish ({i})",
    "{o} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({i})",
    "{o} = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({i})",
    "{o}_ = Concat <axis = 1> ({i}, {i}) {o} = Conv ({o}_, k)",
    "{o} = LeakyRelu ({i})",
]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_int8_net_answers_like_the_float_one(tmp_path_factory, blocks, seed):
    body = " ".join(block.format(i=f"v{i}", o=f"v{i + 1}") for i, block in enumerate(blocks))
    body = f"v0 = Conv (x, k1) {body} m = GlobalAveragePool (v{len(blocks)}) f = Flatten (m) y = Gemm (f, g)"
    model = parse(
        body,
        "float[N, 5] y",
        w=f32(4, 4, 3, 3, seed=seed) / 6,
        d=f32(4, 1, 3, 3, seed=seed) / 3,
        b=f32(4, seed=seed),
        k=f32(4, 8, 1, 1, seed=seed) / 3,
        k1=f32(4, 4, 1, 1, seed=seed) / 2,
        g=f32(4, 5, seed=seed),
    )
    result = quantized(model)
    assert not get_report(result).float_nodes
    path = tmp_path_factory.mktemp("int8") / "net.onnx"
    write_onnx(result, path, style="ort-x86")
    float_net = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    int8_net = ort.InferenceSession(path)
    answers = [
        (float_net.run(None, sample)[0], int8_net.run(None, sample)[0])
        for sample in samples_for(model)
    ]
    wanted, got = (np.concatenate(part) for part in zip(*answers, strict=True))
    noise = np.sqrt(np.mean((wanted - got) ** 2))
    assert noise < 0.1 * max(np.sqrt(np.mean(wanted**2)), 0.05)


def test_a_tensor_that_is_always_empty_is_named():
    nothing = np.array([1, 1, 1e-9, 1e-9], np.float32)
    model = parse("c = Conv(x, w) y = Resize(c, roi, s)", w=f32(4, 4, 3, 3), roi=f32(0), s=nothing)
    with pytest.raises(CalibrationError, match="tensor 'y' had no elements"):
        quantized(model)


@given(lo=st.floats(-1e6, 0), hi=st.floats(0, 1e6), seed=st.integers(0, 99))
def test_a_symmetric_grid_has_zero_point_0_and_bounds_for_a_clamp(lo, hi, seed):
    assume(hi - lo > 1e-3)
    grid = make_grid(Range(lo, hi), Clamp(lo, np.inf), symmetric=True)
    scale = float(grid.scale)
    assert grid.zero_point == 0
    assert 127 * scale >= max(-lo, hi) * (1 - 1e-6)
    assert grid.hi == 127
    x = np.random.default_rng(seed).normal(size=500) * (hi - lo)

    def encode(values, least):
        return np.rint(values / scale).clip(least, 127)

    np.testing.assert_array_equal(encode(x, grid.lo), encode(x.clip(lo, None), -128))


def test_symmetric_quantization_reaches_every_value():
    model = parse(
        "a = Conv (x, w) b = Relu (a) c = Sigmoid (b) d = Mul (b, c) e = Add (d, k) y = Concat <axis = 1> (e, c)",
        w=f32(3, 4, 1, 1),
        k=f32(3, 1, 1),
    )
    found = records(quantized(model, method=RangeChoice(symmetric=True)))
    grids = {name: r for name, r in found.items() if isinstance(r, ActivationQuantization)}
    assert {"x", "b", "c", "d", "e", "y", "k"} <= grids.keys()
    assert all(grid.zero_point == 0 for grid in grids.values())
    assert (grids["b"].lo, grids["b"].hi) == (0, 127)
    assert (grids["e"].lo, grids["c"].scale) == (-128, np.float32(1 / 128))
    assert str(RangeChoice(symmetric=True)) == "minmax, symmetric"


def test_symmetric_forms_agree(tmp_path):
    """The judge of the native form and the ONNX form compute the same codes from symmetric grids."""
    model = parse(
        "a = Conv (x, w) b = Relu (a) y = Conv (b, v)", w=f32(3, 4, 1, 1), v=f32(5, 3, 1, 1)
    )
    result = quantized(model, method=RangeChoice(symmetric=True))
    program = lower(result)
    image = next(iter(samples_for(model, 1)))
    recorded = run_program(program, image)
    assert recorded["b"].min() == 0
    path = write_onnx(result, tmp_path / "net.onnx", style="ort-x86")
    for layer in compare_layers(path, program, recorded):
        assert layer.largest == 0
