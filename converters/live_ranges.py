"""LimitRanges: leaves out of a value's range what all functions that read it take for the same.

A hard-swish gives 0 wherever its input is below -3, a sigmoid rounds to 1 from 6.3 on: codes for what lies beyond all
stand for one answer, and steps are finer without them. Of magika's convolution in front of a GELU, half of the range is
such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, Range, RangeChoice
from edgekit.converters.grids import make_grid
from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.quantizable import FIXED, MOVES, SYMMETRIC_UNIT
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.regions import Region
from edgekit.converters.tables import code_table
from edgekit.converters.value_ranges import limit_range, range_of

# How often a range is cut: on finer steps more may be seen to be the same.
_ROUNDS = 2
_WHOLE = Range(-math.inf, math.inf)


def limit_ranges(
    nodes: Iterable[ir.Node],
    regions: Mapping[ir.Node, Region],
    calibration: Calibration,
    choice: RangeChoice,
) -> None:
    """Hangs on values what of their ranges matters, where only functions of one value read them.

    Between the operator that makes a value and the functions codes may move. The table from codes to those of the
    result then gives one code at most for one code of either end.

    Args:
        nodes: The quantized nodes, in graph order; of a region the last one.
        regions: By their last node.
        calibration: What calibration learned.
        choice: How ranges are chosen.
    """
    order = list(nodes)
    steps = set(order)
    by_source: dict[ir.Value, list[Region]] = {}
    for region in regions.values():
        by_source.setdefault(region.source, []).append(region)
    inside = {node: region for region in regions.values() for node in region.nodes}
    matters: dict[ir.Value, Range] = {}
    for node in reversed(order):
        value = node.outputs[0]
        found: list[Range] = []
        for use in value.uses():
            reader = use.node
            if reader in inside and inside[reader].source is value:
                continue
            passes_on = reader in steps and reader not in regions and reader.op_type in MOVES
            found.append(matters.get(reader.outputs[0], _WHOLE) if passes_on else _WHOLE)
        readers = by_source.get(value, [])
        # What a Concat joins keeps its grids, and would be requantized to a narrower one of the whole.
        if value.is_graph_output() or not (found or readers) or node.op_type == "Concat":
            continue
        found += [_find_live(value, region, calibration, choice) for region in readers]
        live = Range(min(each.lo for each in found), max(each.hi for each in found))
        if live == _WHOLE:
            continue
        matters[value] = live
        # Values between which codes only move share the union of their ranges.
        limit_range(value, live)


def _find_live(
    value: ir.Value, region: Region, calibration: Calibration, choice: RangeChoice
) -> Range:
    """Returns the interval of ``value`` beyond which ``region`` gives the code that it has at its end."""
    last = region.nodes[-1]
    if last.op_type in FIXED:
        target = SYMMETRIC_UNIT if choice.symmetric else FIXED[last.op_type]
    else:
        result = region.output
        target = make_grid(
            range_of(result, calibration, choice), get_clamp(result), choice.symmetric
        )
    function = region.function()
    reach = range_of(value, calibration, choice)
    lo, hi = -math.inf, math.inf
    for _ in range(_ROUNDS):
        grid = make_grid(reach)
        table = code_table(function, grid, target)
        changes = np.flatnonzero(np.diff(table))
        if not changes.size:
            break
        first, last_code = int(changes[0]), int(changes[-1]) + 1
        if first > 0:
            lo = _real(grid, first)
        if last_code < len(table) - 1:
            hi = _real(grid, last_code)
        reach = Range(max(reach.lo, lo), min(reach.hi, hi))
    return Range(lo, hi)


def _real(grid: ActivationQuantization, place: int) -> float:
    """Returns what the code at a place of a table stands for."""
    return float(grid.scale) * (place - 128 - grid.zero_point)
