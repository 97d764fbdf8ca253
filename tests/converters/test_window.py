"""Windows against what ONNX Runtime makes of the same attributes."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.program import Window
from edgekit.converters.window import read_window


def _node(**attributes):
    return ir.node("MaxPool", [None], attributes=attributes)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_sizes_are_those_of_onnxruntime(data):
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = (list(data.draw(pair)) for _ in range(3))
    height, width = data.draw(st.tuples(st.integers(7, 14), st.integers(7, 14)))
    attributes = {"strides": stride, "dilations": dilation}
    mode = data.draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [data.draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
        attributes["ceil_mode"] = data.draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = mode
        if mode != "VALID":  # with SAME, ONNX Runtime refuses dilations and windows that leave gaps
            attributes["dilations"] = dilation = [1, 1]
            attributes["strides"] = stride = list(map(min, stride, kernel))
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, **attributes)
    image = np.random.default_rng(0).normal(0, 1, (1, 1, height, width)).astype(np.float32)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [info("x", onnx.TensorProto.FLOAT, image.shape)],
        [info("y", onnx.TensorProto.FLOAT, [1, 1, None, None])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": image})[0]
    window = read_window(_node(**attributes), kernel, height, width)
    assert window.output_size(height, width) == expected.shape[2:]
    padded = np.pad(
        image[0, 0],
        ((window.pad_top, window.pad_bottom), (window.pad_left, window.pad_right)),
        constant_values=-np.inf,
    )
    for i, j in np.ndindex(expected.shape[2:]):
        rows = i * stride[0] + dilation[0] * np.arange(kernel[0])
        columns = j * stride[1] + dilation[1] * np.arange(kernel[1])
        assert padded[np.ix_(rows, columns)].max() == expected[0, 0, i, j]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"strides": [1]}, r"strides \[1\] are not two"),
        ({"dilations": [0, 1]}, r"dilations \[0, 1\]"),
        ({"pads": [0, 0, -1, 0]}, "pads"),
        ({"auto_pad": "SAME"}, "not an ONNX mode"),
        ({"strides": [1, 2**40]}, "from 1 to 65535"),
        ({"pads": [0, 2**40, 0, 0]}, "from 0 to 65535"),
    ],
)
def test_bad_attributes_are_named(attributes, reason):
    with pytest.raises(ValueError, match=reason):
        read_window(_node(**attributes), (3, 3), 8, 8)


def test_a_window_that_does_not_fit_gives_nothing():
    assert Window(kernel_h=5, kernel_w=1).output_size(3, 4) == (0, 4)
