"""Static int8: decides which nodes are quantized, chooses ranges, and hangs the records on the values.

The graph that comes out still has the float operators; a value with a record is int8 there. What that means for
each operator is in docs/arithmetic.md, how the choices are made in docs/quantization.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import (
    Calibration,
    Range,
    RangeChoice,
    TensorSketch,
    choose_range,
)
from edgekit.converters.can_hold import AskedFormats, read_formats
from edgekit.converters.compensate import Hessians
from edgekit.converters.grids import Grids, make_grid, share_grids
from edgekit.converters.layer_rounding import LayerRounding
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.bound_masks import MASKED, feeds_softmax, masked_sums
from edgekit.converters.passes.fuse_clamps import FuseClamps, get_clamp
from edgekit.converters.passes.rewrite import (
    PassReport,
    add_initializer,
    attribute,
    constant,
    forget_names,
)
from edgekit.converters.quantizable import (
    ARRANGES,
    CLAMPABLE,
    DYNAMIC,
    can_be_dynamic,
    has_constant_operands,
    has_recurrent_codes,
    is_layer,
    obstacle,
    output_axis,
)
from edgekit.converters.quantization import (
    ActivationQuantization,
    RowQuantization,
    WideSteps,
    make_dynamic,
    make_wide,
    set_quantization,
    store_float16,
)
from edgekit.converters.quantization import keep_float as keep_as_float
from edgekit.converters.quantize_int4 import GROUPS, quantize_int4
from edgekit.converters.quantize_tables import quantize_tables
from edgekit.converters.quantize_weights import (
    PAIR_LIMIT,
    LayerQuantization,
    quantize_layer,
)
from edgekit.converters.regions import Region, find_regions
from edgekit.converters.round_weights import InputStatistics
from edgekit.converters.state_paths import find_state_paths
from edgekit.converters.wide_program import MOST_WIDE
from edgekit.targets.errors import CalibrationError, ModelError

# Why a recurrent node is among the float ones although its weights are not.
INT8_WEIGHTS = "its weights are int8, its states stay float32"
_REPORT_KEY = "edgekit.quantization_report"
# Operators that stay float where what is before them does.
_FOLLOWERS = ARRANGES | {"Clip", "Relu"}
# Values that Softmax takes and that lie below this were lowered by a mask (``BoundMasks``).
_MASKED = float(MASKED) / 2
# What lies so far below the largest value has no share that 8 bits could tell from 0: exp(-8) is less than 1/512.
_UNLIKELY = 8.0
# Significant bits of a range's end: rounding it costs at most 0.4 % of the range.
_RANGE_BITS = 9
# int4 weights along k that share a scale where activations are float32, as most int4 runtimes have it.
_FLOAT_GROUP = 32


@dataclass(frozen=True)
class FloatNode:
    """A node that stays float, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class QuantizationReport:
    """What ``quantize`` decided.

    Attributes:
        method: How ranges were chosen.
        quantized: Names of the nodes that are int8, in graph order.
        float_nodes: The others.
        fused_clamps: A line for each Relu or Clip that went into a range.
        widened: By node, the output channels whose weights got a wider scale to keep sums in int32.
        narrowed: The same for pairs of products in int16.
    """

    method: str
    quantized: tuple[str, ...]
    float_nodes: tuple[FloatNode, ...]
    fused_clamps: tuple[str, ...]
    widened: dict[str, tuple[int, ...]] = field(default_factory=dict)
    narrowed: dict[str, tuple[int, ...]] = field(default_factory=dict)


