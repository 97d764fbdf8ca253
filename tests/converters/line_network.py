"""A small network that reads lines: width and batch are open, and what it computes depends on them in every way."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 6


def write_line_network(path: Path, *, pad: str = "NOTSET", seed: int = 0) -> Path:
    """Writes a network from [N, 3, 8, W] to [N, W / 2, 6].

    A convolution, a channel attention of the mean over the image, a mean of half the size that is brought up again, a
    Reshape to a sequence whose shape is computed from the image's, a product, and a Softmax.
    """
    random = np.random.default_rng(seed)
    weights = {
        "stem.weight": random.normal(0, 0.3, (8, 3, 3, 3)),
        "gate.weight": random.normal(0, 0.4, (8, 8, 1, 1)),
        "head.weight": random.normal(0, 0.3, (32, CLASSES)),
        "head.bias": random.normal(0, 0.2, CLASSES),
        "scales": np.array([1, 1, 2, 2]),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    tensors += [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {"first": [0], "last": [3], "depth": [32]}.items()
    ]
    window = {"pads": [1, 1, 1, 1]} if pad == "NOTSET" else {"auto_pad": pad}
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "stem.weight"],
            ["stem"],
            "stem",
            strides=[2, 2],
            kernel_shape=[3, 3],
            **window,
        ),
        helper.make_node("Relu", ["stem"], ["active"], "relu"),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"], "mean"),
        helper.make_node("Conv", ["mean", "gate.weight"], ["gated"], "gate", kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["gated"], ["gate"], "sigmoid"),
        helper.make_node("Mul", ["active", "gate"], ["weighed"], "weigh"),
        helper.make_node(
            "AveragePool", ["weighed"], ["small"], "pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node(
            "Resize",
            ["small", "", "scales"],
            ["large"],
            "grow",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Add", ["weighed", "large"], ["image"], "sum"),
        helper.make_node("Shape", ["image"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "first"], ["count"], "count"),
        helper.make_node("Gather", ["shape", "last"], ["width"], "width"),
        helper.make_node("Concat", ["count", "depth", "width"], ["target"], "target", axis=0),
        helper.make_node("Reshape", ["image", "target"], ["columns"], "columns"),
        helper.make_node("Transpose", ["columns"], ["steps"], "steps", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["steps", "head.weight"], ["product"], "product"),
        helper.make_node("Add", ["product", "head.bias"], ["scores"], "head"),
        helper.make_node("Softmax", ["scores"], ["y"], "softmax", axis=2),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "T", CLASSES])
    graph = helper.make_graph(nodes, "line", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
