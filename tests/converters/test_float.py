"""Float32 operators in native plans: sessions of every instruction set equal the judge, and ONNX Runtime nearly so."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.float_program import FloatConv, FloatFullyConnected
from edgekit.converters.float_reference import fused_multiply_add, sum_in_lanes
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import get_report, quantize
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]
RNG = np.random.default_rng(5)
IMAGE = (2, 6, 7, 9)
ROWS = (2, 5, 12)


def f32(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


NETWORKS = {
    "conv": (
        IMAGE,
        "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)",
        {"w": f32(9, 6, 3, 3), "b": f32(9)},
    ),
    "conv, many channels": (
        (1, 20, 5, 5),
        "y = Conv <strides = [2, 1], pads = [0, 1, 1, 0]> (x, w, b)",
        {"w": f32(7, 20, 3, 2), "b": f32(7)},
    ),
    "conv, pointwise": (IMAGE, "y = Conv (x, w)", {"w": f32(33, 6, 1, 1)}),
    "conv, groups": (
        IMAGE,
        "y = Conv <group = 2, dilations = [2, 1]> (x, w, b)",
        {"w": f32(8, 3, 3, 3), "b": f32(8)},
    ),
    "depthwise, clamp and sum": (
        IMAGE,
        "a = Conv <group = 6, pads = [1, 1, 1, 1]> (x, w, b) s = Add (a, x) y = Relu (s)",
        {"w": f32(6, 1, 3, 3), "b": f32(6)},
    ),
    "depthwise 5x5 by 2": (
        (1, 20, 11, 13),
        "y = Conv <group = 20, pads = [2, 2, 2, 2], strides = [2, 2]> (x, w)",
        {"w": f32(20, 1, 5, 5)},
    ),
    "transposed": (
        IMAGE,
        "y = ConvTranspose <strides = [2, 2]> (x, w, b)",
        {"w": f32(6, 5, 2, 2), "b": f32(5)},
    ),
    "transposed, overlapping and clamped": (
        IMAGE,
        "a = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, w) y = Relu (a)",
        {"w": f32(6, 20, 3, 3)},
    ),
    "transposed, gaps": (
        IMAGE,
        "y = ConvTranspose <strides = [3, 2], dilations = [1, 2]> (x, w, b)",
        {"w": f32(6, 4, 2, 3), "b": f32(4)},
    ),
    "transposed, groups": (
        IMAGE,
        "y = ConvTranspose <group = 2, strides = [1, 2], pads = [2, 0, 0, 0]> (x, w, b)",
        {"w": f32(6, 3, 4, 2), "b": f32(6)},
    ),
    "transposed, each channel": (
        IMAGE,
        "y = ConvTranspose <group = 6, strides = [2, 2]> (x, w)",
        {"w": f32(6, 1, 2, 2)},
    ),
    "transposed, one dimension": (
        (2, 4, 9),
        "y = ConvTranspose <strides = [2], output_padding = [1]> (x, w)",
        {"w": f32(4, 3, 2)},
    ),
    "gemm": (
        (3, 12),
        "y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, b)",
        {"w": f32(5, 12), "b": f32(5)},
    ),
    "matmul": (ROWS, "y = MatMul (x, w)", {"w": f32(12, 7)}),
    "attention": (
        ROWS,
        "q = MatMul (x, wq) k = MatMul (x, wk) t = Transpose <perm = [0, 2, 1]> (k) a = MatMul (q, t) "
        "s = Div (a, c) p = Softmax <axis = -1> (s) y = MatMul (p, x)",
        {"wq": f32(12, 8), "wk": f32(12, 8), "c": np.float32(math.sqrt(8))},
    ),
    "layer norm": (
        ROWS,
        "y = LayerNormalization <axis = -1, epsilon = 0.001> (x, s, b)",
        {"s": f32(12), "b": f32(12)},
    ),
    "norm by hand": (
        ROWS,
        "m = ReduceMean <keepdims = 1> (x, last) d = Sub (x, m) q = Pow (d, two) v = ReduceMean (q, last) "
        "e = Add (v, small) r = Sqrt (e) y = Div (d, r)",
        {"last": i64(-1), "two": np.float32(2), "small": np.float32(1e-5)},
    ),
    "operators": (
        IMAGE,
        "a = Mul (x, c) b = Sub (a, d) e = Max (b, x) f = Min (e, one) g = Abs (f) h = Add (g, one) i = Div (x, h) "
        "y = Neg (i)",
        {"c": f32(6, 1, 1), "d": f32(1, 6, 7, 9), "one": np.float32(1)},
    ),
    "functions": (
        ROWS,
        "a = Exp (x) b = Log (a) c = Erf (b) d = Tanh (c) e = Sigmoid (d) f = HardSigmoid <alpha = 0.25> (e) "
        "g = HardSwish (f) h = LeakyRelu <alpha = 0.1> (g) i = Gelu (h) j = Clip (i, lo, hi) k = Reciprocal (j) "
        "l = Floor (k) m = Ceil (x) n = Round (x) o = Add (l, m) y = Add (n, o)",
        {"lo": np.float32(0.1), "hi": np.float32(0.9)},
    ),
    "gelu by tangent": (ROWS, 'y = Gelu <approximate = "tanh"> (x)', {}),
    "cube": (IMAGE, "y = Pow (x, three)", {"three": np.float32(3)}),
    "pools": (
        IMAGE,
        "a = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x) "
        "b = AveragePool <kernel_shape = [2, 3], strides = [1, 2], pads = [0, 1, 1, 1]> (a) "
        "y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0], count_include_pad = 1> (b)",
        {},
    ),
    "global": (
        IMAGE,
        "a = GlobalAveragePool (x) b = GlobalMaxPool (x) y = Concat <axis = 1> (a, b)",
        {},
    ),
    "reductions": (
        IMAGE,
        "a = ReduceSum <keepdims = 0> (x, middle) b = ReduceMax <keepdims = 0> (x, middle) "
        "c = ReduceMin <keepdims = 0> (x, middle) d = Sub (b, c) e = Add (a, d) "
        "l = ReduceL2 <keepdims = 0> (x, middle) q = ReduceSumSquare <keepdims = 0> (x, middle) "
        "f = Add (l, q) y = Add (e, f)",
        {"middle": i64(1, 2)},
    ),
    "softmax over channels": (IMAGE, "y = Softmax <axis = 1> (x)", {}),
    "moves": (
        IMAGE,
        "a, b = Split <axis = 1, num_outputs = 2> (x) c = Concat <axis = 3> (b, a) "
        "d = Transpose <perm = [0, 2, 1, 3]> (c) "
        "e = Reshape (d, shape) f = Slice (e, begin, end, axes) y = Pad (f, pads)",
        {
            "shape": i64(2, 21, 18),
            "begin": i64(1),
            "end": i64(20),
            "axes": i64(1),
            "pads": i64(0, 1, 2, 0, 0, 1),
        },
    ),
    "resize nearest": (
        IMAGE,
        'y = Resize <mode = "nearest"> (x, , , sizes)',
        {"sizes": i64(2, 6, 5, 20)},
    ),
    "resize linear": (
        IMAGE,
        'y = Resize <mode = "linear"> (x, , scales)',
        {"scales": np.array([1, 1, 3, 1.5], np.float32)},
    ),
    "recurrent": (
        (3, 2, 5),
        "y, h, c = LSTM <hidden_size = 4> (x, w, r, b)",
        {"w": f32(1, 16, 5), "r": f32(1, 16, 4), "b": f32(1, 32)},
    ),
    "a clip by computed bounds": (
        (2, 3, 5),
        "m = ReduceMax <keepdims = 0> (x) n = Mul (m, half) o = Neg (m) c = Clip (x, o, n) p = Clip (c, , n) q = "
        "GlobalMaxPool (p) r = GlobalAveragePool (x) y = Add (q, r)",
        {"half": np.float32(0.5)},
    ),
    "recurrent, in both directions": (
        (3, 2, 5),
        'a, h, c = LSTM <hidden_size = 4, direction = "bidirectional"> (x, w, r, b) '
        "y = ReduceSum <keepdims = 0> (a, one)",
        {"w": f32(2, 16, 5), "r": f32(2, 16, 4), "b": f32(2, 32), "one": i64(1)},
    ),
    "recurrent, gated": (
        (3, 2, 5),
        "a, h = GRU <hidden_size = 4, linear_before_reset = 1> (x, w, r, b) g, k = GRU <hidden_size = 4, direction = "
        '"reverse"> (x, w, r) y = Add (a, g)',
        {"w": f32(1, 12, 5), "r": f32(1, 12, 4), "b": f32(1, 24)},
    ),
    "recurrent, plain": (
        (3, 2, 5),
        "y, h = RNN <hidden_size = 4> (x, w, r)",
        {"w": f32(1, 4, 5), "r": f32(1, 4, 4)},
    ),
    "recurrent, from a state": (
        (1, 2, 5),
        "s = ReduceSum <keepdims = 1> (x, last) i = Mul (s, four) a, h, c = LSTM <hidden_size = 4> (x, w, r, , , i, i) "
        "y = Add (h, c)",
        {"w": f32(1, 16, 5), "r": f32(1, 16, 4), "last": i64(2), "four": f32(1, 1, 4)},
    ),
    "classifier": (
        IMAGE,
        "a = Conv (x, w) b = Clip (a, zero, six) c = Flatten (b) y = Gemm (c, v)",
        {"w": f32(4, 6, 3, 3), "zero": np.float32(0), "six": np.float32(6), "v": f32(4 * 5 * 7, 3)},
    ),
}


def make(shape, body, constants):
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float{list(shape)} x) => (float y) {{ {body} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def lower_with(proto, samples, keep):
    """Lowers a network of which the nodes that `keep` chooses stay float."""
    model = ir.from_proto(proto)
    simplify(model)
    names = {node.name: "the test wants it" for node in model.graph if keep(node)}
    quantized = quantize(model, calibrate(model, samples), keep_float=names)
    return quantized, lower(quantized)


def check_sessions(program, sample, folder):
    """Compares sessions of every instruction set with the judge; returns the judge's output."""
    recorded = run_program(program, sample)
    for isa in RUNNABLE:
        path = folder / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        session = _native.Session(_native.Plan.open(path), 2)
        for _, tensor, values in session.trace(sample):
            np.testing.assert_array_equal(values, recorded[tensor], err_msg=f"{tensor} on {isa}")
    return recorded["y"]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_an_operator_gives_the_judges_bytes_and_nearly_onnx_runtimes(name, tmp_path):
    shape, body, constants = NETWORKS[name]
    proto = make(shape, body, constants)
    samples = [{"x": RNG.normal(0, 1, shape).astype(np.float32)} for _ in range(2)]
    quantized, program = lower_with(proto, samples, lambda node: True)
    assert not get_report(quantized).quantized
    y = check_sessions(program, samples[0], tmp_path)
    (expected,) = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, samples[0])
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["depthwise, clamp and sum", "classifier", "attention", "moves"])
def test_codes_and_floats_meet_in_one_plan(name, tmp_path):
    shape, body, constants = NETWORKS[name]
    proto = make(shape, body, constants)
    samples = [{"x": RNG.normal(0, 1, shape).astype(np.float32)} for _ in range(4)]
    (expected,) = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, samples[0])
    for part in (0, 1):
        count = iter(range(100))
        _, program = lower_with(proto, samples, lambda node: next(count) % 2 == part)  # noqa: B023
        y = check_sessions(program, samples[0], tmp_path)
        spread = float(expected.max() - expected.min())
        np.testing.assert_allclose(y, expected, rtol=0, atol=0.08 * spread)


