"""Operators on plain numbers: the judge, the runtime and ONNX Runtime agree, and what a plan cannot hold is refused."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import keep_float
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

RNG = np.random.default_rng(5)
RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]


def f32(*shape):
    return RNG.normal(0, 1, shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


IDS = np.array([[3, -1, 0, 6], [6, 2, 2, -7]], np.int64)
X = np.array([[1.5, -2.5, np.nan, 0, np.inf], [2, -0.0, -np.inf, 1e-3, -4]], np.float32)
# By name: inputs, body, constants, type of y.
NETWORKS = {
    "embedding": ({"n": IDS}, "y = Gather (table, n)", {"table": f32(7, 3)}, "float"),
    "rows of an image": (
        {"x": f32(1, 3, 4, 5), "n": np.array([2, 0], np.int32)},
        "r = Relu (x) g = Gather <axis = 2> (r, n) y = Add (g, g)",
        {},
        "float",
    ),
    "types": (
        {"x": X},
        "a = Cast <to = 7> (c) y = Mul (a, a) c = Clip (x, low, high)",
        {"low": np.float32(-9), "high": np.float32(9)},
        "int64",
    ),
    "types, small": (
        {"x": np.array([[0, 1, 255]], np.uint8)},
        "f = Cast <to = 1> (x) y = Div (f, c)",
        {"c": np.float32(255)},
        "float",
    ),
    "comparison": (
        {"x": X},
        "g = Greater (x, zero) e = Equal (x, half) o = Or (g, e) n = Not (o) y = Where (n, x, zero)",
        {"zero": np.float32(0), "half": np.float32(0.5)},
        "float",
    ),
    "mask": (
        {"n": IDS, "x": f32(2, 4, 3)},
        "p = Greater (n, zero) f = Cast <to = 1> (p) u = Unsqueeze (f, axes) e = Expand (u, size) m = Mul (x, e) "
        "y = ReduceSum (m, one)",
        {"zero": np.int64(0), "axes": i64(2), "size": i64(2, 4, 3), "one": i64(1)},
        "float",
    ),
    "whole numbers": (
        {"n": IDS},
        "a = Add (n, row) s = Sub (a, n) m = Mul (a, s) d = Div (m, three) r = Mod (d, three) y = Max (r, n)",
        {"row": i64(1, 2, 3, 4), "three": np.int64(3)},
        "int64",
    ),
    "one hot": (
        {"n": IDS},
        "y = OneHot <axis = 1> (n, depth, values)",
        {"depth": np.int64(7), "values": np.float32([0.5, 2])},
        "float",
    ),
    "tiles": ({"x": f32(2, 3)}, "y = Tile (x, counts)", {"counts": i64(2, 3)}, "float"),
    "places": ({"x": f32(2, 5, 3)}, "y = ArgMax <axis = 1, keepdims = 0> (x)", {}, "int64"),
    "places of the smallest": (
        {"x": np.float32([[2, 1, 1], [0, 3, 0]])},
        "y = ArgMin <axis = -1, select_last_index = 1> (x)",
        {},
        "int64",
    ),
    "moves of whole numbers": (
        {"n": IDS},
        "t = Transpose (n) s = Slice (t, from, to, ax) r = Reshape (s, shape) y = Concat <axis = 0> (r, r)",
        {"from": i64(1), "to": i64(3), "ax": i64(0), "shape": i64(4)},
        "int64",
    ),
    "padding with a number": (
        {"x": f32(1, 2, 3, 4)},
        "y = Pad (x, amounts, fill)",
        {"amounts": i64(0, 0, 1, 0, 0, 0, 0, 2), "fill": np.float32(-1.5)},
        "float",
    ),
    "a known answer": ({"x": f32(2, 3)}, "y = Shape (x)", {}, "int64"),
    "activations": (
        {"x": f32(2, 3, 4, 5)},
        "a = PRelu (x, slope) b = Elu (a) c = Softplus (b) d = Mish (x) e = Softsign (d) f = Selu (x) g = Celu "
        "<alpha = 0.5> (x) h = ThresholdedRelu (x) i = Sign (x) y = Sum (c, e, f, g, h, i)",
        {"slope": f32(3, 1, 1)},
        "float",
    ),
    "norm of images": (
        {"x": f32(2, 3, 4, 5)},
        "a = InstanceNormalization (x, s, b) y = LRN <size = 3> (a)",
        {"s": f32(3), "b": f32(3)},
        "float",
    ),
    "blocks": (
        {"x": f32(1, 8, 4, 6)},
        "a = DepthToSpace <blocksize = 2> (x) b = SpaceToDepth <blocksize = 2> (a) y = DepthToSpace <blocksize = 2, "
        'mode = "CRD"> (b)',
        {},
        "float",
    ),
}


def make(inputs, body, constants, kind):
    names = ", ".join(
        f"{onnx.TensorProto.DataType.Name(onnx.helper.np_dtype_to_tensor_dtype(a.dtype)).lower()}{list(a.shape)} {n}"
        for n, a in inputs.items()
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net ({names}) => ({kind} y) {{ {body} }}'
    )
    # Written in any order.
    model = ir.to_proto(ir.passes.common.TopologicalSortPass()(ir.from_proto(model)).model)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def lower_plainly(proto):
    model = ir.from_proto(proto)
    simplify(model)
    for node in model.graph:
        keep_float(node)
    return lower(model)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_an_operator_gives_the_judges_bytes_and_nearly_onnx_runtimes(name, tmp_path):
    inputs, body, constants, kind = NETWORKS[name]
    proto = make(inputs, body, constants, kind)
    program = lower_plainly(proto)
    recorded = run_program(program, inputs)
    for isa in RUNNABLE:
        path = tmp_path / f"{isa}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
        session = _native.Session(_native.Plan.open(path), 2)
        for _, tensor, values in session.trace(inputs):
            np.testing.assert_array_equal(values, recorded[tensor], err_msg=f"{tensor} on {isa}")
            assert values.dtype == recorded[tensor].dtype
    (expected,) = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, inputs)
    assert recorded["y"].dtype == expected.dtype
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(recorded["y"], expected, rtol=2e-5, atol=2e-5)
    else:
        np.testing.assert_array_equal(recorded["y"], expected)


@pytest.mark.parametrize(
    ("inputs", "body", "reason"),
    [
        ({"x": np.zeros(3, np.float16)}, "y = Relu (x)", "input 'x' is FLOAT16"),
        ({"x": f32(2, 3), "n": i64(2, 2)}, "y = Expand (x, n)", "its shape is computed"),
        ({"x": f32(2, 3), "n": i64(1, 1, 0, 0)}, "y = Pad (x, n)", "'pads' is computed"),
        ({"x": f32(1, 2, 3), "n": i64(0)}, "y = Squeeze (x, n)", "'axes' is computed"),
        (
            {"x": f32(2), "n": i64(0, 0, 1)},
            "c = Cast <to = 10> (x) y = Cast <to = 1> (c)",
            "FLOAT16",
        ),
    ],
)
def test_what_a_plan_cannot_hold_is_refused_in_words(inputs, body, reason):
    with pytest.raises(ModelError, match=reason):
        lower_plainly(make(inputs, body, {}, "float"))
