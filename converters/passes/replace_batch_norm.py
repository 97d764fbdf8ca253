"""ReplaceBatchNorm: makes a layer of what scales and shifts channels and could not be folded into one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.affine import affine_of
from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, replace, skip


class ReplaceBatchNorm(GraphPass):
    """Makes a layer of what scales and shifts channels and could not be folded into one.

    Rules, for x of rank 4 with a known number of channels C, f and s from the node as in FoldBatchNorm:
        ``BatchNormalization(x), Mul(x, c), Div(x, c), Add(x, c), Sub(x, c) -> Conv(x, f, s)``, 1x1 with C groups,
        where c has one element a channel and C > 1.
    """

    ops = frozenset({"BatchNormalization", "Mul", "Div", "Add", "Sub"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by a depthwise convolution."""
        found = affine_of(node)
        if isinstance(found, str):
            return skip(node, found) if node.op_type == "BatchNormalization" else None
        source, affine = found
        if source.shape is None or source.shape.rank() != 4 or not isinstance(source.shape[1], int):
            return skip(node, "its input is not known to have rank 4 and its channels")
        channels = source.shape[1]
        if affine.factor.size == 1 and channels > 1:
            return skip(node, "its constant is the same for all channels: a table does it")
        if source.dtype is None:
            return skip(node, "the type of its input is not known")
        dtype = source.dtype.numpy()
        factor = np.broadcast_to(affine.factor, channels).astype(dtype).reshape(-1, 1, 1, 1)
        weight = add_initializer(graph, f"{node.outputs[0].name}_factor", factor)
        shift = np.broadcast_to(affine.shift, channels).astype(dtype)
        bias = add_initializer(graph, f"{node.outputs[0].name}_shift", shift)
        attributes: dict[str, int | list[int]] = {
            "group": channels,
            "kernel_shape": [1, 1],
            "pads": [0] * 4,
        }
        replace(graph, node, ir.node("Conv", [source, weight, bias], attributes, name=node.name))
        return "became a depthwise Conv of 1x1"
