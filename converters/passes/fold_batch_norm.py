"""FoldBatchNorm: scales and shifts the weights of the layer before instead of its output."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.affine import affine_of, fold_into, layer_obstacle
from edgekit.converters.passes.rewrite import GraphPass, Skip, bypass, only_consumer, skip


class FoldBatchNorm(GraphPass):
    """Scales and shifts the weights of the layer before instead of its output.

    ``a`` is ``gamma / sqrt(var + epsilon)``, or the constant, for each channel, in float64.

    Rules, where L is Conv, ConvTranspose or Gemm with constant weights and nothing else uses its output:
        ``BatchNormalization(L(x, W, b)) -> L(x, a * W, a * (b - mean) + beta)``;
        ``Mul(L(x, W, b), a) -> L(x, a * W, a * b)``, and Div likewise;
        ``Add(L(x, W, b), c) -> L(x, W, b + c)``, and Sub likewise, c a constant for each channel.
    """

    ops = frozenset({"BatchNormalization", "Mul", "Div", "Add", "Sub"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Folds ``node`` into its producer."""
        found = affine_of(node)
        if isinstance(found, str):
            return skip(node, found) if node.op_type == "BatchNormalization" else None
        source, affine = found
        layer = source.producer()
        reason = layer_obstacle(layer)
        if layer is None or reason is not None:
            return skip(node, reason or "nothing comes before it")
        if only_consumer(source) is not node:
            return skip(node, f"the output of '{layer.name}' has other users")
        fold_into(graph, layer, affine)
        if not bypass(graph, node, source):
            raise ir.passes.PassError(
                f"the output of '{layer.name}' cannot replace that of '{node.name}'"
            )
        return f"folded into '{layer.name}'"
