"""ReplaceSplit: makes a Slice of each part of a Split, so that each is known by itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    attribute,
    constant,
    skip,
)


class ReplaceSplit(GraphPass):
    """Makes a Slice of each part of a Split, so that each is known by itself.

    Rules, for a float x whose size along the axis is known, and constant sizes of the parts:
        ``Split(x) -> Slice(x), Slice(x), ...``.
    """

    ops = frozenset({"Split"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by one node an output."""
        source = node.inputs[0]
        if source is None or source.dtype != ir.DataType.FLOAT or constant(source) is not None:
            return None
        if source.shape is None:
            return skip(node, "the rank of its input is not known")
        axis = attribute(node, "axis", 0) % source.shape.rank()
        whole = source.shape[axis]
        if not isinstance(whole, int):
            return skip(node, "the size of its axis is not known")
        sizes = _sizes(node, whole)
        if sizes is None:
            return skip(node, "the sizes of its parts are computed")
        begin = 0
        for index, (part, size) in enumerate(zip(node.outputs, sizes, strict=True)):
            bounds = [
                add_initializer(graph, f"{part.name}_{name}", np.array([number], np.int64))
                for name, number in (("starts", begin), ("ends", begin + size), ("axes", axis))
            ]
            cut = ir.node("Slice", [source, *bounds], name=f"{node.name}/{index}")
            graph.insert_before(node, cut)
            value = cut.outputs[0]
            value.dtype, value.shape = source.dtype, part.shape
            part.replace_all_uses_with(value, replace_graph_outputs=True)
            value.name, part.name = part.name, None
            begin += size
        graph.remove(node, safe=True)
        return f"became {len(sizes)} Slice"


def _sizes(node: ir.Node, whole: int) -> list[int] | None:
    """Returns the sizes of the parts: given, or equal but for the last."""
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = constant(node.inputs[1])
        return None if given is None else [int(size) for size in given.reshape(-1)]
    count = len(node.outputs)
    size = -(-whole // count)
    return [min(size, whole - index * size) for index in range(count)]