def quantize(
    model: ir.Model,
    calibration: Calibration,
    *,
    method: str | RangeChoice = "minmax",
    keep_float: Mapping[str, str] | None = None,
    dynamic: Collection[str] = (),
    tables: bool = True,
    formats: Mapping[str, NumberFormat] | None = None,
    hessians: Hessians | None = None,
    int4_groups: Mapping[str, int] | None = None,
) -> ir.Model:
    """Returns a quantized copy of ``model``: records on its values, clamps taken into ranges.

    Recurrent nodes compute in float32 with int8 weights, or wholly in float32 where ``keep_float`` names them.

    Args:
        model: A float model in canonical form, simplified; it is not changed.
        calibration: Made from this model.
        method: How the range of an activation is chosen from its sketch (``calibrate.METHODS``), for all
            values or for each, and whether grids are symmetric.
        keep_float: Names of nodes that stay float though int8 could hold them, and why.
        dynamic: Names of fully connected layers whose weights get codes where they stay float: their rows get codes at
            run time (docs/arithmetic.md, "Dynamic products").
        tables: Whether embedding tables become int8 (``quantize_tables``).
        formats: What nodes are computed in, by their names, whatever ``keep_float`` and ``dynamic`` say of them;
            `can_hold` says what a node can have. Others are int8 wherever int8 can hold them.
        hessians: Of layers' inputs, gathered from this model: what has one is rounded by it (docs/solver.md).
        int4_groups: By the names of nodes with int4 weights, how many of these share a scale along k: 32, 64, 128, or 0
            for all of an output channel. By default 0 where activations have static codes, else 32.

    Raises:
        CalibrationError: A value was never seen in calibration, or there is no such method.
        ModelError: A scale cannot be held in float32, or a node cannot have its format.
    """
    choice = RangeChoice(method) if isinstance(method, str) else method
    result = model.clone()
    graph = result.graph
    asked = read_formats(graph, formats or {})
    wanted = {name: why for name, why in (keep_float or {}).items() if name not in asked.static}
    kept = _kept_float(graph, {**wanted, **asked.keep_float}, asked.static)
    rows = (set(dynamic) - asked.keep_float.keys()) | asked.dynamic
    four = _int4_groups(graph, asked, int4_groups or {})
    tabled = _members(find_regions(node for node in graph if node not in kept))
    fused = FuseClamps(
        lambda node: (
            node.op_type in CLAMPABLE
            and node not in tabled
            and node not in kept
            and obstacle(node) is None
        )
    )(result)
    assert isinstance(fused, PassReport)

    regions = find_regions(node for node in graph if node not in kept)
    tabled = _members(regions)
    quantized: list[ir.Node] = []
    float_nodes: list[FloatNode] = []
    narrowed: dict[str, tuple[int, ...]] = {}
    for node in graph:
        reason = kept.get(node) or (None if node in tabled else obstacle(node))
        if reason is None:
            quantized.append(node)
        else:
            keep_as_float(node)
            if node.name in rows and can_be_dynamic(node):
                _quantize_dynamic(
                    graph,
                    node,
                    calibration,
                    hessians,
                    four.get(node.name),
                    whole=node.name in asked.whole,
                )
            elif node.name in asked.wide:
                _quantize_wide(graph, node, calibration, hessians, choice)
            elif node.name in asked.float16:
                _round_to_float16(graph, node)
            elif node.name in four:
                _quantize_int4_floats(graph, node, calibration, hessians, four[node.name])
            elif node not in kept and has_recurrent_codes(node):
                # Of recurrent operators runtimes have LSTM alone on codes.
                narrow = choice.narrow_weights and node.op_type == "LSTM"
                grown = _quantize_recurrent(graph, node, calibration, narrow, hessians)
                if grown:
                    narrowed[node.name or ""] = grown
                reason = INT8_WEIGHTS
            float_nodes.append(FloatNode(node.name or "", node.op_type, reason))

    steps = [node for node in quantized if node in regions or node not in tabled]
    grids = share_grids(
        steps, regions, lambda value: _range_of(value, calibration, choice), choice.symmetric
    )
    widened: dict[str, tuple[int, ...]] = {}
    for value, grid in grids.assign():
        set_quantization(value, grid)
    for node in quantized:
        if is_layer(node):
            narrow = choice.narrow_weights and not _is_depthwise(node)
            group = four.get(node.name or "")
            layer = _quantize_weights(graph, node, grids, calibration, narrow, hessians, group)
            for found, channels in ((widened, layer.widened), (narrowed, layer.narrowed)):
                if channels:
                    found[node.name or ""] = channels
        elif has_constant_operands(node) and (node not in tabled or _stands_alone(node, regions)):
            _quantize_constants(graph, node, choice.symmetric)
    forget_names(graph)
    if tables:
        quantize_tables(graph)
    result.meta[_REPORT_KEY] = QuantizationReport(
        str(choice),
        tuple(node.name or "" for node in quantized),
        tuple(float_nodes),
        tuple(fused.changed),
        widened,
        narrowed,
    )
    return result


