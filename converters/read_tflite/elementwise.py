"""Elementwise operators, softmax and reductions of a TensorFlow Lite file as ONNX nodes."""

from __future__ import annotations

import numpy as np

from edgekit.converters.read_tflite.network import Layout, Network
from edgekit.converters.read_tflite.records import FLOAT_TYPES, Operator, Tensor
from edgekit.converters.read_tflite.windows import activate

BINARY = {
    "ADD": "Add",
    "DIV": "Div",
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "MUL": "Mul",
    "POW": "Pow",
    "SUB": "Sub",
}
# One node without attributes.
UNARY = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
_CLIPS = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}
# What an extremum with changes nothing.
_IDLE_BOUNDS = {"MAXIMUM": -np.inf, "MINIMUM": np.inf}
REDUCTIONS = {
    "MEAN": "ReduceMean",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
    "SUM": "ReduceSum",
}


def read_binary(network: Network, operator: Operator) -> None:
    """ADD and its like, with the activation that is fused into it."""
    y = network.output(operator)
    for index in range(2):
        bound = network.constant(operator, index)
        if bound is not None and bound.size == 1 and bound == _IDLE_BOUNDS.get(operator.code):
            network.alias(y, network.tensor(operator, 1 - index))
            return
    names, layout = join(network, operator, 2)
    name = network.give(y, layout)
    if not network.option(operator, "FusedActivationFunction"):
        network.add(BINARY[operator.code], names, name)
        return
    linear = network.new_name(f"{name}:linear")
    network.add(BINARY[operator.code], names, linear, node=name)
    activate(network, operator, linear, y, name)


def read_select(network: Network, operator: Operator) -> None:
    """SELECT_V2, and SELECT of equal shapes."""
    shapes = {network.tensor(operator, index).shape for index in range(3)}
    if operator.code == "SELECT" and len(shapes) > 1:
        network.refuse(operator, f"it chooses among the shapes {sorted(map(list, shapes))}")
    names, layout = join(network, operator, 3)
    network.add("Where", names, network.give(network.output(operator), layout))


def read_squared_difference(network: Network, operator: Operator) -> None:
    """SQUARED_DIFFERENCE: a difference, times itself."""
    y = network.output(operator)
    names, layout = join(network, operator, 2)
    difference = network.add("Sub", names, network.new_name(f"{y.name}:difference"))
    network.add("Mul", [difference, difference], network.give(y, layout))


def read_unary(network: Network, operator: Operator) -> None:
    """ABS and its like."""
    x, layout = _operand(network, operator)
    network.add(UNARY[operator.code], [x], network.give(network.output(operator), layout))


def read_clip(network: Network, operator: Operator) -> None:
    """RELU6 and its like."""
    y = network.output(operator)
    x, layout = _operand(network, operator)
    bounds = [
        network.add_constant(f"{y.name}:{end}", np.array(bound, np.float32))
        for end, bound in zip(("low", "high"), _CLIPS[operator.code], strict=True)
    ]
    network.add("Clip", [x, *bounds], network.give(y, layout))


def read_leaky_relu(network: Network, operator: Operator) -> None:
    """LEAKY_RELU."""
    x, layout = _operand(network, operator)
    alpha = float(operator.options.get("Alpha", 0.0))
    network.add("LeakyRelu", [x], network.give(network.output(operator), layout), alpha=alpha)


def read_gelu(network: Network, operator: Operator) -> None:
    """GELU, exact or by tanh."""
    x, layout = _operand(network, operator)
    how = "tanh" if operator.options.get("Approximate") else "none"
    network.add("Gelu", [x], network.give(network.output(operator), layout), approximate=how)


def read_rsqrt(network: Network, operator: Operator) -> None:
    """RSQRT: one over the square root."""
    y = network.output(operator)
    x, layout = _operand(network, operator)
    root = network.add("Sqrt", [x], network.new_name(f"{y.name}:root"))
    network.add("Reciprocal", [root], network.give(y, layout))


def read_square(network: Network, operator: Operator) -> None:
    """SQUARE."""
    x, layout = _operand(network, operator)
    network.add("Mul", [x, x], network.give(network.output(operator), layout))


