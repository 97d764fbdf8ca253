"""FuseMatMulAdd: makes one Gemm of a matrix product and its bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    constant,
    new_name,
    only_consumer,
    replace,
    skip,
)


class FuseMatMulAdd(GraphPass):
    """Makes one Gemm of a matrix product and its bias.

    Rules, for constant B [K, N] and c constant of N elements in its last dimension, the operands of Add in any order:
        ``Add(MatMul(x, B), c) -> Gemm(x, B, c)`` for x of rank 2;
        ``Add(MatMul(x, B), c) -> Reshape(Gemm(Reshape(x, [-1, K]), B, c))`` for x of larger rank, whose dimensions
        between the first and the last are known.
    """

    ops = frozenset({"MatMul"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the Add behind ``node`` by a Gemm."""
        source, weight = node.inputs
        matrix = constant(weight)
        rank = 0 if source is None or source.shape is None else source.shape.rank()
        if source is None or source.shape is None or rank < 2:
            return skip(node, "its input is not known to have rows")
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
        if vector.ndim > rank:
            return skip(node, "what is added makes the rank larger")
        between = list(source.shape[1:-1])
        if not all(isinstance(dim, int) for dim in between):
            return skip(node, "a dimension of its input is open")
        if vector.ndim > 1:
            bias = add_initializer(graph, f"{bias.name}_flat", vector.reshape(-1))
        if rank == 2:
            known = dict(node.metadata_props)
            gemm = ir.node("Gemm", [source, weight, bias], name=node.name, metadata_props=known)
            replace(graph, add, gemm)
        else:
            _replace_by_rows(graph, node, add, bias, [-1, *between, columns])
        graph.remove(node, safe=True)
        return f"became Gemm with the bias of '{add.name}'"


def _replace_by_rows(
    graph: ir.Graph, node: ir.Node, add: ir.Node, bias: ir.Value, target: list[int | ir.SymbolicDim]
) -> None:
    """Puts a Gemm over all rows, between reshapes, in the place of ``add``."""
    source, weight = node.inputs
    assert weight is not None
    assert weight.shape is not None
    depth, columns = weight.shape
    name = add.outputs[0].name

    def reshape(value: ir.Value | None, shape: list[int | ir.SymbolicDim], part: str) -> ir.Node:
        numbers = add_initializer(graph, f"{name}_{part}", np.array(shape, np.int64))
        return ir.node("Reshape", [value, numbers], name=f"{node.name}/{part}")

    rows = reshape(source, [-1, depth], "rows")
    known = dict(node.metadata_props)
    gemm = ir.node("Gemm", [rows.outputs[0], weight, bias], name=node.name, metadata_props=known)
    for made, width, part in ((rows, depth, "rows"), (gemm, columns, "product")):
        value = made.outputs[0]
        value.name = new_name(graph, f"{name}_{part}")
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape([None, width])
    replace(graph, add, rows, gemm, reshape(gemm.outputs[0], target, "whole"))
