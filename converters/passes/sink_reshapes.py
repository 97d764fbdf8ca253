"""SinkReshapes: moves a Squeeze or Reshape behind what it does not matter to, away from the layer before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    bypass,
    constant,
    new_name,
    only_consumer,
    replace,
)
from edgekit.converters.tables import UNARY_OPERATORS

_BINARY = frozenset({"Add", "Sub", "Mul", "Div"})
# What takes a factor and a shift for each channel into its weights (`FoldBatchNorm`).
_LAYERS = frozenset({"Conv", "ConvTranspose"})


class SinkReshapes(GraphPass):
    """Moves a Squeeze or Reshape behind what it does not matter to, away from the layer before it.

    So clamps stand behind the layer whose range they bound, and layers over images of height 1 follow each other
    without a detour over sequences.

    Rules, for constant axes, counted from the front, and constant targets:
        ``Unsqueeze(Squeeze(x, a), a) -> x``;
        ``F(Squeeze(x, a)) -> Squeeze(F(x), a)``, F elementwise of one tensor, the Squeeze used by F alone;
        ``F(Reshape(x, t)) -> Reshape(F(x), t)`` likewise;
        ``B(Squeeze(x, a), c) -> Squeeze(B(x, Unsqueeze(c, a)), a)``, B Add, Sub, Mul or Div, c constant, in any
        order, x what a Conv or ConvTranspose makes: it may then go into its weights.
    """

    ops = frozenset({"Squeeze", "Reshape"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Moves or removes ``node``."""
        source, squeezed = node.inputs[0], node.outputs[0]
        if source is None or source.shape is None or squeezed.is_graph_output():
            return None
        if len(node.inputs) < 2 or constant(node.inputs[1]) is None:
            return None
        axes = None if node.op_type == "Reshape" else _axes(node.inputs[1])
        if node.op_type == "Squeeze" and axes is None:
            return None
        for use in tuple(squeezed.uses()):
            reader = use.node
            undoes = reader.op_type == "Unsqueeze" and not reader.domain
            if (
                undoes
                and axes is not None
                and _axes(reader.inputs[1]) == axes
                and bypass(graph, reader, source)
            ):
                return f"undone by '{reader.name}'"
        after = only_consumer(squeezed)
        if after is None or after.domain or len(after.outputs) != 1:
            return None
        if after.op_type in UNARY_OPERATORS and after.inputs[0] is squeezed:
            inputs = [source, *after.inputs[1:]]
        elif after.op_type in _BINARY and axes is not None:
            found = _widen_operands(graph, after, squeezed, source, axes)
            if found is None:
                return None
            inputs = found
        else:
            return None
        moved = ir.node(after.op_type, inputs, dict(after.attributes), name=after.name)
        value = moved.outputs[0]
        value.name = new_name(graph, f"{after.outputs[0].name}_before")
        value.dtype, value.shape = source.dtype or ir.DataType.FLOAT, source.shape
        sunk = ir.node(node.op_type, [value, node.inputs[1]], dict(node.attributes), name=node.name)
        replace(graph, after, moved, sunk)
        graph.remove(node, safe=True)
        return f"moved behind '{after.name}'"


def _widen_operands(
    graph: ir.Graph, node: ir.Node, squeezed: ir.Value, source: ir.Value, axes: tuple[int, ...]
) -> list[ir.Value | None] | None:
    """Returns what ``node`` takes before the Squeeze; None where its other operand is none that a layer may take."""
    layer = source.producer()
    if layer is None or layer.domain or layer.op_type not in _LAYERS:
        return None
    place = 1 if node.inputs[0] is squeezed else 0
    array, other = constant(node.inputs[place]), node.inputs[place]
    assert source.shape is not None
    rank = source.shape.rank() - len(axes)
    if array is None or other is None or array.ndim > rank:
        return None
    if array.size > 1:
        wide = np.expand_dims(array.reshape((1,) * (rank - array.ndim) + array.shape), axes)
        other = add_initializer(graph, f"{other.name}_wide", wide)
    return [source, other] if place else [other, source]


def _axes(value: ir.Value | None) -> tuple[int, ...] | None:
    """Returns constant axes that are counted from the front, sorted."""
    array = constant(value)
    if array is None:
        return None
    axes = tuple(sorted(int(axis) for axis in array.reshape(-1)))
    return axes if axes and axes[0] >= 0 else None
