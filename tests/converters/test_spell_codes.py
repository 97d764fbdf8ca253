"""Codes at the border of a model with several scales, or computed ones, are arithmetic, as ONNX Runtime's is."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_own_operators import open_natively

from edgekit.converters.read_model import read_model
from edgekit.targets.errors import ModelError


def write(path, op_type, inputs, outputs, constants, **attributes):
    names = [name for name, *_ in inputs] + list(constants)
    node = helper.make_node(op_type, names, [name for name, *_ in outputs], "codes", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def check(path, x):
    session, _ = open_natively(path)
    theirs = onnxruntime.InferenceSession(path)
    names = [value.name for value in theirs.get_outputs()]
    given = session.run({"x": x})
    for name, wanted in zip(names, theirs.run(names, {"x": x}), strict=True):
        assert given[name].dtype == wanted.dtype
        np.testing.assert_array_equal(given[name], wanted)


SCALES = {
    "s": np.float32([0.01, 0.02, 0.5]),
    "z": np.uint8([0, 128, 255]),
}
SHAPE = [2, 3, 4, 5]


@pytest.mark.parametrize("axis", [1, -3])
def test_a_scale_for_each_channel(tmp_path, axis):
    random = np.random.default_rng(0)
    path = write(
        tmp_path / "q.onnx",
        "QuantizeLinear",
        [("x", TensorProto.FLOAT, SHAPE)],
        [("y", TensorProto.UINT8, SHAPE)],
        SCALES,
        axis=axis,
    )
    check(path, random.normal(0, 3, SHAPE).astype(np.float32))
    path = write(
        tmp_path / "d.onnx",
        "DequantizeLinear",
        [("x", TensorProto.UINT8, SHAPE)],
        [("y", TensorProto.FLOAT, SHAPE)],
        SCALES,
        axis=axis,
    )
    check(path, random.integers(0, 256, SHAPE).astype(np.uint8))


@pytest.mark.parametrize("offset", [-5, 0, 5])
def test_codes_and_grid_of_a_tensor_as_it_comes(tmp_path, offset):
    path = write(
        tmp_path / "dynamic.onnx",
        "DynamicQuantizeLinear",
        [("x", TensorProto.FLOAT, [3, 7])],
        [
            ("y", TensorProto.UINT8, [3, 7]),
            ("s", TensorProto.FLOAT, []),
            ("z", TensorProto.UINT8, []),
        ],
        {},
    )
    x = np.random.default_rng(1).normal(offset, 1, (3, 7)).astype(np.float32)
    check(path, x)


def test_other_types_are_named(tmp_path):
    path = write(
        tmp_path / "q.onnx",
        "QuantizeLinear",
        [("x", TensorProto.FLOAT, SHAPE)],
        [("y", TensorProto.INT8, SHAPE)],
        {"s": SCALES["s"], "z": np.int8([0, 1, 2])},
    )
    with pytest.raises(ModelError, match=r"node 'codes' \(QuantizeLinear\) has 3 scales"):
        read_model(path)