def _kept_float(
    graph: ir.Graph, wanted: Mapping[str, str], static: Collection[str]
) -> dict[ir.Node, str]:
    """Returns the nodes that stay float of their own or their producer's account, and why.

    A clamp, and what only moves elements, goes with a producer that stays float, unless it is ``static``: int8 would
    pay for a conversion and gain nothing. So does what carries a state.
    """
    tabled = _members(find_regions(graph))
    kept: dict[ir.Node, str] = {}
    for node in graph:
        reason = wanted.get(node.name or "")
        source = node.inputs[0] if node.inputs else None
        maker = None if source is None else source.producer()
        follows = node.op_type in _FOLLOWERS and node.name not in static
        if reason is None and maker is not None and follows:
            stays = maker in kept or (maker not in tabled and obstacle(maker) is not None)
            if stays and maker.outputs[0].dtype == ir.DataType.FLOAT:
                reason = kept.get(maker, f"'{maker.name}' before it stays float")
        if reason is not None:
            kept[node] = reason

    def is_float(node: ir.Node) -> bool:
        return node in kept or (node not in tabled and obstacle(node) is not None)

    paths = find_state_paths(graph, is_float) - kept.keys()
    return {**kept, **dict.fromkeys(paths, "it carries a state")}


def set_report(model: ir.Model, report: QuantizationReport) -> None:
    """Says what was decided about ``model``."""
    model.meta[_REPORT_KEY] = report


def get_report(model: ir.Model) -> QuantizationReport:
    """Returns what ``quantize`` decided about ``model``, which it made."""
    return cast(QuantizationReport, model.meta[_REPORT_KEY])


def _members(regions: Mapping[ir.Node, Region]) -> set[ir.Node]:
    return {node for region in regions.values() for node in region.nodes}


def _stands_alone(node: ir.Node, regions: Mapping[ir.Node, Region]) -> bool:
    """Returns whether ``node`` is a region by itself, whose constants may then have codes."""
    return node in regions and len(regions[node].nodes) == 1


def make_grid_by(
    value: ir.Value, calibration: Calibration, choice: RangeChoice
) -> ActivationQuantization:
    """Returns the grid that ``value`` of a quantized graph would have by another choice, if it shared none."""
    return make_grid(_range_of(value, calibration, choice), get_clamp(value), choice.symmetric)


def _range_of(value: ir.Value, calibration: Calibration, choice: RangeChoice) -> Range:
    """Returns the range of ``value`` from its sketch, within the clamp that was fused into it."""
    name = str(value.name)
    if name not in calibration.sketches:
        raise CalibrationError(
            f"tensor '{name}' was not calibrated: the calibration belongs to another model, or to this one before it "
            "was simplified"
        )
    sketch = calibration.sketches[name]
    if not np.isfinite(sketch.lo):
        raise CalibrationError(
            f"tensor '{name}' had no elements at any calibration sample: its node makes it empty, mend the model there"
        )
    clamp = get_clamp(value)
    if sketch.lo < _MASKED:
        found = _masked_range(value, sketch, calibration, choice)
    else:
        found = choose_range(sketch, choice.of(name))
    return Range(max(_widen(found.lo), clamp.lo), min(_widen(found.hi), clamp.hi))


def _masked_range(
    value: ir.Value, sketch: TensorSketch, calibration: Calibration, choice: RangeChoice
) -> Range:
    """Returns the range of a value that holds very small numbers: without them where they only mask places.

    What Softmax takes has codes for the rest, and saturates far enough below it. A mask reaches just so far that
    every sum with it saturates there.
    """
    method = choice.of(str(value.name))
    rest = sketch.above(_MASKED)
    if np.isfinite(rest.lo):
        if feeds_softmax(value):
            found = choose_range(rest, method)
            return Range(found.lo - _UNLIKELY, found.hi)
        sums = [_range_of(each, calibration, choice) for each in masked_sums(value)]
        if sums:
            reach = max(each.hi - each.lo for each in sums)
            return Range(min(-reach, float(rest.lo)), max(0.0, float(rest.hi)))
    return choose_range(sketch, method)


