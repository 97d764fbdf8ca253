"""ReplaceReduceMean: makes the mean over height and width the operator that engines have a kernel for."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    attribute,
    constant,
    new_name,
    replace,
    skip,
)


class ReplaceReduceMean(GraphPass):
    """Makes the mean over height and width the operator that engines have a kernel for.

    Rules, for x of rank 4 and axes {2, 3}, negative or not:
        ``ReduceMean(x, keepdims=1) -> GlobalAveragePool(x)``;
        ``ReduceMean(x, keepdims=0) -> Flatten(GlobalAveragePool(x), axis=1)``.
    """

    ops = frozenset({"ReduceMean"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node``."""
        source = node.inputs[0]
        if source is None or source.shape is None or source.shape.rank() != 4:
            return skip(node, "its input is not known to have rank 4")
        axes = constant(node.inputs[1] if len(node.inputs) > 1 else None)
        if axes is None or {int(axis) % 4 for axis in axes.reshape(-1)} != {2, 3}:
            return skip(node, "it is not over height and width")
        output = node.outputs[0]
        if attribute(node, "keepdims", 1):
            replace(graph, node, ir.node("GlobalAveragePool", [source], name=node.name))
            return "became GlobalAveragePool"
        pool = ir.node("GlobalAveragePool", [source], name=f"{node.name}/GlobalAveragePool")
        pooled = pool.outputs[0]
        pooled.name = new_name(graph, f"{output.name}_pooled")
        pooled.dtype = source.dtype or ir.DataType.FLOAT
        pooled.shape = ir.Shape([*source.shape[:2], 1, 1])
        replace(graph, node, pool, ir.node("Flatten", [pooled], {"axis": 1}, name=node.name))
        return "became GlobalAveragePool and Flatten"
