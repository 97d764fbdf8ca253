"""Keeps the quantization that a model came with: its records on the values of the graph, for every form to be written.

What ``quantize`` decides from a calibration, the file has decided here. Nothing is rounded again that the file holds as
codes; where it says nothing of a value whose codes only move, they move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.fold_constants import FoldConstants
from edgekit.converters.passes.fold_pad import FoldPad
from edgekit.converters.passes.fuse_clamps import FuseClamps, get_clamp
from edgekit.converters.passes.fuse_matmul_add import FuseMatMulAdd
from edgekit.converters.passes.replace_batch_norm import ReplaceBatchNorm
from edgekit.converters.passes.replace_reduce_mean import ReplaceReduceMean
from edgekit.converters.passes.resolve_auto_pad import ResolveAutoPad
from edgekit.converters.passes.rewrite import (
    GraphPass,
    PassReport,
    constant,
    forget_names,
    new_name,
)
from edgekit.converters.passes.simplify_reshape import SimplifyReshape
from edgekit.converters.program import MAX_CODE, MIN_CODE
from edgekit.converters.quantizable import (
    BINARY,
    CLAMPABLE,
    MOVES,
    activations,
    can_be_dynamic,
    is_layer,
    obstacle,
    output_axis,
)
from edgekit.converters.quantization import (
    ActivationQuantization,
    Quantization,
    WeightQuantization,
    get_quantization,
    has_int8_rows,
    keep_float,
    make_dynamic,
    set_quantization,
)
from edgekit.converters.quantize import (
    INT8_WEIGHTS,
    FloatNode,
    QuantizationReport,
    get_report,
    set_report,
)
from edgekit.converters.quantize.weights import quantize_layer
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.regions import find_regions
from edgekit.converters.round_weights import InputStatistics

METHOD = "the model's own"
_INT32_MAX = 2**31 - 1
_LARGEST_PRODUCT = 255 * 128
# What the scales of a bias may differ by from those of the sums; runtimes take them for the same.
_SAME_SCALE = 1e-5
# None of them goes across a value that has codes.
_PASSES: tuple[type[GraphPass], ...] = (
    FoldConstants,
    SimplifyReshape,
    ResolveAutoPad,
    ReplaceBatchNorm,
    ReplaceReduceMean,
)


def keep_own_scales(
    model: ir.Model,
    records: Mapping[str, Quantization | None],
    dynamic: Collection[str] = (),
) -> ir.Model:
    """Returns a copy of ``model`` whose values carry the ``records`` that it came with.

    Args:
        model: The float network in canonical form, as it was read; it is not changed.
        records: By the names of values. None stands for weights whose codes do not fit int8 around 0: they are
            rounded anew. Weights that are not named are numbers in the model, and their layers stay float.
        dynamic: Names of products whose rows get codes when the network runs (docs/arithmetic.md, "Dynamic products").

    Raises:
        ModelError: A layer cannot be held with these scales.
    """
    result = model.clone()
    graph = result.graph
    for graph_pass in _PASSES:
        graph_pass()(result)
    infer_shapes(result)
    activation = {
        name: record
        for name, record in records.items()
        if isinstance(record, ActivationQuantization)
    }
    for node in tuple(graph):
        if node.name in dynamic and node.op_type == "MatMul":
            FuseMatMulAdd().rewrite(graph, node)
    if all(_keeps_grid(node, activation) for node in graph if node.op_type == "Pad"):
        FoldPad()(result)
    for value in _values(graph):
        record = records.get(str(value.name))
        if isinstance(record, ActivationQuantization) or value.is_initializer():
            set_quantization(value, record)
    _spread(graph)
    fused = _fuse_clamps(result, set(records))
    held = _find_held(graph, set(records))
    _round_between_floats(graph, held)
    rounded: dict[str, tuple[int, ...]] = {}
    left: list[FloatNode] = []
    for node in graph:
        if node not in held:
            keep_float(node)
            reason = obstacle(node) or "the model has no scale for it"
            if has_int8_rows(node):
                reason = INT8_WEIGHTS
            if node.name in dynamic and can_be_dynamic(node):
                reason = "its rows get codes when it runs"
                if _make_dynamic(node):
                    rounded[node.name or ""] = tuple(range(_channels(node)))
            left.append(FloatNode(node.name or "", node.op_type, reason))
            continue
        if not is_layer(node):
            continue
        _settle_bias(node)
        if not _has_codes(node):
            _round_anew(node)
            rounded[node.name or ""] = tuple(range(_channels(node)))
        elif channels := _make_room(node):
            rounded[node.name or ""] = channels
    set_report(
        result,
        QuantizationReport(
            METHOD,
            tuple(node.name or "" for node in graph if node in held),
            tuple(left),
            fused,
            rounded,
        ),
    )
    return result


def describe_rounding(model: ir.Model) -> list[str]:
    """Returns notes on the layers of a model from `keep_own_scales` whose codes are not the ones that it came with."""
    layers = get_report(model).widened
    if not layers:
        return []
    channels = sum(map(len, layers.values()))
    return [
        f"{channels} channels of {len(layers)} layers have other codes than the model came with, since those do not "
        f"fit int8 around 0, or their sums int32: {', '.join(layers)}"
    ]


def _keeps_grid(node: ir.Node, records: Mapping[str, ActivationQuantization]) -> bool:
    source = node.inputs[0]
    before = None if source is None else records.get(str(source.name))
    return before == records.get(str(node.outputs[0].name))


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for node in graph for value in node.outputs),
    ]


def _fuse_clamps(model: ir.Model, known: set[str]) -> tuple[str, ...]:
    """Takes clamps into the grids of their results, where what they clamp has none; returns a line for each."""
    # By names: a value that takes the place of a clamped one takes its name.
    grids = {str(value.name): _grid(value) for value in _values(model.graph)}

    def grid(value: ir.Value | None) -> ActivationQuantization | None:
        return None if value is None else grids.get(str(value.name))

    def is_free(node: ir.Node) -> bool:
        """Whether the grid behind the clamp is that of the node's result."""
        value = node.outputs[0]
        return (
            node.op_type in CLAMPABLE
            and grid(value) is None
            and all(grid(use.node.outputs[0]) is not None for use in value.uses())
            and _reads_codes(node, known, grid)
        )

    fused = FuseClamps(is_free)(model)
    assert isinstance(fused, PassReport)
    for value in _values(model.graph):
        record = grids.get(str(value.name))
        if record is not None:
            set_quantization(value, _bounded(record, value))
    return tuple(fused.changed)


