"""ReplaceGatherND: makes a GatherND at constant places a Gather of rows, which plans and engines hold."""

from __future__ import annotations

import math

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


class ReplaceGatherND(GraphPass):
    """Makes a GatherND at constant places a Gather of rows.

    Exporters write it for an index of several tensors, as in a mask ``mask[batch, place]``.

    Rules, for x of known shape ``[d0, .., dk-1, ...]``, places ``[..., k]`` and no batch dimensions:
        ``GatherND(x, places) -> Gather(Reshape(x, [d0 * .. * dk-1, ...]), number of each place, axis 0)``.
    """

    ops = frozenset({"GatherND"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node``."""
        source, places = node.inputs[0], constant(node.inputs[1])
        if places is None or attribute(node, "batch_dims", 0):
            return skip(node, "its places are computed, or it has batch dimensions")
        if source is None or source.shape is None or not source.shape.is_static():
            return skip(node, "the shape of its input is not known")
        if source.dtype is None:
            return skip(node, "the type of its input is not known")
        shape = [int(size) for size in source.shape.numpy()]
        depth = places.shape[-1]
        sizes = np.array(shape[:depth], np.int64)
        whole = np.asarray(places, np.int64)
        whole = np.where(whole < 0, whole + sizes, whole)
        if not np.all((whole >= 0) & (whole < sizes)):
            return skip(node, "a place lies outside of its input")
        steps = [math.prod(shape[axis + 1 : depth]) for axis in range(depth)]
        rows = (whole * np.array(steps, np.int64)).sum(axis=-1)
        name = node.outputs[0].name
        target = np.array([math.prod(shape[:depth]), *shape[depth:]], np.int64)
        flat = ir.node(
            "Reshape",
            [source, add_initializer(graph, f"{name}_flat", target)],
            name=f"{node.name}/Reshape",
        )
        value = flat.outputs[0]
        value.name = new_name(graph, f"{name}_rows")
        value.dtype, value.shape = source.dtype, ir.Shape(target.tolist())
        numbers = add_initializer(graph, f"{name}_numbers", rows)
        pick = ir.node("Gather", [value, numbers], {"axis": 0}, name=node.name)
        replace(graph, node, flat, pick)
        return "became Gather"
