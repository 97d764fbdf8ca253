"""SimplifyReshape: makes the target of a Reshape a constant, whatever the exporter computed it from."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, constant, skip


class SimplifyReshape(GraphPass):
    """Makes the target of a Reshape a constant, whatever the exporter computed it from.

    Rules:
        ``Reshape(x, computed) -> Reshape(x, constant)`` where shape inference knows the result but for at most one
        dimension, which becomes -1.
    """

    ops = frozenset({"Reshape"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the second input of ``node``."""
        if constant(node.inputs[1]) is not None:
            return None
        shape = node.outputs[0].shape
        if shape is None:
            return skip(node, "the rank of its result is not known")
        target = [dim if isinstance(dim, int) else -1 for dim in shape]
        if target.count(-1) > 1 or 0 in target:
            return skip(node, f"its result {shape} has more than one unknown dimension")
        name = f"{node.outputs[0].name}_shape"
        node.replace_input_with(1, add_initializer(graph, name, np.array(target, np.int64)))
        return f"its target became the constant {target}"
