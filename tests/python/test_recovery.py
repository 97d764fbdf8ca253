"""`deploy(recover=...)`: a hostile network keeps its answers, every form has the same numbers, and it is all told."""

from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from float_networks import FloatNet, images

import edgekit
from edgekit.choosing.goal import WANTED_SNR_DB
from edgekit.choosing.recovery import choose_enough
from edgekit.converters.passes import simplify
from edgekit.converters.recover.cost import count_multiplications
from edgekit.targets.errors import EdgekitError
from hostile import make_channels_hostile


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A file whose channels lie apart, and samples."""
    net = FloatNet(0)
    for kind in ("Relu", "Relu", "Clip"):
        net.values.append(net.active(net.conv(net.values[-1], 8), kind))
    model = net.build()
    make_channels_hostile(model, kind="spread", seed=4, apart=1000.0)
    path = tmp_path_factory.mktemp("hostile") / "net.onnx"
    ir.save(model, path)
    return path, [{"x": image[None]} for image in images(24)]


@pytest.fixture(scope="module")
def recovered(hostile, tmp_path_factory):
    path, samples = hostile
    output = tmp_path_factory.mktemp("recovered") / "dist"
    return edgekit.deploy(
        path, calibration=samples, precision="int8", format=["native", "onnx"], output=output
    )


def test_recovery_brings_a_hostile_network_back(hostile, recovered, tmp_path):
    path, samples = hostile
    plain = edgekit.deploy(
        path, calibration=samples, precision="int8", recover="none", output=tmp_path / "plain"
    )
    assert plain.recovery.effects == ()
    assert recovered.report.snr_db > plain.report.snr_db + 10
    assert "equalize" in recovered.recovery.kept
    assert all(layer.name for effect in recovered.recovery.effects for layer in effect.layers)
    assert any(note.startswith("equalize: ") for note in recovered.report.notes)


def test_forms_of_a_recovered_network_have_the_same_numbers(recovered):
    native, onnx = recovered.load(), edgekit.load(recovered.onnx)
    x = images(1, seed=77)
    (a,), (b,) = native.run({"x": x}).values(), onnx.run({"x": x}).values()
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_passes_are_applied_by_name(hostile, tmp_path):
    path, samples = hostile
    made = edgekit.deploy(
        path,
        calibration=samples,
        precision="int8",
        recover=["correct_biases", "equalize"],
        output=tmp_path / "named",
    )
    assert made.recovery.kept == ("equalize", "correct_biases")


@pytest.mark.parametrize("wrong", ["polish", ["equalize", "polish"], 3])
def test_a_pass_that_there_is_not_is_refused_before_anything_is_read(wrong, tmp_path):
    with pytest.raises(EdgekitError, match="recover"):
        edgekit.deploy(tmp_path / "none.onnx", recover=wrong, output=tmp_path / "out")


def make_layers(size, *, is_open=False):
    """Returns convolutions of a picture of ``size`` and a product, and samples."""
    side = "s" if is_open else size
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("GlobalAveragePool", ["a"], ["p"]),
            onnx.helper.make_node("Flatten", ["p"], ["f"]),
            onnx.helper.make_node("MatMul", ["f", "v"], ["y"]),
        ],
        "layers",
        [onnx.helper.make_tensor_value_info("x", kind, ["n", 4, side, side])],
        [onnx.helper.make_tensor_value_info("y", kind, ["n", 3])],
        [
            onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in (("w", (8, 4, 3, 3)), ("v", (8, 3)))
        ],
    )
    opset = [onnx.helper.make_opsetid("", 21)]
    proto = onnx.helper.make_model(graph, opset_imports=opset)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    simplify(model)
    return model, [{"x": np.zeros((1, 4, size, size), np.float32)}]


def test_multiplications_are_those_of_weights_and_places():
    model, _ = make_layers(10)
    assert count_multiplications(model) == 10 * 10 * 8 * 4 * 9 + 8 * 3
    model, _ = make_layers(10, is_open=True)
    assert count_multiplications(model) == np.inf


@pytest.mark.parametrize("is_open", [False, True])
def test_passes_are_tried_where_that_is_cheap_or_answers_are_promised(is_open):
    small, large = make_layers(16, is_open=is_open), make_layers(800, is_open=is_open)
    int8, int4 = (
        SimpleNamespace(quantize="int8", layer_formats=formats) for formats in ({}, {"a": "int4"})
    )
    assert WANTED_SNR_DB < choose_enough(*small, int8, promised=False) < np.inf
    assert choose_enough(*small, int4, promised=False) == WANTED_SNR_DB
    assert choose_enough(*large, int8, promised=False) == WANTED_SNR_DB
    assert choose_enough(*large, int4, promised=True) == np.inf