def _bounded(record: ActivationQuantization, value: ir.Value) -> ActivationQuantization:
    """Returns the record with the bounds of the clamp that was fused into ``value``, as codes."""
    clamp = get_clamp(value)
    ends = []
    for end, limit in ((clamp.lo, record.lo), (clamp.hi, record.hi)):
        if not np.isfinite(end):
            ends.append(limit)
            continue
        code = record.zero_point + float(np.rint(np.float32(end) / np.float32(record.scale)))
        ends.append(int(min(max(code, MIN_CODE), MAX_CODE)))
    return ActivationQuantization(
        record.scale, record.zero_point, max(ends[0], record.lo), min(ends[1], record.hi)
    )


def _grid(value: ir.Value | None) -> ActivationQuantization | None:
    record = None if value is None else get_quantization(value)
    return record if isinstance(record, ActivationQuantization) else None


def _spread(graph: ir.Graph) -> None:
    """Gives values without a scale that of the codes that only move into or out of them."""
    for node in graph:
        if node.op_type in MOVES and obstacle(node) is None:
            source, output = node.inputs[0], node.outputs[0]
            if _grid(output) is None and source is not None:
                set_quantization(output, _unbounded(_grid(source)))
    for node in reversed(tuple(graph)):
        output = node.outputs[0]
        if _grid(output) is None or obstacle(node) is not None:
            continue
        if node.op_type not in MOVES and node.op_type != "Concat":
            continue
        for source in activations(node):
            alone = source is not None and len(source.uses()) == 1 and not source.is_graph_output()
            if source is not None and alone and constant(source) is None and _grid(source) is None:
                set_quantization(source, _unbounded(_grid(output)))


