"""UnwrapSoftmax: lets a softmax over the last dimension stand without the reshapes around it."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, attribute, only_consumer, replace


class UnwrapSoftmax(GraphPass):
    """Lets a softmax over the last dimension stand without the reshapes around it.

    They come from models before opset 13, whose softmax went over all dimensions from an axis on.

    Rules:
        ``Reshape(Softmax(R(x)))`` -> ``Softmax(x)``, R a Reshape or Flatten that keeps the last dimension, the last
        Reshape restoring x's shape, the softmax over the last dimension and used by it alone.
    """

    ops = frozenset({"Softmax"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` and the Reshape behind it."""
        flat = node.inputs[0]
        before = None if flat is None else flat.producer()
        after = only_consumer(node.outputs[0])
        if flat is None or before is None or after is None:
            return None
        if before.op_type not in ("Reshape", "Flatten") or before.domain:
            return None
        if after.op_type != "Reshape" or after.domain or after.inputs[0] is not node.outputs[0]:
            return None
        source = before.inputs[0]
        shapes = [_dims(value) for value in (source, flat, after.outputs[0])]
        if source is None or not all(shapes):
            return None
        whole, rows, restored = shapes
        last = attribute(node, "axis", -1) % len(rows) == len(rows) - 1
        if not last or whole != restored or whole[-1] != rows[-1]:
            return None
        replace(graph, after, ir.node("Softmax", [source], {"axis": -1}, name=node.name))
        graph.remove(node, safe=True)
        if not flat.uses() and not flat.is_graph_output():
            graph.remove(before, safe=True)
        return "taken out of the reshapes around it"


def _dims(value: ir.Value | None) -> list[int | str]:
    """Returns the known dimensions of ``value``; none where one has neither number nor name."""
    if value is None or value.shape is None:
        return []
    dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return [dim for dim in dims if dim is not None] if None not in dims else []
