"""FuseMatMulAdd: makes one Gemm of a matrix product and its bias."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    constant,
    only_consumer,
    replace,
    skip,
)


class FuseMatMulAdd(GraphPass):
    """Makes one Gemm of a matrix product and its bias.

    Rules, for x of rank 2 and constant B [K, N]:
        ``Add(MatMul(x, B), c) -> Gemm(x, B, c)``, c constant of N elements in its last dimension, either order.
    """

    ops = frozenset({"MatMul"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the Add behind ``node`` by a Gemm."""
        source, weight = node.inputs
        matrix = constant(weight)
        if source is None or source.shape is None or source.shape.rank() != 2:
            return skip(node, "its input does not have rank 2")
        if matrix is None or matrix.ndim != 2:
            return skip(node, "its second input is not a constant matrix")
        add = only_consumer(node.outputs[0])
        if add is None or add.op_type != "Add" or add.domain:
            return None
        bias = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        vector = constant(bias)
        columns = matrix.shape[1]
        if bias is None or vector is None or vector.size != columns or vector.shape[-1] != columns:
            return skip(node, "what is added is not a constant with one element a column")
        if vector.ndim > 2:
            return skip(node, "what is added makes the rank larger")
        if vector.ndim == 2:
            bias = add_initializer(graph, f"{bias.name}_flat", vector.reshape(-1))
        replace(graph, add, ir.node("Gemm", [source, weight, bias], name=node.name))
        graph.remove(node, safe=True)
        return f"became Gemm with the bias of '{add.name}'"
