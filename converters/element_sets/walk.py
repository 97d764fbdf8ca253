"""Walks a graph and says where each element of its values goes: the part that is the same whatever variables mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.converters.element_sets.variables import Ids, Variables
from edgekit.converters.passes.rewrite import attribute, constant

# Elements that a Reshape may move; more are pinned.
_MOST = 1 << 24


class ElementWalk:
    """One walk over a graph, in its order, which gives each element of each value a variable.

    An array of variables broadcasts to its value's shape: along a dimension of size 1 all elements have the same one.
    Operators that only move elements, or pick some of them, are known here, ``move``; a subclass says in ``apply``
    what the others mean, and gives results behind a node's first one theirs. What no rule knows is pinned, and so are
    the graph's inputs and outputs.

    Attributes:
        variables: The variables and which of them are one.
        values: Variables of each value.
    """

    def __init__(self, model: ir.Model) -> None:
        self.variables = Variables()
        self.values: dict[ir.Value, Ids] = {}
        for value in model.graph.inputs:
            self.set(value, no_variables(value))
        for node in model.graph:
            self._visit(node)
        for value in model.graph.outputs:
            self.variables.pin(self.get(value))

    def apply(self, node: ir.Node) -> Ids | None:
        """Returns the variables of the first result of ``node``, None where no rule fits."""
        raise NotImplementedError

    def move(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """Returns the variables of the result of an operator that moves elements of ``source``, None for others."""
        rule = _MOVES.get(node.op_type)
        if rule is None or rank_of(source) is None or constant(source) is not None:
            return None
        return rule(self, node, source)

    def get(self, value: ir.Value) -> Ids:
        """Returns the variables of ``value``; pinned ones where it has none."""
        return self.values.get(value, no_variables(value))

    def set(self, value: ir.Value, ids: Ids) -> None:
        """Gives ``value`` its variables."""
        self.values[value] = ids

    def _visit(self, node: ir.Node) -> None:
        """Gives the results of ``node`` variables; pins all it reads where no rule fits."""
        for value in node.outputs[1:]:
            self.set(value, no_variables(value))
        ids = None if node.domain or _has_graphs(node) else self.apply(node)
        if ids is None:
            self.pin_all(node)
            return
        output = node.outputs[0]
        if rank_of(output) != ids.ndim and (output.uses() or output.is_graph_output()):
            self.variables.pin(ids)
            ids = no_variables(output)
        self.set(output, ids)

    def pin_all(self, node: ir.Node) -> None:
        """Pins whatever ``node`` reads and writes."""
        graphs = [
            a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH
        ]
        inner = [value for graph in graphs for each in graph.all_nodes() for value in each.inputs]
        outer = [value for graph in graphs for value in graph.outputs]
        for value in (*node.inputs, *inner, *outer):
            if value is not None and value in self.values:
                self.variables.pin(self.get(value))
        for value in node.outputs:
            self.set(value, no_variables(value))

    def _pool(self, node: ir.Node, source: ir.Value) -> Ids | None:
        if node.outputs[1:] and any(value.uses() for value in node.outputs[1:]):
            return None
        ids = self.get(source)
        return self.variables.collapse(ids, tuple(range(2, ids.ndim)))

    def _reduce(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if given is None:
            return None
        axes = tuple(sorted({int(axis) % ids.ndim for axis in given.reshape(-1)}))
        ids = self.variables.collapse(ids, axes)
        return ids if attribute(node, "keepdims", 1) else ids.squeeze(axes)

    def _resize(self, node: ir.Node, source: ir.Value) -> Ids | None:
        mode = node.attributes.get("coordinate_transformation_mode")
        if mode is not None and mode.as_string() == "tf_crop_and_resize":
            return None
        return self.collapse_changed(node, source)

    def collapse_changed(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """Joins variables along the dimensions whose size is another in the result."""
        ids, after = self.get(source), node.outputs[0].shape
        if source.shape is None or after is None or after.rank() != ids.ndim:
            return None
        changed = (a for a in range(ids.ndim) if source.shape[a] != after[a])
        return self.variables.collapse(ids, tuple(changed))

    def _pad(self, node: ir.Node, source: ir.Value) -> Ids | None:
        mode = node.attributes.get("mode")
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if len(node.inputs) > 2 and node.inputs[2] is not None and fill is None:
            return None
        constant_mode = mode is None or mode.as_string() == "constant"
        if constant_mode and fill is not None and np.any(fill != 0):
            return None
        return self.collapse_changed(node, source)

    def _transpose(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        found = node.attributes.get("perm")
        return ids.transpose(None if found is None else list(found.as_ints()))

    def _reshape(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        before, after = sizes_of(source), sizes_of(node.outputs[0])
        if not before or not after:
            return None
        # Leading dimensions that stay, and along which nothing varies, may be open.
        for axis in range(min(len(before), len(after))):
            if before[axis] != after[axis] or ids.shape[axis] != 1:
                break
            before[axis] = after[axis] = 1
        whole = [size for size in before if isinstance(size, int)]
        target = [size for size in after if isinstance(size, int)]
        if len(whole) < len(before) or len(target) < len(after):
            # Which elements lie where hangs on an open size; one variable for all is moved by any shape.
            if ids.size == 1:
                return ids.reshape((1,) * len(after))
            return None
        size = int(np.prod(whole))
        if size > _MOST or size != int(np.prod(target)) or not size:
            return None
        return _shrink(np.broadcast_to(ids, whole).reshape(target))

    def _concat(self, node: ir.Node, source: ir.Value) -> Ids | None:
        rank = rank_of(source) or 0
        axis = node.attributes["axis"].as_int() % rank
        parts = []
        for value in node.inputs:
            if value is None or constant(value) is not None or rank_of(value) != rank:
                return None
            ids, size = self.get(value), sizes_of(value)[axis]
            if not isinstance(size, int):
                return None
            shape = list(ids.shape)
            shape[axis] = size
            parts.append(np.broadcast_to(ids, shape))
        others = [(*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts]
        rest = list(np.broadcast_shapes(*others))
        wide = []
        for part in parts:
            shape = [*rest]
            shape[axis] = part.shape[axis]
            wide.append(np.broadcast_to(part, shape))
        return _shrink(np.concatenate(wide, axis))

    def _slice(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        given = [None if value is None else constant(value) for value in node.inputs[1:]]
        if any(v is not None and a is None for v, a in zip(node.inputs[1:], given, strict=True)):
            return None
        lists = [None if array is None else [int(x) for x in array.reshape(-1)] for array in given]
        starts, ends, axes, steps = (*lists, None, None)[:4]
        if starts is None or ends is None:
            return None
        places = range(len(starts)) if axes is None else axes
        strides = [1] * len(starts) if steps is None else steps
        cut = [slice(None)] * ids.ndim
        for place, start, end, step in zip(places, starts, ends, strides, strict=True):
            if ids.shape[place] > 1:
                cut[place] = slice(
                    start, None if step < 0 and end < -ids.shape[place] else end, step
                )
        return ids[tuple(cut)]

    def _gather(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids, indices = self.get(source), constant(node.inputs[1])
        if indices is None:
            return None
        axis = attribute(node, "axis", 0) % ids.ndim
        if ids.shape[axis] > 1:
            return np.take(ids, indices.astype(np.int64), axis)
        shape = (*ids.shape[:axis], *[1] * indices.ndim, *ids.shape[axis + 1 :])
        return ids.reshape(shape)

    def _expand(self, node: ir.Node, source: ir.Value) -> Ids | None:
        rank = rank_of(node.outputs[0])
        return None if rank is None else raise_rank(self.get(source), rank)


_Rule = Callable[[ElementWalk, ir.Node, ir.Value], Ids | None]
_MOVES: dict[str, _Rule] = {
    **dict.fromkeys(
        ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), ElementWalk._pool
    ),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), ElementWalk._reduce),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), ElementWalk._reshape),
    "Concat": ElementWalk._concat,
    "Expand": ElementWalk._expand,
    "Gather": ElementWalk._gather,
    "Pad": ElementWalk._pad,
    "Resize": ElementWalk._resize,
    "Slice": ElementWalk._slice,
    "Transpose": ElementWalk._transpose,
}


def _has_graphs(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(found.type in kinds for found in node.attributes.values())


def rank_of(value: ir.Value) -> int | None:
    """Returns the number of dimensions, None where it is not known."""
    return None if value.shape is None else value.shape.rank()


def sizes_of(value: ir.Value) -> list[int | str]:
    """Returns the dimensions, the names of open ones; those without a name are unlike any other."""
    if value.shape is None:
        return []
    return [
        dim if isinstance(dim, int) else (str(dim.value) if dim.value else f"{value.name}:{axis}")
        for axis, dim in enumerate(value.shape)
    ]


def no_variables(value: ir.Value) -> Ids:
    """Returns pinned variables for all elements of ``value``."""
    return np.zeros((1,) * (rank_of(value) or 0), np.int64)


def along(ids: Ids, axis: int, rank: int) -> Ids:
    """Returns ``ids`` [n] as they lie along one of ``rank`` dimensions."""
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)


def raise_rank(ids: Ids, rank: int) -> Ids:
    """Returns ``ids`` with dimensions of size 1 before its own."""
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def _shrink(ids: Ids) -> Ids:
    """Returns ``ids`` with each dimension of size 1 along which nothing varies."""
    for axis in range(ids.ndim):
        first = np.take(ids, [0], axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids
