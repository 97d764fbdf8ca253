"""Open dimensions get numbers, or an error says which number is missing or wrong."""

import onnx
import pytest

from edgekit.converters.fix_shapes import fix_shapes, open_inputs, parse_shape
from edgekit.converters.read_onnx import read_onnx
from edgekit.targets.errors import ModelError


def read(tmp_path, text):
    onnx.save(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'),
        tmp_path / "net.onnx",
    )
    return read_onnx(tmp_path / "net.onnx")


TWO = "net (float[N, 3, H, W] x, float[N, C, H, 1] z) => (float[N, 3, H, W] y) { y = Mul (x, z) }"


def test_names_are_bound_in_all_inputs(tmp_path):
    model = read(tmp_path, TWO)
    assert [value.name for value in open_inputs(model)] == ["x", "z"]
    fix_shapes(model, {"x": (2, 3, 8, 9), "z": (2, 1, 8, 1)})
    assert not open_inputs(model)
    assert list(model.graph.outputs[0].shape) == [2, 3, 8, 9]


def test_none_leaves_a_dimension_open(tmp_path):
    model = read(tmp_path, TWO)
    fix_shapes(model, {"x": (None, 3, 8, 9)})
    assert [str(dim) for dim in model.graph.inputs[1].shape] == ["N", "C", "8", "1"]
    assert [str(dim) for dim in model.graph.outputs[0].shape] == ["N", "3", "8", "9"]


def test_one_question_mark_may_be_two_sizes(tmp_path):
    model = read(tmp_path, "net (float[N, 3, A, A] x) => (float[B] y) { y = Relu (x) }")
    proto = onnx.load(tmp_path / "net.onnx")
    for axis, text in ((0, ""), (2, "?"), (3, "?")):
        dim = proto.graph.input[0].type.tensor_type.shape.dim[axis]
        dim.dim_param = text
        if not text:
            dim.dim_value = -1
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    )
    onnx.save(proto, tmp_path / "net.onnx")
    model = read_onnx(tmp_path / "net.onnx")
    fix_shapes(model, {"x": (1, 3, 48, 192)})
    assert list(model.graph.outputs[0].shape) == [1, 3, 48, 192]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (1,)}, "no input 'q'"),
        ({"x": (1, 3, 8)}, "4 dimensions, not 3"),
        ({"x": (1, 4, 8, 8)}, "dimension 1 of input 'x' is 3"),
        ({"x": (1, 3, 0, 8)}, "empty"),
        ({"x": (1, 3, 8, 8), "z": (1, 1, 9, 1)}, "'H' cannot be both 8 and 9"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, shapes, message):
    with pytest.raises(ModelError, match=message):
        fix_shapes(read(tmp_path, TWO), shapes)


@pytest.mark.parametrize("text", ["", "x", "x=", "x=1,", "=1,2", "x=1,a", "x=-1"])
def test_shapes_are_read_strictly(text):
    assert parse_shape("a=b=1, 2") == ("a=b", (1, 2))
    with pytest.raises(ModelError, match="NAME="):
        parse_shape(text)
