"""ReplaceGather: makes a Gather at one constant place a Slice, which engines have a kernel for."""

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
    replace,
    skip,
)


class ReplaceGather(GraphPass):
    """Makes a Gather at one constant place, or at places side by side, a Slice.

    Rules, for a float x of known rank and size along the axis:
        ``Gather(x, i) -> Squeeze(Slice(x, i, i + 1))``, i a scalar;
        ``Gather(x, [i, i + 1, ...]) -> Slice(x, i, ...)``.
    """

    ops = frozenset({"Gather"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node``."""
        source, places = node.inputs[0], constant(node.inputs[1])
        if source is None or source.dtype != ir.DataType.FLOAT or constant(source) is not None:
            return None
        if places is None or places.ndim > 1 or places.size == 0:
            return skip(node, "its places are computed or more than a row")
        rank = None if source.shape is None else source.shape.rank()
        if rank is None or source.shape is None:
            return skip(node, "the rank of its input is not known")
        axis = attribute(node, "axis", 0) % rank
        size = source.shape[axis]
        if not isinstance(size, int):
            return skip(node, "the size of its axis is not known")
        picked = np.asarray(places, np.int64).reshape(-1)
        picked = np.where(picked < 0, picked + size, picked)
        first, count = int(picked[0]), len(picked)
        if not np.array_equal(picked, np.arange(first, first + count)) or first + count > size:
            return skip(node, "its places do not lie side by side")
        name = node.outputs[0].name
        bounds = [
            add_initializer(graph, f"{name}_{part}", np.array([number], np.int64))
            for part, number in (("starts", first), ("ends", first + count), ("axes", axis))
        ]
        label = node.name if places.ndim else f"{node.name}/Slice"
        cut = ir.node("Slice", [source, *bounds], name=label)
        if places.ndim:
            replace(graph, node, cut)
            return "became Slice"
        value = cut.outputs[0]
        value.name = new_name(graph, f"{name}_sliced")
        value.dtype = source.dtype
        value.shape = ir.Shape(1 if i == axis else dim for i, dim in enumerate(source.shape))
        replace(graph, node, cut, ir.node("Squeeze", [value, bounds[2]], name=node.name))
        return "became Slice and Squeeze"
