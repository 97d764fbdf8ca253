"""Number formats that nodes are asked to have."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import ASKED, can_hold, name_formats, parse_format
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import is_dynamic, stays_float
from edgekit.converters.quantize import get_report, quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.targets.errors import ModelError


@pytest.fixture(scope="module")
def network():
    """Returns a convolution, a table, a product and an operator that int8 lacks; and its calibration."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.5, (4, 3, 3, 3)),
        "w2": rng.normal(0, 0.5, (64, 8)),
        "to": np.array([1, 64]),
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w1"], ["a"], name="conv", pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Sigmoid", ["a"], ["b"], name="gate"),
            onnx.helper.make_node("Reshape", ["b", "to"], ["c"], name="flat"),
            onnx.helper.make_node("MatMul", ["c", "w2"], ["d"], name="product"),
            onnx.helper.make_node("LpNormalization", ["d"], ["y"], name="length"),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8])],
        [
            onnx.numpy_helper.from_array(
                array.astype(np.int64 if name == "to" else np.float32), name
            )
            for name, array in weights.items()
        ],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    proto.ir_version = 10
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    samples = [{"x": rng.normal(0, 1, (1, 3, 4, 4)).astype(np.float32)} for _ in range(4)]
    return model, calibrate(model, samples)


def of_node(model, name):
    return next(node for node in model.graph if node.name == name)


def test_nodes_have_what_was_asked_for(network):
    model, calibration = network
    formats = {"conv": NumberFormat.FLOAT32, "product": NumberFormat.INT8_ROWS}
    made = quantize(model, calibration, formats=formats)
    assert stays_float(of_node(made, "conv"))
    assert not is_dynamic(of_node(made, "conv"))
    assert is_dynamic(of_node(made, "product"))
    reasons = {node.name: node.reason for node in get_report(made).float_nodes}
    assert reasons["conv"] == reasons["product"] == ASKED


def test_what_was_asked_for_goes_before_what_was_found(network):
    model, calibration = network
    made = quantize(
        model,
        calibration,
        keep_float={"conv": "slow", "product": "slow"},
        dynamic=["product"],
        formats={"conv": NumberFormat.INT8, "product": NumberFormat.FLOAT32},
    )
    assert not stays_float(of_node(made, "conv"))
    assert stays_float(of_node(made, "product"))
    assert not is_dynamic(of_node(made, "product"))


def test_a_node_says_what_it_cannot_be(network):
    model, _ = network
    for name in ("conv", "gate", "product"):
        assert can_hold(of_node(model, name), NumberFormat.INT8) is None
    for node in model.graph:
        assert can_hold(node, NumberFormat.FLOAT32) is None
    assert can_hold(of_node(model, "product"), NumberFormat.INT8_ROWS) is None
    assert "only fully connected" in can_hold(of_node(model, "conv"), NumberFormat.INT8_ROWS)
    assert "LpNormalization" in can_hold(of_node(model, "length"), NumberFormat.INT8)


def test_wrong_wishes_are_named(network):
    model, calibration = network
    with pytest.raises(ModelError, match="there is no node 'cnov'"):
        quantize(model, calibration, formats={"cnov": NumberFormat.FLOAT32})
    with pytest.raises(ModelError, match=r"'conv' \(Conv\) cannot be int8-rows"):
        quantize(model, calibration, formats={"conv": NumberFormat.INT8_ROWS})
    with pytest.raises(ModelError, match="no number format 'int7'"):
        name_formats({"conv": "int7"})
    with pytest.raises(ModelError, match="must be a dict"):
        name_formats(["conv"])
    with pytest.raises(ModelError, match="write NODE=FORMAT"):
        parse_format("float32")


def test_names_of_nodes_may_hold_what_separates():
    assert parse_format("a=b/Conv=int8") == ("a=b/Conv", NumberFormat.INT8)
    assert name_formats({"a": "float32", "b": NumberFormat.INT8}) == {
        "a": NumberFormat.FLOAT32,
        "b": NumberFormat.INT8,
    }
