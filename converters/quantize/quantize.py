"""Static int8: decides which nodes are quantized, chooses ranges, and hangs the records on the values.

The graph that comes out still has the float operators; a value with a record is int8 there. What that means for
each operator is in docs/arithmetic.md, how the choices are made in docs/quantization.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import onnx_ir as ir

from edgekit.converters.calibrate import (
    Calibration,
    RangeChoice,
)
from edgekit.converters.can_hold import AskedFormats, read_formats
from edgekit.converters.compensate import Hessians
from edgekit.converters.grids import share_grids
from edgekit.converters.live_ranges import limit_ranges
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.fuse_clamps import FuseClamps
from edgekit.converters.passes.rewrite import (
    PassReport,
    forget_names,
)
from edgekit.converters.quantizable import (
    ARRANGES,
    CLAMPABLE,
    DYNAMIC,
    can_be_dynamic,
    has_constant_operands,
    has_recurrent_codes,
    is_depthwise,
    is_layer,
    obstacle,
)
from edgekit.converters.quantization import keep_float as keep_as_float
from edgekit.converters.quantization import (
    make_dynamic,
    set_quantization,
)
from edgekit.converters.quantize.int4 import GROUPS
from edgekit.converters.quantize.nodes import (
    quantize_alone,
    quantize_constants,
    quantize_recurrent,
    quantize_weights,
    quantize_wide,
    round_to_float16,
)
from edgekit.converters.quantize.parts import quantize_parts
from edgekit.converters.quantize.tables import quantize_tables
from edgekit.converters.regions import Region, find_regions
from edgekit.converters.state_paths import find_state_paths
from edgekit.converters.value_ranges import range_of
from edgekit.targets.errors import ModelError

# Why a recurrent node is among the float ones although its weights are not.
INT8_WEIGHTS = "its weights are int8, its states stay float32"
_REPORT_KEY = "edgekit.quantization_report"
# Operators that stay float where what is before them does.
_FOLLOWERS = ARRANGES | {"Clip", "Relu"}
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
    fits_scales: bool | None = None,
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
        fits_scales: Whether int8 weights of few inputs have the scales that lose least by the Hessian; by default where
            codes of any layer come in parts.

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
                make_dynamic(node, whole=node.name in asked.whole)
                quantize_alone(graph, node, calibration, hessians, four.get(node.name))
            elif node.name in asked.wide:
                quantize_wide(graph, node, calibration, hessians, choice)
            elif node.name in asked.parts:
                finer = asked.parts[node.name]
                quantize_parts(graph, node, calibration, hessians, choice, has_rest=finer)
            elif node.name in asked.float16:
                round_to_float16(graph, node)
            elif node.name in four:
                quantize_alone(graph, node, calibration, hessians, four[node.name])
            elif node not in kept and has_recurrent_codes(node):
                # Of recurrent operators runtimes have LSTM alone on codes.
                narrow = choice.narrow_weights and node.op_type == "LSTM"
                grown = quantize_recurrent(graph, node, calibration, narrow, hessians)
                if grown:
                    narrowed[node.name or ""] = grown
                reason = INT8_WEIGHTS
            float_nodes.append(FloatNode(node.name or "", node.op_type, reason))

    steps = [node for node in quantized if node in regions or node not in tabled]
    limit_ranges(steps, regions, calibration, choice)
    grids = share_grids(
        steps, regions, lambda value: range_of(value, calibration, choice), choice.symmetric
    )
    widened: dict[str, tuple[int, ...]] = {}
    for value, grid in grids.assign():
        set_quantization(value, grid)
    for node in quantized:
        if is_layer(node):
            narrow = choice.narrow_weights and not is_depthwise(node)
            group = four.get(node.name or "")
            layer = quantize_weights(
                graph,
                node,
                grids,
                calibration,
                narrow,
                hessians,
                group,
                fits_scales=bool(asked.parts) if fits_scales is None else fits_scales,
            )
            for found, channels in ((widened, layer.widened), (narrowed, layer.narrowed)):
                if channels:
                    found[node.name or ""] = channels
        elif has_constant_operands(node) and (node not in tabled or _stands_alone(node, regions)):
            quantize_constants(graph, node, choice.symmetric)
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
