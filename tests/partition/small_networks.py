"""Small quantized networks to cut, some of them random."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx

CHANNELS = 4
SHAPE = (1, CHANNELS, 8, 8)


def random_network(steps: list[tuple[str, int, int]], seed: int) -> onnx.ModelProto:
    """Returns a network of images, each step an operator on earlier values, which branch and join as they like.

    Args:
        steps: Operator, and two numbers that choose what it reads.
        seed: Of the weights.
    """
    random = np.random.default_rng(seed)
    values, nodes, weights = ["x"], [], []

    def weigh(name: str, shape: tuple[int, ...]) -> str:
        array = random.normal(0, 0.4, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(array, name))
        return name

    for index, (kind, first, second) in enumerate(steps):
        a, b, y = values[first % len(values)], values[second % len(values)], f"v{index}"
        name = {"name": f"n{index}"}
        if kind == "conv":
            w = weigh(f"w{index}", (CHANNELS, CHANNELS, 3, 3))
            nodes.append(helper.make_node("Conv", [a, w], [y], pads=[1, 1, 1, 1], **name))
        elif kind == "depthwise":
            w = weigh(f"w{index}", (CHANNELS, 1, 3, 3))
            nodes.append(
                helper.make_node("Conv", [a, w], [y], pads=[1, 1, 1, 1], group=CHANNELS, **name)
            )
        elif kind == "add":
            nodes.append(helper.make_node("Add", [a, b], [y], **name))
        elif kind == "concat":
            w = weigh(f"w{index}", (CHANNELS, 2 * CHANNELS, 1, 1))
            nodes.append(helper.make_node("Concat", [a, b], [f"{y}c"], f"{name['name']}c", axis=1))
            nodes.append(helper.make_node("Conv", [f"{y}c", w], [y], **name))
        elif kind == "pool":
            nodes.append(
                helper.make_node(
                    "MaxPool", [a], [y], kernel_shape=[3, 3], pads=[1, 1, 1, 1], **name
                )
            )
        else:
            nodes.append(helper.make_node(kind, [a], [y], **name))
        values.append(y)
    read = {name for node in nodes for name in node.input}
    ends = [name for name in values[1:] if name not in read]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ["x", *ends]]
    graph = helper.make_graph(nodes, "random", info[:1], info[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


KINDS = ("conv", "depthwise", "add", "concat", "pool", "Relu", "Sigmoid", "HardSwish")


def lower_network(model: onnx.ModelProto, path: Any, images: np.ndarray) -> Program:
    """Returns the program of a network that was calibrated on ``images``, one by one."""
    onnx.save(model, path)
    graph = read_onnx(path)
    simplify(graph)
    name = graph.graph.inputs[0].name
    learned = calibrate(graph, [{name: image[None]} for image in images])
    return lower(quantize(graph, learned), 1)
