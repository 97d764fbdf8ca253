"""Tables against the functions they stand for, as ONNX's reference evaluates them."""

import math

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.tables import (
    BINARY_FUNCTIONS,
    SOFTMAX_ONE,
    UNARY_OPERATORS,
    code_table,
    softmax_ratio,
    softmax_table,
    unary_function,
)

POINTS = [-7.5, -3.0, -1.5, -1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0, 1.5, 2.5, 3.0, 6.5]
ATTRIBUTES = {
    "Celu": {"alpha": 0.7},
    "Elu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.3},
    "Selu": {"alpha": 1.5, "gamma": 1.1},
    "Swish": {"alpha": 1.2},
    "ThresholdedRelu": {"alpha": 0.6},
}
POSITIVE = {"Log", "Sqrt", "Reciprocal"}


def _evaluate(op_type, values, constants=(), attributes=None):
    names = ["x", *(f"c{i}" for i in range(len(constants)))]
    node = onnx.helper.make_node(op_type, names, ["y"], **(attributes or {}))
    opset = 24 if op_type == "Swish" else 22
    infos = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [len(values)])]
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [len(values)])
    initializers = [
        onnx.numpy_helper.from_array(np.float32(value), f"c{i}")
        for i, value in enumerate(constants)
    ]
    graph = onnx.helper.make_graph([node], "g", infos, [out], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, {"x": np.array(values, np.float32)})[0]


@pytest.mark.parametrize("op_type", sorted(UNARY_OPERATORS - {"Clip", "Gelu"}))
@pytest.mark.parametrize("given", [False, True])
def test_unary_functions_are_those_of_onnx(op_type, given):
    attributes = ATTRIBUTES.get(op_type, {}) if given else {}
    points = [x for x in POINTS if x > 0] if op_type in POSITIVE else POINTS
    expected = _evaluate(op_type, points, attributes=attributes)
    exact = {name: float(np.float32(value)) for name, value in attributes.items()}
    actual = [unary_function(op_type, exact)(float(np.float32(x))) for x in points]
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)


def test_clip_and_gelu():
    clip = unary_function("Clip", {"min": -1.0, "max": 2.0})
    assert [clip(x) for x in (-3.0, 0.5, 9.0)] == [-1.0, 0.5, 2.0]
    assert unary_function("Clip", {"max": 2.0})(-1e9) == -1e9
    for mode in ("none", "tanh"):
        expected = _evaluate("Gelu", POINTS, attributes={"approximate": mode})
        function = unary_function("Gelu", {"tanh": float(mode == "tanh")})
        np.testing.assert_allclose([function(x) for x in POINTS], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op_type", sorted(BINARY_FUNCTIONS))
def test_functions_of_two_numbers_are_those_of_onnx(op_type):
    expected = _evaluate(op_type, POINTS, [2.0])
    function = BINARY_FUNCTIONS[op_type]
    np.testing.assert_allclose([function(x, 2.0) for x in POINTS], expected, rtol=1e-6)


def test_code_table_saturates_rounds_to_even_and_bounds():
    source = ActivationQuantization(np.float32(1), 0)
    target = ActivationQuantization(np.float32(2), 10, lo=-100, hi=20)
    table = code_table(lambda x: x, source, target)
    assert table[128 + np.array([-128, -3, -1, 0, 1, 3, 5, 127])].tolist() == [
        -54,
        8,
        10,
        10,
        10,
        12,
        12,
        20,
    ]
    assert code_table(lambda x: math.nan, source, target).tolist() == [-100] * 256
    assert code_table(math.exp, ActivationQuantization(np.float32(1e4), 0), target)[255] == 20
    reciprocal = code_table(unary_function("Reciprocal", {}), source, target)
    assert reciprocal[128] == 20
    assert code_table(unary_function("Log", {}), source, target)[127] == -100


def test_softmax_table_is_fixed_point():
    table = softmax_table(np.float32(0.1))
    assert table.dtype == np.uint32
    assert table[0] == SOFTMAX_ONE
    assert (np.diff(table.astype(np.int64)) <= 0).all()
    step = float(np.float32(0.1))
    assert abs(int(table[10]) - SOFTMAX_ONE * math.exp(-10 * step)) <= 0.5
    assert softmax_ratio(np.float32(1 / 256)) == 1 << 24
