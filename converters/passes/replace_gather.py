"""ReplaceGather: makes a Gather at constant places side by side a Slice, which engines have a kernel for."""

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

    Rules, for x of known rank and size along the axis, of whole numbers only where it has at least two
    dimensions (others are sizes, which other passes follow):
        ``Gather(x, i) -> Squeeze(Slice(x, i, i + 1))``, i a scalar;
        ``Gather(x, [i, i + 1, ...]) -> Slice(x, i, ...)``;
        ``Gather(x, [[i, i + 1, ...]]) -> Reshape(Slice(x, i, ...))``, x of known shape, the places of any rank.
    """

    ops = frozenset({"Gather"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node``."""
        source, places = node.inputs[0], constant(node.inputs[1])
        if source is None or source.dtype is None or constant(source) is not None:
            return None
        rank = None if source.shape is None else source.shape.rank()
        is_size = source.dtype not in (ir.DataType.FLOAT, ir.DataType.BOOL)
        if is_size and (rank is None or rank < 2):
            return None
        if places is None or places.size == 0:
            return skip(node, "its places are computed")
        if rank is None or source.shape is None:
            return skip(node, "the rank of its input is not known")
        axis = attribute(node, "axis", 0) % rank
        size = source.shape[axis]
        if not isinstance(size, int) or (places.ndim > 1 and not source.shape.is_static()):
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
        label = node.name if places.ndim == 1 else f"{node.name}/Slice"
        cut = ir.node("Slice", [source, *bounds], name=label)
        if places.ndim == 1:
            replace(graph, node, cut)
            return "became Slice"
        value = cut.outputs[0]
        value.name = new_name(graph, f"{name}_sliced")
        value.dtype = source.dtype
        value.shape = ir.Shape(count if i == axis else dim for i, dim in enumerate(source.shape))
        if places.ndim == 0:
            replace(graph, node, cut, ir.node("Squeeze", [value, bounds[2]], name=node.name))
            return "became Slice and Squeeze"
        sizes = [int(dim) for dim in source.shape.numpy()]
        shape = np.array([*sizes[:axis], *places.shape, *sizes[axis + 1 :]], np.int64)
        target = add_initializer(graph, f"{name}_shape", shape)
        replace(graph, node, cut, ir.node("Reshape", [value, target], name=node.name))
        return "became Slice and Reshape"