def read_prelu(network: Network, operator: Operator) -> None:
    """PRELU; its slopes spread over the last dimensions."""
    names, layout = join(network, operator, 2)
    network.add("PRelu", names, network.give(network.output(operator), layout))


def read_softmax(network: Network, operator: Operator) -> None:
    """SOFTMAX and LOG_SOFTMAX over the last dimension, with SOFTMAX's factor beta."""
    x, y = network.tensor(operator, 0), network.output(operator)
    image = network.is_image(x)
    layout = Layout.IMAGE if image else Layout.FILE
    source = network.get(x, layout)
    beta = float(operator.options.get("Beta", 1.0)) if operator.code == "SOFTMAX" else 1.0
    if beta != 1.0:
        factor = network.add_constant(f"{y.name}:beta", np.array(beta, np.float32))
        source = network.add("Mul", [source, factor], network.new_name(f"{y.name}:scaled"))
    op = "Softmax" if operator.code == "SOFTMAX" else "LogSoftmax"
    network.add(op, [source], network.give(y, layout), axis=1 if image else -1)


def read_reduction(network: Network, operator: Operator) -> None:
    """MEAN and its like over constant dimensions; the mean of whole images is a pool."""
    x, y = network.tensor(operator, 0), network.output(operator)
    rank = len(x.shape)
    axes = sorted({axis % rank for axis in network.integers(operator, 1) if rank})
    keeps = bool(network.option(operator, "KeepDims"))
    image = network.is_image(x)
    if operator.code == "MEAN" and rank == 4 and axes == [1, 2]:
        source = network.get(x, Layout.IMAGE)
        if keeps:
            network.add("GlobalAveragePool", [source], network.give(y, Layout.IMAGE))
            return
        pooled = network.add("GlobalAveragePool", [source], network.new_name(f"{y.name}:pooled"))
        network.copy_record(y, pooled)
        network.add("Flatten", [pooled], network.give(y))
        return
    layout = Layout.IMAGE if image and keeps else Layout.FILE
    if layout is Layout.IMAGE:
        axes = sorted((0, 2, 3, 1)[axis] for axis in axes)
    places = network.add_constant(f"{y.name}:axes", np.array(axes, np.int64))
    network.add(
        REDUCTIONS[operator.code],
        [network.get(x, layout), places],
        network.give(y, layout),
        keepdims=int(keeps),
    )


def join(network: Network, operator: Operator, count: int) -> tuple[list[str], Layout]:
    """Returns the first ``count`` inputs in one layout, so that they spread over each other as in the file.

    The layout is that of images where a computed one is held so.
    """
    tensors = [network.tensor(operator, index) for index in range(count)]
    rank = max(len(tensor.shape) for tensor in tensors)
    images = rank == 4 and any(network.is_image(tensor) for tensor in tensors)
    if not images:
        return [network.get(tensor) for tensor in tensors], Layout.FILE
    return [_as_image(network, tensor) for tensor in tensors], Layout.IMAGE


def _as_image(network: Network, tensor: Tensor) -> str:
    """Returns ``tensor`` with its channels second, with leading dimensions of 1 where it has fewer than 4."""
    if len(tensor.shape) == 4 or network.is_constant(tensor):
        return network.get(tensor, Layout.IMAGE)
    if not tensor.shape:
        return network.get(tensor)
    name = network.get(tensor)
    axes = network.add_constant(
        f"{tensor.name}:axes", np.arange(4 - len(tensor.shape), dtype=np.int64)
    )
    wide = network.add("Unsqueeze", [name, axes], network.new_name(f"{tensor.name}:wide"))
    network.copy_record(tensor, wide)
    image = network.add(
        "Transpose", [wide], network.new_name(f"{tensor.name}:image"), perm=[0, 3, 1, 2]
    )
    network.copy_record(tensor, image)
    return image


def _operand(network: Network, operator: Operator) -> tuple[str, Layout]:
    """Returns the first input in the layout that it has."""
    x = network.tensor(operator, 0)
    if x.type not in FLOAT_TYPES and x.grid is None:
        network.refuse(operator, f"its input is of type {x.type}, which is not supported")
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    return network.get(x, layout), layout
