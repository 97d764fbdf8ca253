"""Multiplies channels of a float graph by factors and takes these into its constants, so that its answers stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.element_sets.variables import Ids
from edgekit.converters.passes.rewrite import add_initializer, attribute, constant, forget_names
from edgekit.converters.recover.scales import Bounds, Layer, Norm, Operand, Scaling

Floats = npt.NDArray[np.float64]
# Bounds that differ by less than this, relative to the larger one, are one bound.
_EQUAL = 1e-5


def rescale(
    model: ir.Model,
    scaling: Scaling,
    factors: Mapping[int, float],
    *,
    bounds: Mapping[ir.Node, tuple[float, float]] | None = None,
) -> None:
    """Multiplies sets of channels by ``factors``, in place; what the graph answers stays, but for rounding.

    Weights of a layer become ``W'[o, i] = W[o, i] * f[o] / f[i]``, its bias ``b'[o] = b[o] * f[o]``; constants that are
    added to or compared with a value get its factors. A Clip whose factors differ becomes Max and Min with bounds for
    each channel, Relu where a bound is 0.

    Args:
        model: The graph that ``scaling`` was found in.
        scaling: What may be scaled.
        factors: Positive factors by set (``Scaling.free``); 1 for those that are missing.
        bounds: By Clip, the bounds that it gets whatever its factors are.
    """
    table = np.ones(len(scaling.variables))
    for root, factor in factors.items():
        table[root] = factor

    def of(ids: Ids) -> Floats:
        found: Floats = table[scaling.variables.roots(ids)]
        return found

    graph = model.graph
    forget_names(graph)
    for site in scaling.sites:
        if isinstance(site, Layer):
            _scale_layer(graph, site.node, of(site.inputs), of(site.outputs))
        elif isinstance(site, Norm):
            for index in (1, 2):
                _multiply(graph, site.node, index, of(site.outputs))
        elif isinstance(site, Operand):
            _multiply(graph, site.node, site.index, of(site.ids))
        elif isinstance(site, Bounds):
            given = (bounds or {}).get(site.node)
            if given is not None:
                set_bounds(graph, site.node, *given)
            else:
                _scale_clip(graph, site.node, of(site.ids))
    common.RemoveUnusedNodesPass()(model)
    forget_names(graph)


def set_bounds(graph: ir.Graph, clip: ir.Node, lo: float, hi: float) -> None:
    """Gives ``clip`` other bounds; an infinite one is none."""
    clip.resize_inputs(3)
    for index, bound in ((1, lo), (2, hi)):
        value = None
        if np.isfinite(bound):
            value = add_initializer(graph, f"{clip.name}_bound", np.array(bound, np.float32))
        clip.replace_input_with(index, value)


def bounds_of(clip: ir.Node) -> tuple[float, float]:
    """Returns the constant bounds of a Clip."""
    found = [-np.inf, np.inf]
    for index, value in enumerate(clip.inputs[1:3]):
        array = constant(value)
        if array is not None:
            found[index] = float(np.asarray(array, np.float64).reshape(-1)[0])
    return found[0], found[1]


def restore_clips(model: ir.Model) -> list[str]:
    """Makes Max and Min with one bound for all channels a Clip again; returns the names of those that it made.

    Rules, lo <= 0 <= hi, where nothing else uses what lies between:
        ``Min(Relu(x), hi) -> Clip(x, 0, hi)``;
        ``Min(Max(x, lo), hi) -> Clip(x, lo, hi)``.
    """
    graph = model.graph
    forget_names(graph)
    made = []
    for node in tuple(graph):
        hi = _one_bound(node, "Min")
        inner = None if hi is None else hi[0].producer()
        if hi is None or inner is None or inner.domain or len(hi[0].uses()) != 1:
            continue
        if hi[0].is_graph_output():
            continue
        if inner.op_type == "Relu":
            source, lo = inner.inputs[0], 0.0
        else:
            below = _one_bound(inner, "Max")
            if below is None:
                continue
            source, lo = below
        if source is None or not lo <= 0.0 <= hi[1] or lo >= hi[1]:
            continue
        limits = [
            add_initializer(graph, f"{node.name}_bound", np.array(bound, np.float32))
            for bound in (lo, hi[1])
        ]
        clip = ir.node("Clip", [source, *limits], name=node.name)
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], [clip], [node.outputs[0]], [clip.outputs[0]]
        )
        graph.remove(inner, safe=True)
        made.append(clip.name or "")
    forget_names(graph)
    return made


def _one_bound(node: ir.Node | None, op_type: str) -> tuple[ir.Value, float] | None:
    """Returns what ``node`` compares with one number, and the number, where it does nothing else."""
    if node is None or node.domain or node.op_type != op_type or len(node.inputs) != 2:
        return None
    for index in (0, 1):
        array, source = constant(node.inputs[index]), node.inputs[1 - index]
        if array is None or source is None or constant(source) is not None or not array.size:
            continue
        lo, hi = float(array.min()), float(array.max())
        wide = source.shape is None or node.outputs[0].shape != source.shape
        if not wide and hi - lo <= _EQUAL * max(abs(lo), abs(hi)):
            return source, float(np.asarray(array, np.float64).mean())
    return None


def _scale_layer(graph: ir.Graph, node: ir.Node, inputs: Floats, outputs: Floats) -> None:
    if (inputs == 1).all() and (outputs == 1).all():
        return
    weight = constant(node.inputs[1])
    assert weight is not None
    below, above = lay_out(node, inputs, outputs)
    factors = above / below
    factors = factors.reshape(*factors.shape, *[1] * (weight.ndim - 2))
    _put(graph, node, 1, weight.astype(np.float64) * factors)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = constant(node.inputs[2])
        assert bias is not None
        _put(graph, node, 2, bias.astype(np.float64) * outputs)


def lay_out(node: ir.Node, inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """Returns what is known of each input and output channel as it lies along the first two dimensions of the weights.

    Args:
        node: A layer.
        inputs: ``[I]``, of its input channels.
        outputs: ``[O]``, of its output channels.

    Returns:
        Both, as they broadcast to the weights' first two dimensions.
    """
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv":
        by_group = inputs.reshape(groups, -1)
        if groups > 1:
            by_group = np.repeat(by_group, len(outputs) // groups, axis=0)
        return by_group, outputs[:, None]
    if node.op_type == "ConvTranspose":
        by_group = outputs.reshape(groups, -1)
        if groups > 1:
            by_group = np.repeat(by_group, len(inputs) // groups, axis=0)
        return inputs[:, None], by_group
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return inputs[None, :], outputs[:, None]
    return inputs[:, None], outputs[None, :]


def _multiply(graph: ir.Graph, node: ir.Node, index: int, factors: Floats) -> None:
    value = node.inputs[index] if len(node.inputs) > index else None
    array = constant(value)
    if array is None or (factors == 1).all():
        return
    if factors.size == 1:
        factors = factors.reshape(())
    _put(graph, node, index, array.astype(np.float64) * factors)


def _put(graph: ir.Graph, node: ir.Node, index: int, array: Floats) -> None:
    """Makes ``array`` the constant at input ``index`` of ``node`` alone."""
    value = node.inputs[index]
    assert value is not None
    node.replace_input_with(
        index, add_initializer(graph, str(value.name), array.astype(np.float32))
    )


def _scale_clip(graph: ir.Graph, clip: ir.Node, factors: Floats) -> None:
    lo, hi = bounds_of(clip)
    if np.ptp(factors) <= _EQUAL * factors.max():
        if abs(float(factors.flat[0]) - 1) > _EQUAL:
            set_bounds(graph, clip, lo * float(factors.flat[0]), hi * float(factors.flat[0]))
        return
    source = clip.inputs[0]
    assert source is not None
    nodes: list[ir.Node] = []
    for op_type, bound in (("Max", lo), ("Min", hi)):
        if not np.isfinite(bound):
            continue
        if op_type == "Max" and bound == 0:
            node = ir.node("Relu", [source], name=f"{clip.name}_{op_type.lower()}")
        else:
            limits = (bound * factors).astype(np.float32)
            value = add_initializer(graph, f"{clip.name}_bounds", limits)
            node = ir.node(op_type, [source, value], name=f"{clip.name}_{op_type.lower()}")
        nodes.append(node)
        source = node.outputs[0]
        source.shape, source.type = clip.outputs[0].shape, clip.outputs[0].type
    if nodes:
        ir.convenience.replace_nodes_and_values(
            graph, clip, [clip], nodes, [clip.outputs[0]], [nodes[-1].outputs[0]]
        )
