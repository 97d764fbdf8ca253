"""Files with products of whole numbers run natively with the weights' own codes, or are calibrated."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from test_own_operators import open_natively

from edgekit.converters.quantization import get_quantization, is_dynamic
from edgekit.converters.quantize import get_report
from edgekit.converters.read_model import read_model
from edgekit.targets.errors import ModelError

TYPES = [quantization.QuantType.QInt8, quantization.QuantType.QUInt8]


def write_products(path, random):
    """Two products, the first with a bias."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("Add", ["h", "b1"], ["a"], "bias"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "second"),
    ]
    shapes = {"w1": (16, 32), "b1": (32,), "w2": (32, 12)}
    constants = [
        numpy_helper.from_array(random.normal(0, 1, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [4, 8, 16]), ("y", [4, 8, 12]))
    ]
    graph = helper.make_graph(nodes, "products", values[:1], values[1:], constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def decibels(given, wanted):
    return 10 * np.log10(np.square(wanted).sum() / np.square(given - wanted).sum())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_type", TYPES)
def test_products_keep_their_codes_and_give_rows_codes_when_they_run(
    tmp_path, per_channel, weight_type
):
    random = np.random.default_rng(0)
    path = write_products(tmp_path / "float.onnx", random)
    dynamic = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(path, dynamic, per_channel=per_channel, weight_type=weight_type)
    session, graph = open_natively(dynamic)
    layers = [node for node in graph.graph if node.op_type in ("Gemm", "MatMul")]
    assert [is_dynamic(node) for node in layers] == [True, True]
    codes = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(dynamic).graph.initializer
        if tensor.name.endswith("_quantized")
    }
    for node, name in zip(layers, ("w1_quantized", "w2_quantized"), strict=True):
        if weight_type == quantization.QuantType.QInt8:
            record = get_quantization(node.inputs[1])
            np.testing.assert_array_equal(record.codes, codes[name])
    x = random.normal(0, 1, (4, 8, 16)).astype(np.float32)
    (given,) = session.run({"x": x}).values()
    (theirs,) = onnxruntime.InferenceSession(dynamic).run(None, {"x": x})
    (real,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    assert decibels(given, real) > 35
    assert decibels(given, theirs) > 35
    reasons = {note.op: note.reason for note in get_report(graph).float_nodes}
    assert reasons["MatMul"] == "its rows get codes when it runs"


def test_products_of_onnx_runtimes_own_are_the_same(tmp_path):
    """What ONNX Runtime makes of such a file when it optimizes it: DynamicQuantizeMatMul."""
    random = np.random.default_rng(1)
    path = write_products(tmp_path / "float.onnx", random)
    dynamic, fused = tmp_path / "dynamic.onnx", tmp_path / "fused.onnx"
    quantization.quantize_dynamic(path, dynamic, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(fused)
    onnxruntime.InferenceSession(dynamic, options)
    assert "DynamicQuantizeMatMul" in {node.op_type for node in onnx.load(fused).graph.node}
    x = random.normal(0, 1, (4, 8, 16)).astype(np.float32)
    answers = [next(iter(open_natively(p)[0].run({"x": x}).values())) for p in (dynamic, fused)]
    np.testing.assert_array_equal(*answers)


def test_weights_behind_dequantize_linear_alone_stay_float(tmp_path):
    """Nothing says that the rows have codes."""
    random = np.random.default_rng(2)
    weight = random.integers(-127, 128, (16, 8)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], "dequantize"),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    constants = [
        numpy_helper.from_array(weight, "q"),
        numpy_helper.from_array(np.array(0.01, np.float32), "s"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [3, 16]), ("y", [3, 8]))
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    path = tmp_path / "weights.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    session, _ = open_natively(path)
    x = random.normal(0, 1, (3, 16)).astype(np.float32)
    (given,) = session.run({"x": x}).values()
    np.testing.assert_allclose(given, x @ (weight * np.float32(0.01)), rtol=1e-5, atol=1e-6)


def sums_model(op_type, x, w, out, **attributes):
    node = helper.make_node(op_type, ["x", "w", "xz", "wz"], ["y"], "sums", **attributes)
    constants = [
        numpy_helper.from_array(w, "w"),
        numpy_helper.from_array(np.array(7, np.uint8), "xz"),
        numpy_helper.from_array(np.array(3, w.dtype), "wz"),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, x),
        helper.make_tensor_value_info("y", TensorProto.INT32, out),
    ]
    graph = helper.make_graph([node], "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("op_type", ["MatMulInteger", "ConvInteger"])
def test_whole_sums_are_exact(tmp_path, op_type):
    random = np.random.default_rng(3)
    if op_type == "MatMulInteger":
        shape, w, out = [5, 40], random.integers(-128, 128, (40, 6)).astype(np.int8), [5, 6]
        attributes = {}
    else:
        shape, w = [1, 3, 6, 6], random.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8)
        out, attributes = [1, 4, 6, 6], {"pads": [1, 1, 1, 1]}
    path = tmp_path / "sums.onnx"
    onnx.save(sums_model(op_type, shape, w, out, **attributes), path)
    session, _ = open_natively(path)
    x = random.integers(0, 256, shape).astype(np.uint8)
    (wanted,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    (given,) = session.run({"x": x}).values()
    assert given.dtype == np.int32
    np.testing.assert_array_equal(given, wanted)


def test_sums_that_floats_cannot_hold_are_named(tmp_path):
    path = tmp_path / "sums.onnx"
    weight = np.full((1024, 2), 127, np.int8)
    onnx.save(sums_model("MatMulInteger", [1, 1024], weight, [1, 2]), path)
    with pytest.raises(ModelError, match=r"node 'sums' \(MatMulInteger\): its sums are read as wh"):
        read_model(path)
