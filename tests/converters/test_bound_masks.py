"""Masks before Softmax: numbers that codes can hold, and grids that they do not stretch."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit.converters.calibrate import TensorSketch, calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import BoundMasks, simplify
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.reference import run_program

LOWEST = float(np.finfo(np.float32).min)
NUMBERS = {"zero": 0.0, "one": 1.0, "least": LOWEST, "none": -np.inf, "few": -9.0}


def parse(body):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[2, 6] x, int64[1, 6] mask) => '
        f"(float[2, 6] y) {{ {body} }}"
    )
    for name, value in NUMBERS.items():
        if f"{name}" in body:
            array = np.float32(value)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    row = np.where(np.arange(6) < 4, 0, LOWEST).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(row, "row"))
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


MASK = "c = Cast <to = 9> (mask) "
NUMBER = "f = Cast <to = 1> (mask) o = Sub (one, f) "
X = np.random.default_rng(2).normal(0, 3, (2, 6)).astype(np.float32)
MASKS = np.array([[1, 1, 0, 1, 0, 0]])


def run(model):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": X, "mask": MASKS})[0]


def low_constants(model):
    arrays = [v.const_value.numpy() for v in model.graph.initializers.values() if v.uses()]
    return [float(a.min()) for a in arrays if a.dtype == np.float32 and a.min() < -10]


BODIES = [
    MASK + "b = Where (c, zero, least) s = Add (x, b) y = Softmax (s)",
    MASK + "b = Where (c, zero, none) s = Add (b, x) y = Softmax (s)",
    NUMBER + "b = Mul (o, least) s = Add (x, b) y = Softmax (s)",
    NUMBER + "b = Mul (least, o) s = Add (x, b) t = Transpose <perm = [0, 1]> (s) y = Softmax (t)",
    "s = Add (x, row) y = Softmax (s)",
]


@pytest.mark.parametrize("body", BODIES)
def test_masks_are_bounded(body):
    model = parse(body)
    before = run(model)
    assert BoundMasks()(model).changed
    assert not BoundMasks()(model).changed
    assert low_constants(model) == [-1e4]
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize(
    "body",
    [
        MASK + "b = Where (c, zero, least) y = Add (x, b)",
        MASK + "b = Where (c, zero, least) s = Add (x, b) t = Softmax (s) y = Mul (t, b)",
        MASK + "b = Where (c, zero, few) s = Add (x, b) y = Softmax (s)",
        "b = Mul (x, least) s = Add (x, b) y = Softmax (s)",
        "s = Add (x, row) t = Softmax (s) y = Add (t, s)",
    ],
)
def test_other_small_numbers_stay(body):
    model = parse(body)
    assert not BoundMasks()(model).changed


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_codes_are_left_to_what_is_not_masked(body, method):
    model = parse(body)
    wanted = run(model)
    simplify(model)
    sample = {"x": X, "mask": MASKS}
    quantized = quantize(model, calibrate(model, [sample]), method=method)
    taken = next(node for node in quantized.graph if node.op_type == "Softmax").inputs[0]
    # x has a range of about 15, and 8 more lie below it.
    assert get_quantization(taken).scale < 0.15
    found = run_program(lower(quantized), sample)["y"]
    np.testing.assert_allclose(found, wanted, atol=0.05)
    assert not found[wanted == 0].any()


def test_sketches_without_what_is_small():
    sketch = TensorSketch()
    sketch.add(np.float32([-1e4, -1e4, -2, 0, 3]))
    rest = sketch.above(-5e3)
    assert rest.total == 3
    assert -2.02 <= rest.lo <= -2
    assert rest.hi == 3
    assert not np.isfinite(sketch.above(4).lo)
    assert sketch.total == 5
