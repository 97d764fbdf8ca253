"""FactorSum: adds 1 to a gate instead of a tensor to its gated self."""

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
)


class FactorSum(GraphPass):
    """Adds 1 to a gate instead of a tensor to its gated self.

    ``x + x * s = x * (s + 1)``: one pass over x instead of two, and no rounding between them.

    Rules, where s is smaller than x (a factor for each channel, say) and nothing else uses the product:
        ``Add(x, Mul(x, s)) -> Mul(x, Add(s, 1))``, the operands of both in any order.
    """

    ops = frozenset({"Add"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` and the product that it reads."""
        for index in (0, 1):
            x, product = node.inputs[index], node.inputs[1 - index]
            gate = _gate(x, product, node)
            if x is None or product is None or gate is None:
                continue
            one = add_initializer(graph, f"{node.outputs[0].name}_one", np.array(1, np.float32))
            factor = ir.node("Add", [gate, one], name=f"{node.name}/gate")
            output = factor.outputs[0]
            output.name = new_name(graph, f"{node.outputs[0].name}_gate")
            output.dtype, output.shape = ir.DataType.FLOAT, gate.shape
            replace(graph, node, factor, ir.node("Mul", [x, output], name=node.name))
            maker = product.producer()
            assert maker is not None
            graph.remove(maker, safe=True)
            return f"took '{maker.name}' in as a factor"
        return None


def _gate(x: ir.Value | None, product: ir.Value | None, node: ir.Node) -> ir.Value | None:
    """Returns s where ``product`` is ``x * s``, of no use besides ``node``, and s is smaller than x."""
    maker = None if product is None else product.producer()
    if x is None or product is None or maker is None or maker.op_type != "Mul" or maker.domain:
        return None
    if only_consumer(product) is not node or x not in maker.inputs or x.dtype != ir.DataType.FLOAT:
        return None
    gate = maker.inputs[1 if maker.inputs[0] is x else 0]
    if gate is None or gate is x or constant(gate) is not None:
        return None
    if x.shape is None or gate.shape is None or gate.dtype != ir.DataType.FLOAT:
        return None
    sizes = list(x.shape), list(gate.shape)
    smaller = len(sizes[1]) == len(sizes[0]) and all(
        b in (1, a) for a, b in zip(*sizes, strict=True)
    )
    return gate if smaller and sizes[0] != sizes[1] else None
