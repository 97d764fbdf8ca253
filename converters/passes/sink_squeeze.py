"""SinkSqueeze: moves a Squeeze behind what it does not matter to, until it meets an Unsqueeze that undoes it."""

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


class SinkSqueeze(GraphPass):
    """Moves a Squeeze behind what it does not matter to, until it meets an Unsqueeze that undoes it.

    So layers over images of height 1 follow each other without a detour over sequences.

    Rules, for constant axes, counted from the front:
        ``Unsqueeze(Squeeze(x, a), a) -> x``;
        ``F(Squeeze(x, a)) -> Squeeze(F(x), a)``, F elementwise of one tensor, the Squeeze used by F alone.
    """

    ops = frozenset({"Squeeze"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Moves or removes ``node``."""
        source, squeezed = node.inputs[0], node.outputs[0]
        axes = None if len(node.inputs) < 2 else _axes(node.inputs[1])
        if source is None or source.shape is None or axes is None:
            return None
        if squeezed.is_graph_output():
            return None
        for use in tuple(squeezed.uses()):
            reader = use.node
            undoes = reader.op_type == "Unsqueeze" and not reader.domain
            if undoes and _axes(reader.inputs[1]) == axes and bypass(graph, reader, source):
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
        value.name = new_name(graph, f"{after.outputs[0].name}_unsqueezed")
        value.dtype, value.shape = source.dtype, source.shape
        replace(graph, after, moved, ir.node("Squeeze", [value, node.inputs[1]], name=node.name))
        graph.remove(node, safe=True)
        return f"moved behind '{after.name}'"


def _axes(value: ir.Value | None) -> tuple[int, ...] | None:
    """Returns constant axes that are counted from the front, sorted."""
    array = constant(value)
    if array is None:
        return None
    axes = tuple(sorted(int(axis) for axis in array.reshape(-1)))
    return axes if axes and axes[0] >= 0 else None
