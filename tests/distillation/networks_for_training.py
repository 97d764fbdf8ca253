"""Small networks, and what their training sees."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import read_onnx


def write_cnn(path, seed=0):
    """Writes a CNN with a depthwise layer, a residual sum, a pool, a Resize-free head and a Softmax-free end."""
    random = np.random.default_rng(seed)
    weights = {}

    def constant(name, *shape):
        fan = max(int(np.prod(shape[1:])), 1)
        weights[name] = random.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)
        return name

    def zeros(name, count):
        weights[name] = random.normal(0, 0.1, count).astype(np.float32)
        return name

    node = helper.make_node
    nodes = [
        node(
            "Conv",
            ["image", constant("w0", 16, 1, 3, 3), zeros("b0", 16)],
            ["c0"],
            "conv0",
            pads=[1] * 4,
        ),
        node("Relu", ["c0"], ["r0"], "relu0"),
        node(
            "Conv",
            ["r0", constant("w1", 16, 1, 3, 3), zeros("b1", 16)],
            ["c1"],
            "dw",
            pads=[1] * 4,
            group=16,
        ),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", constant("w2", 16, 16, 1, 1), zeros("b2", 16)], ["c2"], "point"),
        node("Add", ["c2", "r0"], ["s"], "sum"),
        node("HardSwish", ["s"], ["h"], "swish"),
        node("MaxPool", ["h"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node(
            "Conv",
            ["p", constant("w3", 64, 16, 3, 3), zeros("b3", 64)],
            ["c3"],
            "conv3",
            pads=[1] * 4,
        ),
        node("Relu", ["c3"], ["r3"], "relu3"),
        node("GlobalAveragePool", ["r3"], ["g"], "mean"),
        node("Flatten", ["g"], ["f"], "flat"),
        node("Gemm", ["f", constant("w4", 10, 64), zeros("b4", 10)], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def write_recurrent(path, seed=0):
    """Writes an LSTM of which the last state goes through a layer of its own."""
    random = np.random.default_rng(seed)

    def constant(name, *shape):
        return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)

    tensors = [
        constant("W", 1, 32, 6),
        constant("R", 1, 32, 8),
        constant("B", 1, 64),
        constant("V", 8, 4),
        constant("c", 4),
        numpy_helper.from_array(np.array([0]), "axes"),
    ]
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "B"], ["", "last", ""], "lstm", hidden_size=8),
        helper.make_node("Squeeze", ["last", "axes"], ["state"], "squeeze"),
        helper.make_node("Gemm", ["state", "V", "c"], ["y"], "out"),
    ]
    graph = helper.make_graph(
        nodes,
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def read(path) -> ir.Model:
    """Returns a network as it is trained."""
    graph = read_onnx(path)
    simplify(graph)
    return graph


def make_images(count=48, seed=1):
    """Returns images ``[count, 1, 8, 8]``."""
    return np.random.default_rng(seed).normal(0, 1, (count, 1, 8, 8)).astype(np.float32)
