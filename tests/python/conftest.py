"""A small network and data for it, which the tests of the whole way run on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit


def write_cnn(path: Path, *, batch: int | str = "N", seed: int = 0) -> Path:
    """Writes a network with every kind of layer that EfficientNet-Lite0 has: 3 x 16 x 16 to 10 classes."""
    random = np.random.default_rng(seed)
    initializers = {
        "stem.weight": random.normal(0, 0.3, (8, 3, 3, 3)),
        "depthwise.weight": random.normal(0, 0.4, (8, 1, 3, 3)),
        "expand.weight": random.normal(0, 0.4, (8, 8, 1, 1)),
        "scale": random.uniform(0.5, 1.5, 8),
        "shift": random.normal(0, 0.2, 8),
        "mean": random.normal(0, 0.1, 8),
        "variance": random.uniform(0.5, 1.5, 8),
        "head.weight": random.normal(0, 0.5, (10, 8)),
        "head.bias": random.normal(0, 0.2, 10),
        "zero": np.array(0.0),
        "six": np.array(6.0),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in initializers.items()]
    tensors += [
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array(np.array([-1, 8]), "shape"),
    ]
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    down = {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["stem"], "stem", **down),
        helper.make_node(
            "BatchNormalization", ["stem", "scale", "shift", "mean", "variance"], ["norm"], "norm"
        ),
        helper.make_node("Clip", ["norm", "zero", "six"], ["clipped"], "clip"),
        helper.make_node(
            "Conv", ["clipped", "depthwise.weight"], ["depthwise"], "depthwise", group=8, **same
        ),
        helper.make_node("Relu", ["depthwise"], ["active"], "relu"),
        helper.make_node(
            "Conv", ["active", "expand.weight"], ["expand"], "expand", kernel_shape=[1, 1]
        ),
        helper.make_node("Add", ["expand", "clipped"], ["sum"], "sum"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["pooled"], "pooled", keepdims=1),
        helper.make_node("Reshape", ["pooled", "shape"], ["features"], "features"),
        helper.make_node(
            "Gemm", ["features", "head.weight", "head.bias"], ["logits"], "head", transB=1
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])
    graph = helper.make_graph(nodes, "cnn", [image], [logits], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def make_images(count: int, seed: int = 1) -> np.ndarray:
    """Returns float32 ``[count, 3, 16, 16]`` in [-1, 1) with structure: noise on a slope."""
    random = np.random.default_rng(seed)
    slope = np.linspace(-0.5, 0.5, 16)[:, None] * random.uniform(-1, 1, (count, 3, 1, 1))
    return (slope + random.uniform(-0.5, 0.5, (count, 3, 16, 16))).astype(np.float32)


@pytest.fixture(scope="session")
def cnn(tmp_path_factory):
    """Path of a network with every kind of layer that EfficientNet-Lite0 has, symbolic batch."""
    return write_cnn(tmp_path_factory.mktemp("cnn") / "cnn.onnx")


@pytest.fixture(scope="session")
def images():
    """32 inputs of `cnn`."""
    return make_images(32)


@pytest.fixture(scope="session")
def deployment(cnn, images, tmp_path_factory):
    """`cnn` deployed to this machine in both forms."""
    return edgekit.deploy(
        cnn,
        calibration=images,
        format=("native", "onnx"),
        output=tmp_path_factory.mktemp("deployed") / "host",
    )
