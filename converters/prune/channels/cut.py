"""Takes units of channels out of a graph, or zeroes what reads them (``Channels``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.passes.rewrite import add_initializer, attribute, constant, forget_names
from edgekit.converters.prune.channels.channels import Channels, Kept, Role, Slab

# Which input holds the sizes of the result.
_SHAPES = {"Expand": 1, "Reshape": 1, "Resize": 3}


def cut(model: ir.Model, channels: Channels, units: Collection[int]) -> None:
    """Takes ``units`` out of ``model``, in place: slices of constants, attributes, bounds, indices and shapes.

    Args:
        model: The graph that ``channels`` were found in; these do not hold for it afterwards.
        channels: What can be cut.
        units: Of ``channels.units``, such that no value is left empty.
    """
    gone = frozenset(units)
    forget_names(model.graph)
    slices: dict[tuple[ir.Node, int], list[tuple[int, Kept]]] = {}
    for slab in channels.slabs:
        kept = channels.kept(slab.ids, gone)
        if not kept.all():
            slices.setdefault((slab.node, slab.index), []).append((slab.axis, kept))
            _set_attributes(slab, kept)
    made: dict[tuple[ir.Value, tuple[tuple[int, bytes], ...]], ir.Value] = {}
    for (node, index), parts in slices.items():
        value = node.inputs[index]
        array = constant(value)
        assert value is not None
        assert array is not None
        key = value, tuple((axis, kept.tobytes()) for axis, kept in parts)
        if key not in made:
            for axis, kept in parts:
                array = np.compress(kept, array, axis)
            made[key] = add_initializer(model.graph, str(value.name), array)
        node.replace_input_with(index, made[key])
    for node in model.graph:
        _change_positions(model.graph, channels, gone, node)
    for value, ids in channels.values.items():
        if value.shape is None:
            continue
        for axis, size in enumerate(ids.shape):
            kept = channels.kept(ids, gone)
            if size > 1 and not kept.all():
                shape = list(value.shape)
                shape[axis] = int(kept.sum())
                value.shape = ir.Shape(shape)
    common.RemoveUnusedNodesPass()(model)
    forget_names(model.graph)


def zero_readers(model: ir.Model, channels: Channels, units: Collection[int]) -> None:
    """Makes the weights 0 that read ``units``, in place: what `cut` leaves answers the same."""
    gone = frozenset(units)
    forget_names(model.graph)
    for slab in channels.slabs:
        kept = channels.kept(slab.ids, gone)
        value = slab.node.inputs[slab.index]
        array = constant(value)
        if slab.role is Role.READS and not kept.all() and value is not None and array is not None:
            shape = [1] * array.ndim
            shape[slab.axis] = -1
            zeroed = np.where(kept.reshape(shape), array, np.zeros((), array.dtype))
            found = add_initializer(model.graph, str(value.name), zeroed)
            slab.node.replace_input_with(slab.index, found)
    common.RemoveUnusedNodesPass()(model)
    forget_names(model.graph)


def _set_attributes(slab: Slab, kept: Kept) -> None:
    node = slab.node
    if "hidden_size" in node.attributes and slab.index == 2 and slab.role is Role.READS:
        node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", int(kept.sum()))
    if slab.role is Role.ALONG and slab.index == 1 and node.op_type in ("Conv", "ConvTranspose"):
        groups = attribute(node, "group", 1)
        each = kept.size // groups
        node.attributes["group"] = ir.AttrInt64("group", int(kept.sum()) // each)


def _change_positions(
    graph: ir.Graph, channels: Channels, gone: frozenset[int], node: ir.Node
) -> None:
    """Moves what a node says of places along a dimension of which elements are cut."""
    source = node.inputs[0] if node.inputs else None
    if source is None or node.domain:
        return
    if node.op_type in _SHAPES:
        axis, kept = _find_cut(channels, node.outputs[0], gone)
        index = _SHAPES[node.op_type]
        sizes = constant(node.inputs[index]) if len(node.inputs) > index else None
        if kept is None or sizes is None or not sizes.size:
            return
        place = axis - len(channels.values[node.outputs[0]].shape) + sizes.size
        if place >= 0 and sizes[place] == kept.size:
            _put(graph, node, index, [*sizes[:place], kept.sum(), *sizes[place + 1 :]])
    elif node.op_type == "Slice":
        axis, kept = _find_cut(channels, source, gone)
        if kept is not None:
            _move_bounds(graph, node, axis, kept)
    elif node.op_type == "Gather":
        axis, kept = _find_cut(channels, source, gone)
        rank = len(channels.values[source].shape) if source in channels.values else 1
        indices = constant(node.inputs[1])
        if kept is None or indices is None or attribute(node, "axis", 0) % rank != axis:
            return
        wanted = indices.astype(np.int64) % kept.size
        places = np.cumsum(kept) - 1
        _put(graph, node, 1, places[wanted[kept[wanted]]])


def _find_cut(channels: Channels, value: ir.Value, gone: frozenset[int]) -> tuple[int, Kept | None]:
    """Returns the dimension of ``value`` of which elements are cut, and which stay; None where none is cut."""
    ids = channels.values.get(value)
    for axis, size in enumerate(() if ids is None else ids.shape):
        if ids is not None and size > 1:
            kept = channels.kept(ids, gone).reshape(-1)
            return axis, None if kept.all() else kept
    return 0, None


def _move_bounds(graph: ir.Graph, node: ir.Node, axis: int, kept: Kept) -> None:
    starts, ends = (constant(node.inputs[index]) for index in (1, 2))
    assert starts is not None
    assert ends is not None
    given = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    axes = np.arange(starts.size) if given is None else given
    rank = node.outputs[0].shape.rank() if node.outputs[0].shape is not None else axis + 1
    places = np.flatnonzero(axes % rank == axis)
    if not places.size:
        return
    before = np.concatenate([[0], np.cumsum(kept)])
    for index, bounds in ((1, starts), (2, ends)):
        moved = bounds.astype(np.int64)
        for place in places:
            bound = int(moved[place])
            bound += kept.size if bound < 0 else 0
            moved[place] = before[min(max(bound, 0), kept.size)]
        _put(graph, node, index, moved)


def _put(
    graph: ir.Graph,
    node: ir.Node,
    index: int,
    numbers: Iterable[int | np.integer] | npt.NDArray[np.int64],
) -> None:
    value = node.inputs[index]
    assert value is not None
    array = np.asarray(list(numbers), np.int64)
    node.replace_input_with(index, add_initializer(graph, str(value.name), array))