def _unbounded(record: ActivationQuantization | None) -> ActivationQuantization | None:
    """Returns the grid by itself: the bounds are those of another operator."""
    if record is None:
        return None
    return ActivationQuantization(record.scale, record.zero_point)


def _find_held(graph: ir.Graph, known: set[str]) -> set[ir.Node]:
    """Returns the nodes that compute on codes: those between values that have scales, ``known`` weights among them."""
    held: set[ir.Node] = set()
    regions = find_regions(graph, lambda value: get_quantization(value) is not None)
    inside = {node for region in regions.values() for node in region.nodes}
    for last, region in regions.items():
        if _grid(region.source) is not None and _grid(last.outputs[0]) is not None:
            held.update(region.nodes)
    for node in graph:
        if node in inside or _grid(node.outputs[0]) is None:
            continue
        if node.op_type == "Identity" and _grid(node.inputs[0]) is not None:
            held.add(node)
        if _reads_codes(node, known, _grid):
            held.add(node)
    return held


def _reads_codes(
    node: ir.Node,
    known: set[str],
    grid: Callable[[ir.Value | None], ActivationQuantization | None],
) -> bool:
    """Returns whether int8 can hold ``node`` and all that it reads has codes, ``known`` weights among it."""
    if obstacle(node) is not None:
        return False
    weight = node.inputs[1] if is_layer(node) else None
    if weight is not None and weight.name not in known:
        return False
    sources = activations(node)
    if node.op_type not in BINARY:
        sources = [value for value in sources if value is not None and constant(value) is None]
    return all(grid(value) is not None for value in sources)


def _round_between_floats(graph: ir.Graph, held: set[ir.Node]) -> None:
    """Rounds values to their grids where floats are made and read: what stays float reads what the codes stand for."""
    forget_names(graph)
    for value in [*graph.inputs, *(output for node in graph for output in node.outputs)]:
        record, maker = _grid(value), value.producer()
        if record is None or maker in held or (maker is not None and maker.op_type == "Identity"):
            continue
        readers = [use.node for use in value.uses()]
        if all(reader in held for reader in readers) and not value.is_graph_output():
            continue
        name = str(value.name)
        rounded = ir.node("Identity", [None], name=new_name(graph, f"{name}:rounded"))
        copy = rounded.outputs[0]
        copy.type, copy.shape = value.type, value.shape
        value.replace_all_uses_with(copy, replace_graph_outputs=True)
        rounded.replace_input_with(0, value)
        if maker is None:
            copy.name = new_name(graph, f"{name}:codes")
            graph.insert_before(graph[0], rounded)
        else:
            value.name = new_name(graph, f"{name}:unrounded")
            copy.name = name
            graph.insert_after(maker, rounded)
        set_quantization(copy, record)
        set_quantization(value, None)
    forget_names(graph)


def _make_dynamic(node: ir.Node) -> bool:
    """Lets the rows of ``node`` get codes at run time; returns whether its weights had to be rounded anew."""
    make_dynamic(node)
    weight = node.inputs[1]
    assert weight is not None
    record = get_quantization(weight)
    if isinstance(record, WeightQuantization) and record.axis == output_axis(node):
        return False
    array = cast("npt.NDArray[np.float32]", constant(weight))
    axis = output_axis(node)
    layer = quantize_layer(array, None, np.float32(1), axis, _unknown(array, axis))
    set_quantization(weight, layer.weight)
    return True


def _unknown(weight: npt.NDArray[np.float32], axis: int) -> InputStatistics:
    """Returns statistics of an input of which nothing is known: each weight is rounded by itself."""
    shape = weight.shape[axis], np.moveaxis(weight, axis, 0).shape[1]
    return InputStatistics(np.zeros(shape), np.zeros(shape))


