"""ResolveAutoPad: writes out the padding that ``auto_pad`` stands for."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, skip


class ResolveAutoPad(GraphPass):
    """Writes out the padding that ``auto_pad`` stands for.

    Rules, for Conv, MaxPool and AveragePool:
        ``VALID -> pads = 0``;
        ``SAME_UPPER, SAME_LOWER -> pads`` such that ``out = ceil(in / stride)``, the odd one at the end or at the
        begin. The size of the input must be known, unless the stride is 1.
    """

    ops = frozenset({"Conv", "MaxPool", "AveragePool"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``auto_pad`` of ``node`` by ``pads``."""
        mode = node.attributes.get("auto_pad")
        if mode is None:
            return None
        kernel = _kernel_shape(node)
        source = node.inputs[0]
        if kernel is None or source is None:
            return skip(node, "the size of its kernel is not known")
        rank = len(kernel)
        pads = [0] * (2 * rank)
        if mode.as_string() == "NOTSET":
            own = node.attributes.get("pads")
            pads = list(own.as_ints()) if own is not None else pads
        elif mode.as_string() != "VALID":
            strides, dilations = (_ints(node, name, rank) for name in ("strides", "dilations"))
            dims = None if source.shape is None else source.shape[2:]
            for i in range(rank):
                extent = (kernel[i] - 1) * dilations[i] + 1
                size = None if dims is None else dims[i]
                if strides[i] == 1:
                    total = extent - 1
                elif isinstance(size, int):
                    total = max(0, (-(-size // strides[i]) - 1) * strides[i] + extent - size)
                else:
                    return skip(node, "the size of its input is not known")
                small, large = total // 2, total - total // 2
                upper = mode.as_string() == "SAME_UPPER"
                pads[i], pads[rank + i] = (small, large) if upper else (large, small)
        node.attributes.pop("auto_pad")
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        return f"{mode.as_string()} became pads {pads}"


def _ints(node: ir.Node, name: str, rank: int) -> list[int]:
    found = node.attributes.get(name)
    return [1] * rank if found is None else list(found.as_ints())


def _kernel_shape(node: ir.Node) -> list[int] | None:
    found = node.attributes.get("kernel_shape")
    if found is not None:
        return list(found.as_ints())
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or weight.shape is None or not weight.shape.is_static():
        return None
    return list(weight.shape.numpy()[2:])
