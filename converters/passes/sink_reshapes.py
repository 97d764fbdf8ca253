"""SinkReshapes: moves a Squeeze or Reshape behind what it does not matter to, away from the layer before it."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    bypass,
    constant,
    new_name,
    only_consumer,
    replace,
)
from edgekit.converters.tables import UNARY_OPERATORS


class SinkReshapes(GraphPass):
    """Moves a Squeeze or Reshape behind what it does not matter to, away from the layer before it.

    So clamps stand behind the layer whose range they bound, and layers over images of height 1 follow each other
    without a detour over sequences.

    Rules, for constant axes, counted from the front, and constant targets:
        ``Unsqueeze(Squeeze(x, a), a) -> x``;
        ``F(Squeeze(x, a)) -> Squeeze(F(x), a)``, F elementwise of one tensor, the Squeeze used by F alone;
        ``F(Reshape(x, t)) -> Reshape(F(x), t)`` likewise.
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
        if after is None or after.domain or after.op_type not in UNARY_OPERATORS:
            return None
        if after.inputs[0] is not squeezed or len(after.outputs) != 1:
            return None
        moved = ir.node(
            after.op_type, [source, *after.inputs[1:]], dict(after.attributes), name=after.name
        )
        value = moved.outputs[0]
        value.name = new_name(graph, f"{after.outputs[0].name}_before")
        value.dtype, value.shape = source.dtype or ir.DataType.FLOAT, source.shape
        sunk = ir.node(node.op_type, [value, node.inputs[1]], dict(node.attributes), name=node.name)
        replace(graph, after, moved, sunk)
        graph.remove(node, safe=True)
        return f"moved behind '{after.name}'"


def _axes(value: ir.Value | None) -> tuple[int, ...] | None:
    """Returns constant axes that are counted from the front, sorted."""
    array = constant(value)
    if array is None:
        return None
    axes = tuple(sorted(int(axis) for axis in array.reshape(-1)))
    return axes if axes and axes[0] >= 0 else None
