"""FoldPad: lets the convolution do the padding before it."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, constant, only_consumer, skip


class FoldPad(GraphPass):
    """Lets the convolution do the padding before it.

    Rules:
        ``Conv(Pad(x, 0, p), pads=q) -> Conv(x, pads=p + q)`` where Pad is constant, by zeros, of spatial
        dimensions only, not negative, and has no other user.
    """

    ops = frozenset({"Pad"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Folds ``node`` into the Conv that uses it."""
        layer = only_consumer(node.outputs[0])
        source, amounts = node.inputs[0], constant(node.inputs[1])
        if (
            layer is None
            or layer.op_type != "Conv"
            or layer.domain
            or layer.inputs[0] is not node.outputs[0]
        ):
            return skip(node, "its only user is not a Conv")
        mode = node.attributes.get("mode")
        if (
            source is None
            or amounts is None
            or (mode is not None and mode.as_string() != "constant")
        ):
            return skip(node, "it is not a constant padding")
        fill = node.inputs[2] if len(node.inputs) > 2 else None
        value = constant(fill)
        if fill is not None and (value is None or value.any()):
            return skip(node, "it does not pad with zeros")
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return skip(node, "it has axes")
        pads = [int(amount) for amount in amounts]
        rank = len(pads) // 2
        if any(pads[:2]) or any(pads[rank : rank + 2]) or min(pads) < 0:
            return skip(node, "it pads batch or channels, or crops")
        auto_pad = layer.attributes.get("auto_pad")
        if auto_pad is not None and auto_pad.as_string() not in ("NOTSET", "VALID"):
            return skip(node, f"'{layer.name}' has {auto_pad.as_string()} padding of its own")
        spatial = pads[2:rank] + pads[rank + 2 :]
        own = layer.attributes.get("pads")
        before = list(own.as_ints()) if own is not None else [0] * len(spatial)
        layer.attributes.pop("auto_pad", None)
        layer.attributes["pads"] = ir.AttrInt64s(
            "pads", [p + q for p, q in zip(before, spatial, strict=True)]
        )
        layer.replace_input_with(0, source)
        graph.remove(node, safe=True)
        return f"folded into '{layer.name}'"
