"""MoveSoftmaxAxis: brings the dimension of a Softmax to the end, where engines have a kernel for it."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, attribute, new_name, replace, skip


class MoveSoftmaxAxis(GraphPass):
    """Brings the dimension of a Softmax to the end, where engines have a kernel for it.

    The channels of an image stay where they are: they are last in memory.

    Rules, for x of known rank r, axis neither r - 1 nor, with r = 4, 1, and p the order that swaps axis and r - 1:
        ``Softmax(x, axis) -> Transpose(Softmax(Transpose(x, p), -1), p)``.
    """

    ops = frozenset({"Softmax"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by three nodes."""
        source = node.inputs[0]
        if source is None or source.shape is None:
            return skip(node, "the rank of its input is not known")
        rank = source.shape.rank()
        axis = attribute(node, "axis", -1) % rank
        if axis == rank - 1 or (rank == 4 and axis == 1):
            return None
        order = list(range(rank))
        order[axis], order[-1] = order[-1], order[axis]
        before = ir.node("Transpose", [source], {"perm": order}, name=f"{node.name}/before")
        middle = ir.node("Softmax", [before.outputs[0]], {"axis": -1}, name=node.name)
        for made, part in ((before, "before"), (middle, "last")):
            value = made.outputs[0]
            value.name = new_name(graph, f"{node.outputs[0].name}_{part}")
            value.dtype = source.dtype or ir.DataType.FLOAT
            value.shape = ir.Shape(source.shape[place] for place in order)
        after = ir.node(
            "Transpose", [middle.outputs[0]], {"perm": order}, name=f"{node.name}/after"
        )
        replace(graph, node, before, middle, after)
        return f"its dimension {axis} went to the end"
