"""Brings a file to an opset that an older engine reads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.targets.errors import ModelError

# Scales for each channel.
_LEAST = 13
_FIRST_HARD_SWISH = 14
_FIRST_GELU = 20
# In which Reduce operators read their axes from an input.
_FIRST_AXES_INPUT = 18


def lower_opset(proto: onnx.ModelProto, most: int) -> None:
    """Gives ``proto`` the newest opset up to ``most`` in which every node is what it is.

    Operators that are younger are written in older ones where that gives the same function: HardSwish, Gelu, and the
    axes of a reduction. A node is the same in both opsets where its operator's definition has the inputs, outputs and
    attributes that it uses: the checker with strict inference says so.

    Raises:
        ModelError: A node is newer, or is written in another way in the older opset.
    """
    found = next(entry for entry in proto.opset_import if entry.domain == "")
    was = found.version
    if was <= most:
        return
    _unfold(proto.graph, most)
    error: Exception | None = None
    for version in range(most, _LEAST - 1, -1):
        found.version = version
        try:
            onnx.checker.check_model(proto, full_check=True)
        except Exception as problem:  # The checker's and inference's classes share no base.
            error = error or problem
        else:
            return
    found.version = was
    raise ModelError(
        f"{_name_newest(proto, most)}the engine reads opset {most} at most, the model has {was}: {error}"
    )


def _unfold(graph: onnx.GraphProto, most: int) -> None:
    """Writes nodes that are younger than opset ``most`` in older operators."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "HardSwish" and most < _FIRST_HARD_SWISH:
            graph.node.extend(_unfold_hard_swish(node))
        elif node.op_type == "Gelu" and most < _FIRST_GELU and not node.attribute:
            graph.node.extend(_unfold_gelu(node, graph))
        else:
            if node.op_type.startswith("Reduce") and most < _FIRST_AXES_INPUT:
                _move_axes(node, constants.get)
            graph.node.append(node)


def _unfold_hard_swish(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Returns ``x * HardSigmoid(x, 1/6, 1/2)``."""
    gate = f"{node.output[0]}:gate"
    return [
        helper.make_node(
            "HardSigmoid", node.input, [gate], name=f"{node.name}:gate", alpha=1 / 6, beta=0.5
        ),
        helper.make_node("Mul", [node.input[0], gate], node.output, name=node.name),
    ]


def _unfold_gelu(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Returns ``x * (0.5 * (1 + Erf(x / sqrt(2))))``."""
    name, source = node.output[0], node.input[0]
    numbers = {"root": math.sqrt(0.5), "one": 1.0, "half": 0.5}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(number, np.float32), f"{name}:{label}")
        for label, number in numbers.items()
    )
    steps = (
        ("Mul", [source, f"{name}:root"], "scaled"),
        ("Erf", [f"{name}:scaled"], "erf"),
        ("Add", [f"{name}:erf", f"{name}:one"], "sum"),
        ("Mul", [f"{name}:sum", f"{name}:half"], "gate"),
    )
    nodes = [
        helper.make_node(kind, inputs, [f"{name}:{label}"], name=f"{node.name}:{label}")
        for kind, inputs, label in steps
    ]
    return [
        *nodes,
        helper.make_node("Mul", [source, f"{name}:gate"], node.output, name=node.name),
    ]


def _move_axes(node: onnx.NodeProto, constant: Callable[[str], onnx.TensorProto | None]) -> None:
    """Moves constant axes from the second input of a reduction to its attribute; ReduceSum always had the input."""
    if node.op_type == "ReduceSum" or len(node.input) < 2:
        return
    axes = constant(node.input[1])
    if axes is None or any(
        attribute.name == "noop_with_empty_axes" for attribute in node.attribute
    ):
        return
    del node.input[1:]
    node.attribute.append(helper.make_attribute("axes", numpy_helper.to_array(axes).tolist()))


def _name_newest(proto: onnx.ModelProto, most: int) -> str:
    """Returns a name for the first node whose operator is younger than opset ``most``."""
    for node in proto.graph.node:
        if not node.domain and not onnx.defs.has(node.op_type, most):
            return f"node {node.name!r} ({node.op_type}) is too new: "
    return ""
