"""ReplaceSum: makes sums of two of a sum of many."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, new_name, replace, skip


class ReplaceSum(GraphPass):
    """Makes sums of two of a sum of many.

    Rules:
        ``Sum(a, b, c, ...) -> Add(Add(a, b), c) ...``, from left to right;
        ``Sum(a) -> Identity(a)``.
    """

    ops = frozenset({"Sum"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by a chain."""
        values = [value for value in node.inputs if value is not None]
        if len(values) == 1:
            replace(graph, node, ir.node("Identity", values, name=node.name))
            return "became Identity"
        if any(value.shape is None for value in values):
            return skip(node, "the shape of an operand is not known")
        chain: list[ir.Node] = []
        total = values[0]
        for index, value in enumerate(values[1:], start=1):
            last = index == len(values) - 1
            name = node.name if last else f"{node.name}/{index}"
            add = ir.node("Add", [total, value], name=name)
            chain.append(add)
            total = add.outputs[0]
            if not last:
                total.name = new_name(graph, f"{node.outputs[0].name}_{index}")
                total.dtype = node.outputs[0].dtype or ir.DataType.FLOAT
        replace(graph, node, *chain)
        return f"became {len(chain)} Add"