def _widen(end: float) -> float:
    """Rounds a range's end away from 0 to a short mantissa.

    CPUs disagree in the last bits of a float network's values; the files that they make should not.
    """
    mantissa, exponent = math.frexp(end)
    parts = math.ldexp(mantissa, _RANGE_BITS)
    return math.ldexp(math.ceil(parts) if parts > 0 else math.floor(parts), exponent - _RANGE_BITS)


def _is_depthwise(node: ir.Node) -> bool:
    """Returns whether each output channel of ``node`` reads one channel, whose products runtimes add in 32 bits."""
    weight = node.inputs[1]
    return (
        node.op_type == "Conv"
        and weight is not None
        and weight.shape is not None
        and attribute(node, "group", 1) > 1
        and weight.shape[1] == 1
    )


def _quantize_weights(
    graph: ir.Graph,
    node: ir.Node,
    grids: Grids,
    calibration: Calibration,
    narrow: bool,
    hessians: Hessians | None,
    group: int | None,
) -> LayerQuantization:
    """Hangs the records on the weights and the bias of ``node``, and returns them; int4 where there is a ``group``."""
    axis = output_axis(node)
    grid, output = grids.grid(node.inputs[0]), grids.grid(node.outputs[0])
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    bias, bias_array = None, None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _own(graph, node, 2, (array.shape[axis],))
        bias_array = cast("npt.NDArray[np.float32]", constant(bias))
    inputs = _input_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    if group is not None:
        layer = quantize_int4(
            array,
            bias_array,
            grid.scale,
            axis,
            inputs,
            rounding,
            group=group,
            fit=rounding.fit_int4,
        )
    else:
        layer = quantize_layer(
            array,
            bias_array,
            grid.scale,
            axis,
            inputs,
            rounding,
            pair_limit=PAIR_LIMIT if narrow else None,
        )
    with np.errstate(over="ignore"):
        multiplier = layer.weight.scale * grid.scale / output.scale
    if not np.isfinite(multiplier).all():
        raise ModelError(f"node '{node.name}': its weights are too large for its output's range")
    set_quantization(weight, layer.weight)
    if bias is not None:
        set_quantization(bias, layer.bias)
    return layer


def _int4_groups(graph: ir.Graph, asked: AskedFormats, given: Mapping[str, int]) -> dict[str, int]:
    """Returns the group of each node with int4 weights, by name.

    Raises:
        ModelError: A size is none of those that there are, or its node has no int4 weights or no matrix of them.
    """
    for name, group in given.items():
        if name not in asked.int4:
            raise ModelError(f"node '{name}' has no int4 weights whose groups could be {group}")
        if group not in GROUPS:
            sizes = ", ".join(map(str, GROUPS))
            raise ModelError(f"node '{name}': a group has {sizes} weights (0: all), not {group!r}")
    found = {}
    for node in graph:
        name = node.name or ""
        if name in asked.int4:
            found[name] = given.get(name, 0 if name in asked.static else _FLOAT_GROUP)
            if found[name] and node.op_type not in DYNAMIC:
                raise ModelError(
                    f"node '{name}' ({node.op_type}) has no groups along k: leave it 0"
                )
    return found


def _quantize_int4_floats(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    group: int,
) -> None:
    """Hangs the record on the weights of ``node``, whose activations stay float32."""
    axis = output_axis(node)
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    inputs = _input_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    layer = quantize_int4(
        array, None, np.float32(1), axis, inputs, rounding, group=group, fit=rounding.fit_int4
    )
    set_quantization(weight, layer.weight)


def _quantize_dynamic(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    group: int | None,
    *,
    whole: bool,
) -> None:
    """Hangs the record on the weights of ``node``, whose input and bias stay float32; int4 where there is a group."""
    make_dynamic(node, whole=whole)
    if group is not None:
        _quantize_int4_floats(graph, node, calibration, hessians, group)
        return
    axis = output_axis(node)
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    inputs = _input_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    layer = quantize_layer(array, None, np.float32(1), axis, inputs, rounding)
    set_quantization(weight, layer.weight)


def _quantize_wide(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    choice: RangeChoice,
) -> None:
    """Hangs the record on the weights of ``node``, and on itself the scales of its input and its output."""
    axis = output_axis(node)
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    inputs = _input_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    layer = quantize_layer(array, None, np.float32(1), axis, inputs, rounding)
    set_quantization(weight, layer.weight)
    source = node.inputs[0]
    assert source is not None
    steps = [
        _wide_step(_range_of(value, calibration, choice)) for value in (source, *node.outputs[:1])
    ]
    make_wide(node, WideSteps(*steps))