def test_clamps_and_sums_run_inside_the_layers_before_them():
    shape, body, constants = NETWORKS["depthwise, clamp and sum"]
    samples = [{"x": RNG.normal(0, 1, shape).astype(np.float32)}]
    _, program = lower_with(make(shape, body, constants), samples, lambda node: True)
    kinds = [op.kind for op in program.ops]
    assert kinds == ["Transpose", "FloatDepthwiseConv", "Transpose"]
    conv = program.ops[1]
    assert (conv.lo, conv.hi, conv.residual) == (0.0, math.inf, "x:channels_last")


def test_an_output_is_written_where_it_belongs():
    shape, body, constants = NETWORKS["classifier"]
    samples = [{"x": RNG.normal(0, 1, shape).astype(np.float32)}]
    _, program = lower_with(make(shape, body, constants), samples, lambda node: True)
    assert isinstance(program.ops[-1], FloatFullyConnected)
    assert program.ops[-1].output == "y"
    conv = next(op for op in program.ops if isinstance(op, FloatConv))
    assert (conv.lo, conv.hi) == (0.0, 6.0)


def test_what_int8_cannot_hold_stays_float(tmp_path):
    proto = make(
        IMAGE,
        "a = Conv (x, w) b = Conv (x, v) c = Exp (b) d = Div (a, c) y = ReduceSum (d, axes)",
        {"w": f32(4, 6, 3, 3), "v": f32(4, 6, 3, 3) / 8, "axes": i64(2, 3)},
    )
    samples = [{"x": RNG.normal(0, 1, IMAGE).astype(np.float32)} for _ in range(2)]
    quantized, program = lower_with(proto, samples, lambda node: False)
    assert "ReduceSum" in [node.op for node in get_report(quantized).float_nodes]
    assert {"Conv", "Dequantize", "FloatReduce"} <= {op.kind for op in program.ops}
    check_sessions(program, samples[0], tmp_path)


