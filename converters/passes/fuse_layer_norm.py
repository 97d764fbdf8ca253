"""FuseLayerNorm: makes a layer normalization that is written out one operator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    attribute,
    constant,
    only_consumer,
    replace,
)


class FuseLayerNorm(GraphPass):
    """Makes a layer normalization that is written out one operator.

    With ``d = x - ReduceMean(x)`` and ``v = ReduceMean(d * d)``, the means over the last dimension, keeping it.

    Rules:
        ``d / Sqrt(v + epsilon) * scale + bias -> LayerNormalization(x, scale, bias)``, d * d as Mul or Pow, scale and
        bias constant vectors of the last dimension, either or both missing;
        the same with ``d * Reciprocal(Sqrt(v + epsilon))``, the factors either way around.
    """

    ops = frozenset({"Div", "Mul"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` and the scale and the bias behind it."""
        found = _match(node)
        if found is None:
            return None
        source, epsilon, size = found
        last = node
        scale, bias = np.ones(size, np.float32), None
        after, vector = _vector_behind(last, "Mul", size)
        if after is not None and vector is not None:
            last, scale = after, vector
        after, vector = _vector_behind(last, "Add", size)
        if after is not None and vector is not None:
            last, bias = after, vector
        name = last.outputs[0].name
        inputs = [source, add_initializer(graph, f"{name}_scale", scale)]
        if bias is not None:
            inputs.append(add_initializer(graph, f"{name}_bias", bias))
        norm = ir.node(
            "LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon}, name=node.name
        )
        replace(graph, last, norm)
        return "became LayerNormalization"


def _match(node: ir.Node) -> tuple[ir.Value, float, int] | None:
    """Returns x, epsilon and the size of the last dimension where ``node`` is ``d / Sqrt(v + epsilon)``."""
    if node.op_type == "Div":
        return _match_parts(_maker(node.inputs[0], "Sub"), _maker(node.inputs[1], "Sqrt"))
    for difference, factor in (node.inputs, reversed(node.inputs)):
        inverse = _maker(factor, "Reciprocal")
        if inverse is not None:
            return _match_parts(_maker(difference, "Sub"), _maker(inverse.inputs[0], "Sqrt"))
    return None


def _match_parts(
    centred: ir.Node | None, root: ir.Node | None
) -> tuple[ir.Value, float, int] | None:
    """Returns the same of ``d`` and ``Sqrt(v + epsilon)``."""
    total = None if root is None else _maker(root.inputs[0], "Add")
    if centred is None or total is None:
        return None
    source, mean = centred.inputs
    if source is None or _mean_of(mean) is not source or source.dtype != ir.DataType.FLOAT:
        return None
    for variance, number in (total.inputs, reversed(total.inputs)):
        epsilon = constant(number)
        square = _mean_of(variance)
        if epsilon is None or epsilon.size != 1 or square is None:
            continue
        if not _is_square(square, centred.outputs[0]) or source.shape is None:
            continue
        size = source.shape[-1]
        if isinstance(size, int):
            return source, float(np.asarray(epsilon, np.float64).reshape(())), size
    return None


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and not node.domain else None


def _mean_of(value: ir.Value | None) -> ir.Value | None:
    """Returns what ``value`` is the mean of, over the last dimension."""
    node = _maker(value, "ReduceMean")
    if node is None or not attribute(node, "keepdims", 1) or len(node.inputs) < 2:
        return None
    source, axes = node.inputs[0], constant(node.inputs[1])
    if source is None or source.shape is None or axes is None:
        return None
    last = source.shape.rank() - 1
    return source if [int(axis) for axis in axes.reshape(-1)] in ([-1], [last]) else None


def _is_square(value: ir.Value, base: ir.Value) -> bool:
    node = _maker(value, "Mul")
    if node is not None:
        return node.inputs[0] is base and node.inputs[1] is base
    node = _maker(value, "Pow")
    power = None if node is None else constant(node.inputs[1])
    return (
        node is not None
        and node.inputs[0] is base
        and power is not None
        and power.size == 1
        and float(np.asarray(power, np.float64).reshape(())) == 2.0
    )


def _vector_behind(
    node: ir.Node, op_type: str, size: int
) -> tuple[ir.Node | None, npt.NDArray[np.float32] | None]:
    """Returns the node behind ``node`` that applies a constant vector, and the vector."""
    after = only_consumer(node.outputs[0])
    if after is None or after.op_type != op_type or after.domain:
        return None, None
    other = after.inputs[1 if after.inputs[0] is node.outputs[0] else 0]
    array = constant(other)
    if array is None or array.dtype != np.float32 or array.size not in (1, size):
        return None, None
    if array.size == size and array.shape[-1:] != (size,):
        return None, None
    if array.ndim > (node.outputs[0].shape.rank() if node.outputs[0].shape is not None else 1):
        return None, None
    return after, np.array(np.broadcast_to(array.reshape(-1), (size,)), np.float32)
