"""ReplaceVariadic: makes operators of two of a sum, maximum or minimum of many."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    new_name,
    replace,
    skip,
)

_OF_TWO = {"Sum": "Add", "Mean": "Add", "Max": "Max", "Min": "Min"}


class ReplaceVariadic(GraphPass):
    """Makes operators of two of one of many.

    Rules:
        ``Sum(a, b, c, ...) -> Add(Add(a, b), c) ...``, from left to right; Max and Min likewise;
        ``Mean(a, b, ...) -> Mul(Add(a, b) ..., 1 / n)`` for float32;
        ``Sum(a), Mean(a), Max(a), Min(a) -> Identity(a)``.
    """

    ops = frozenset(_OF_TWO)

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by a chain."""
        values = [value for value in node.inputs if value is not None]
        operator = _OF_TWO[node.op_type]
        if len(values) == 1:
            replace(graph, node, ir.node("Identity", values, name=node.name))
            return "became Identity"
        if len(values) == 2 and operator == node.op_type:
            return None
        if any(value.shape is None for value in values):
            return skip(node, "the shape of an operand is not known")
        element = node.outputs[0].dtype or ir.DataType.FLOAT
        mean = node.op_type == "Mean"
        if mean and element != ir.DataType.FLOAT:
            return skip(node, f"it averages {element}")
        chain: list[ir.Node] = []
        total = values[0]
        for index, value in enumerate(values[1:], start=1):
            last = index == len(values) - 1 and not mean
            name = node.name if last else f"{node.name}/{index}"
            step = ir.node(operator, [total, value], name=name)
            chain.append(step)
            total = step.outputs[0]
            if not last:
                total.name = new_name(graph, f"{node.outputs[0].name}_{index}")
                total.dtype = element
        if mean:
            share = add_initializer(
                graph, f"{node.name}/share", np.array(1 / len(values), np.float32)
            )
            chain.append(ir.node("Mul", [total, share], name=node.name))
        replace(graph, node, *chain)
        return f"became {len(chain)} operators of two"
