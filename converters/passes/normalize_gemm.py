"""NormalizeGemm: leaves of Gemm the plain layer ``x B + c``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    attribute,
    constant,
    new_name,
    skip,
)


class NormalizeGemm(GraphPass):
    """Leaves of Gemm the plain layer ``x B + c``.

    Rules, for constant B and c:
        ``Gemm(x, B, c, alpha, beta) -> Gemm(x, alpha * B, beta * c)``;
        ``Gemm(x, B, c, transA=1) -> Gemm(Transpose(x), B, c)``.
    """

    ops = frozenset({"Gemm"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Takes the factors into the weights and the transposition out."""
        names = [name for name in ("alpha", "beta", "transA") if name in node.attributes]
        if not names:
            return None
        changes = False
        for index, name in ((1, "alpha"), (2, "beta")):
            factor = node.attributes.get(name)
            value = node.inputs[index] if len(node.inputs) > index else None
            if factor is None or value is None or factor.as_float() == 1.0:
                continue
            array = constant(value)
            if array is None:
                return skip(node, f"what {name} scales is not constant")
            scaled = (array.astype(np.float64) * factor.as_float()).astype(array.dtype)
            node.replace_input_with(index, add_initializer(graph, f"{value.name}_{name}", scaled))
            node.attributes.pop(name)
            changes = True
        source = node.inputs[0]
        if attribute(node, "transA", 0) and source is not None:
            turn = ir.node("Transpose", [source], {"perm": [1, 0]}, name=f"{node.name}/Transpose")
            turned = turn.outputs[0]
            turned.name = new_name(graph, f"{source.name}_transposed")
            turned.dtype = source.dtype or ir.DataType.FLOAT
            if source.shape is not None:
                turned.shape = ir.Shape([source.shape[1], source.shape[0]])
            graph.insert_before(node, turn)
            node.replace_input_with(0, turned)
            node.attributes.pop("transA")
            changes = True
        return "took its factors into the weights, its transposition out" if changes else None
