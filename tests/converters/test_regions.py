"""Regions are as large as they can be, compute what ONNX computes, and become one table."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.quantize import quantize
from edgekit.converters.regions import find_regions
from edgekit.converters.write_onnx import write_onnx

HARD_SWISH = "a = Add (x, three) b = Clip (a, zero, six) c = Mul (x, b) y = Div (c, six)"
GELU = "a = Div (x, root) b = Erf (a) c = Add (b, one) d = Mul (x, c) y = Mul (d, half)"
SWISH_AND_AFFINE = "a = Sigmoid (x) b = Mul (x, a) c = Mul (half, b) y = Sub (one, c)"
MIXED = "a = LeakyRelu (x) b = Max (a, half) c = Neg (b) d = Exp (c) e = Add (d, d) y = Sqrt (e)"
CONSTANTS = {"zero": 0.0, "half": 0.5, "one": 1.0, "three": 3.0, "six": 6.0, "root": 2**0.5}


def parse(body, outputs="float[2, 3, 4, 5] y"):
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float[2, 3, 4, 5] x) => ({outputs}) {{ {body} }}'
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(value), name)
        for name, value in CONSTANTS.items()
        if name in used
    )
    return onnx.shape_inference.infer_shapes(model)


def regions_of(proto):
    return list(find_regions(ir.from_proto(proto).graph).values())


@pytest.mark.parametrize("body", [HARD_SWISH, GELU, SWISH_AND_AFFINE, MIXED])
def test_a_region_computes_what_its_nodes_do(body):
    proto = parse(body)
    (region,) = regions_of(proto)
    assert region.source.name == "x"
    assert region.output.name == "y"
    x = np.linspace(-8, 8, 120, dtype=np.float32).reshape(2, 3, 4, 5)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    function = region.function()
    found = [function(float(value)) for value in x.reshape(-1)]
    np.testing.assert_allclose(found, expected.reshape(-1), rtol=1e-5, atol=1e-6)


def test_a_value_that_others_read_ends_a_region():
    proto = parse(
        "a = Add (x, three) b = Sigmoid (a) c = Softmax (b) d = Mul (b, half) e = Neg (d) y = Add (c, e)"
    )
    found = {region.label: region.source.name for region in regions_of(proto)}
    assert found == {"Add+Sigmoid": "x", "Mul+Neg": "b"}


def test_a_result_of_the_model_ends_a_region():
    proto = parse("a = Neg (x) y = Exp (a)", "float[2, 3, 4, 5] y, float[2, 3, 4, 5] a")
    assert {region.label for region in regions_of(proto)} == {"Neg", "Exp"}


def test_a_constant_of_higher_rank_is_no_number():
    proto = parse("y = Mul (x, big)", "float[1, 2, 3, 4, 5] y")
    proto.graph.initializer.append(
        onnx.numpy_helper.from_array(np.full((1, 1, 1, 1, 1), 2, np.float32), "big")
    )
    assert not regions_of(onnx.shape_inference.infer_shapes(proto))


@pytest.mark.parametrize("body", [HARD_SWISH, GELU, SWISH_AND_AFFINE, MIXED])
def test_a_region_is_one_table_in_every_form(body, tmp_path):
    model = ir.from_proto(parse(body))
    rng = np.random.default_rng(3)
    samples = [{"x": rng.normal(0, 4, (2, 3, 4, 5)).astype(np.float32)} for _ in range(4)]
    quantized = quantize(model, calibrate(model, samples))
    program = lower(quantized)
    assert [op.kind for op in program.ops] == ["Quantize", "Lookup", "Dequantize"]
    path = write_onnx(quantized, tmp_path / "net.onnx", style="ort-x86")
    written = onnx.load(path)
    assert sum(node.op_type == "QuantizeLinear" for node in written.graph.node) == 2