def _settle_bias(node: ir.Node) -> None:
    """Gives the codes of a bias the scale of the sums, where theirs is that but for its last bits."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    source = _grid(node.inputs[0])
    record = None if weight is None else get_quantization(weight)
    sums = None if bias is None else get_quantization(bias)
    if source is None or bias is None or not isinstance(record, WeightQuantization):
        return
    scale = np.float32(source.scale) * record.scale
    if (
        isinstance(sums, WeightQuantization)
        and sums.scale.shape == scale.shape
        and np.allclose(sums.scale, scale, rtol=_SAME_SCALE, atol=0)
    ):
        set_quantization(bias, WeightQuantization(sums.codes, scale, 0))


def _has_codes(node: ir.Node) -> bool:
    """Returns whether a layer's weights and bias have codes, for the scale of its input."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    source = _grid(node.inputs[0])
    record = None if weight is None else get_quantization(weight)
    if not isinstance(record, WeightQuantization) or source is None:
        return False
    assert weight is not None
    array = constant(weight)
    if array is None or array.shape != record.codes.shape or record.axis != output_axis(node):
        return False
    if bias is None:
        return True
    sums = get_quantization(bias)
    scale = np.float32(source.scale) * record.scale
    return isinstance(sums, WeightQuantization) and np.array_equal(sums.scale, scale)


def _channels(node: ir.Node) -> int:
    array = constant(node.inputs[1])
    assert array is not None
    return int(array.shape[output_axis(node)])


def _make_room(node: ir.Node) -> tuple[int, ...]:
    """Halves the codes of output channels whose sums could leave int32, as often as needed; returns the channels."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    source = _grid(node.inputs[0])
    assert weight is not None
    assert source is not None
    record = get_quantization(weight)
    offsets = None if bias is None else get_quantization(bias)
    assert isinstance(record, WeightQuantization)
    rows = np.moveaxis(record.codes, record.axis, 0).astype(np.float64)
    count = len(rows)
    sums = np.zeros(count) if not isinstance(offsets, WeightQuantization) else offsets.codes
    sums = np.array(np.broadcast_to(sums.astype(np.float64), (count,)))
    halvings = np.zeros(count, np.int64)
    if record.bits == 4:
        most = np.abs(sums) + 2 * 255 * np.abs(rows).reshape(count, -1).sum(axis=1)
        # Kernels may hold 16 times a sum of int4 weights: what has no room for that is int8.
        if (16 * most > _INT32_MAX).any():
            wide = WeightQuantization(record.codes, record.scale, record.axis)
            set_quantization(weight, wide)
    # A layer of too many products is refused when a plan is made.
    while rows[0].size * _LARGEST_PRODUCT <= _INT32_MAX:
        # As the loader of plans proves it: from the number of products, whatever the weights.
        whole = np.abs(np.rint(rows)).reshape(count, -1)
        needed = np.abs(np.rint(sums)) + 255 * whole.sum(axis=1) + whole.shape[1] * _LARGEST_PRODUCT
        over = needed > _INT32_MAX
        if not over.any():
            break
        rows[over] /= 2
        sums[over] /= 2
        halvings[over] += 1
    if not halvings.any():
        return ()
    scale = (np.broadcast_to(record.scale, (count,)) * np.exp2(halvings)).astype(np.float32)
    codes = np.moveaxis(np.rint(rows).astype(np.int8), 0, record.axis)
    set_quantization(weight, WeightQuantization(np.ascontiguousarray(codes), scale, record.axis))
    if bias is not None:
        whole = np.rint(sums).astype(np.int32)
        set_quantization(bias, WeightQuantization(whole, np.float32(source.scale) * scale, 0))
    return tuple(int(channel) for channel in np.flatnonzero(halvings))


def _round_anew(node: ir.Node) -> None:
    """Gives a layer codes where the model's do not fit int8 around 0, or where it has none."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    source = _grid(node.inputs[0])
    assert source is not None
    assert weight is not None
    array = cast("npt.NDArray[np.float32]", constant(weight))
    offsets = None if bias is None else cast("npt.NDArray[np.float32]", constant(bias)).reshape(-1)
    axis = output_axis(node)
    count = array.shape[axis]
    if offsets is not None and offsets.size == 1:
        offsets = np.broadcast_to(offsets, (count,))
    layer = quantize_layer(array, offsets, source.scale, axis, _unknown(array, axis))
    set_quantization(weight, layer.weight)
    if bias is not None:
        set_quantization(bias, layer.bias)