def test_an_operator_of_neither_kind_is_refused():
    proto = make(IMAGE, "a = Cos (x) y = CumSum (a, axis)", {"axis": np.int32(1)})
    samples = [{"x": RNG.normal(0, 1, IMAGE).astype(np.float32)}]
    with pytest.raises(ModelError, match="no float32 operator CumSum"):
        lower_with(proto, samples, lambda node: False)


def test_constants_are_brought_to_their_layout_beforehand():
    proto = make(IMAGE, "a = Conv (x, w) y = Add (a, c)", {"w": f32(4, 6, 1, 1), "c": f32(4, 7, 9)})
    samples = [{"x": RNG.normal(0, 1, IMAGE).astype(np.float32)}]
    _, program = lower_with(proto, samples, lambda node: True)
    (constant,) = program.constants
    assert program.tensors[constant].shape == (1, 7, 9, 4)
    readers = [op.kind for op in program.ops if constant in op.inputs]
    assert readers == ["FloatBinary"]


def exact_fma(a, b, c):
    """Rounds the exact a * b + c to float32, through integers."""
    from fractions import Fraction

    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return np.float32(a) * np.float32(b) + np.float32(c)
    # Two floats around it, and the nearer or the even one.
    guess = np.float32(float(exact))
    near = [
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    ]
    key = [(abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1) for v in near]
    return near[key.index(min(key))]


def test_fused_multiply_add_rounds_once():
    a, b, c = (RNG.normal(0, 1, 3000).astype(np.float32) for _ in range(3))
    c[::3] = -(a[::3] * b[::3])
    c[1::3] *= np.float32(2.0**-30)
    # Halves of a last place, which a second rounding would take to the wrong side.
    a[:4], b[:4] = np.float32(1 + 2**-12), np.float32(1 + 2**-12)
    c[:4] = np.float32([2**-60, -(2**-60), 2**24, -(2**24)])
    expected = np.array([exact_fma(*values) for values in zip(a, b, c, strict=True)], np.float32)
    np.testing.assert_array_equal(fused_multiply_add(a, b, c), expected)


def test_sums_go_in_sixteen_lanes():
    x = RNG.normal(0, 1, (3, 37)).astype(np.float32)
    lanes = [np.float32(0)] * 16
    for i, value in enumerate(x[1]):
        lanes[i % 16] = lanes[i % 16] + value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[i] + lanes[i + half] for i in range(half)]
    assert sum_in_lanes(x)[1] == lanes[0]