def _wide_step(seen: Range) -> np.float32:
    """Returns the scale of int16 codes around 0 whose largest stands for the end that is farther from 0."""
    reach = max(-float(seen.lo), float(seen.hi))
    smallest = float(np.finfo(np.float32).tiny)
    return np.float32(max(reach / MOST_WIDE, smallest) if reach > 0 else 1.0)


def _round_to_float16(graph: ir.Graph, node: ir.Node) -> None:
    """Rounds the weights of ``node`` to float16, to nearest even; they are float32 with fewer digits."""
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    weight.const_value = ir.Tensor(array.astype(np.float16).astype(np.float32), name=weight.name)
    store_float16(node)


def _quantize_recurrent(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    narrow: bool,
    hessians: Hessians | None,
) -> tuple[int, ...]:
    """Hangs the records on W and R of ``node``; returns the rows of either whose scale had to grow to be narrow.

    Only of the inputs that W multiplies it is known what they are like.
    """
    source = node.inputs[0]
    seen = calibration.moments.get(str(source.name)) if source is not None else None
    narrowed: set[int] = set()
    for index in (1, 2):
        weight = _own(graph, node, index)
        array = cast("npt.NDArray[np.float32]", constant(weight))
        directions, rows, depth = array.shape
        mean, variance = np.zeros(depth), np.ones(depth)
        if index == 1 and seen is not None and seen.axis == -1:
            mean, variance = seen.mean(), seen.variance()
        count = directions * rows
        inputs = InputStatistics(*(np.tile(values, (count, 1)) for values in (mean, variance)))
        layer = quantize_layer(
            array.reshape(count, depth),
            None,
            np.float32(1),
            0,
            inputs,
            LayerRounding(node, calibration, hessians if index == 1 else None),
            pair_limit=PAIR_LIMIT if narrow else None,
        )
        narrowed.update(layer.narrowed)
        record = RowQuantization(
            layer.weight.codes.astype(np.int8).reshape(array.shape),
            layer.weight.scale.reshape(directions, rows),
        )
        set_quantization(weight, record)
    return tuple(sorted(narrowed))


def _input_statistics(
    node: ir.Node, calibration: Calibration, weight: npt.NDArray[np.float32]
) -> InputStatistics:
    """Returns the statistics of the input channels of each output channel of a layer."""
    source = node.inputs[0]
    assert source is not None
    moments = calibration.moments.get(str(source.name))
    if moments is None:
        raise CalibrationError(f"tensor '{source.name}' was not calibrated as the input of a layer")
    groups = attribute(node, "group", 1)
    channels, inner = np.moveaxis(weight, output_axis(node), 0).shape[:2]
    mean, variance = moments.mean(), moments.variance()
    if mean.size != groups * inner:  # Layers read it along another dimension too.
        mean, variance = np.zeros(groups * inner), np.ones(groups * inner)
    spread = [
        np.repeat(values.reshape(groups, -1), channels // groups, axis=0)
        for values in (mean, variance)
    ]
    return InputStatistics(*spread)


def _quantize_constants(graph: ir.Graph, node: ir.Node, symmetric: bool) -> None:
    """Hangs a grid on the constant operand of a binary ``node``."""
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None:
            whole = Range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
            grid = make_grid(whole, symmetric=symmetric)
            set_quantization(_own(graph, node, index), grid)


def _own(
    graph: ir.Graph, node: ir.Node, index: int, shape: tuple[int, ...] | None = None
) -> ir.Value:
    """Returns the initializer at input ``index``, copied if others use it or it is to have another shape."""
    value = node.inputs[index]
    array = constant(value)
    assert value is not None
    assert array is not None
    if (
        len(value.uses()) == 1
        and not value.is_graph_output()
        and (shape is None or array.shape == shape)
    ):
        return value
    if shape is not None:
        array = np.broadcast_to(array.reshape(-1), shape)
    copy = add_initializer(graph, str(value.name), array)
    node.replace_input_with(index, copy)
    return copy
