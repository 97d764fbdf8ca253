"""LimitRanges: leaves out of a value's range what all functions that read it take for the same.

A hard-swish gives 0 wherever its input is below -3, a sigmoid rounds to 1 from 6.3 on: codes for what lies beyond all
stand for one answer, and steps are finer without them. Of magika's convolution in front of a GELU, half of the range is
such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, Range, RangeChoice
from edgekit.converters.grids import make_grid
from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.quantizable import FIXED, MOVES, SYMMETRIC_UNIT
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.regions import Region
from edgekit.converters.tables import UnaryFunction, code_table
from edgekit.converters.value_ranges import limit_range, range_of

# How often a range is cut: on finer steps more may be seen to be the same.
_ROUNDS = 2
# How often an end is moved by half a step until its code means what lies beyond.
_MOVES = 8
_WHOLE = Range(-math.inf, math.inf)


@dataclass(frozen=True)
class _Reader:
    """A function that reads a value, maybe behind operators that move codes.

    Attributes:
        function: On real numbers.
        target: The grid of its result.
        live: Beyond which it gives the code of an end.
        first: The code that it gives below.
        last: That above.
    """

    function: UnaryFunction
    target: ActivationQuantization
    live: Range
    first: int
    last: int


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
    known: dict[ir.Value, list[_Reader]] = {}
    for node in reversed(order):
        value = node.outputs[0]
        found: list[_Reader] = []
        by_others = value.is_graph_output()
        for use in value.uses():
            reader = use.node
            if reader in inside and inside[reader].source is value:
                continue
            passes_on = reader in steps and reader not in regions and reader.op_type in MOVES
            behind = known.get(reader.outputs[0]) if passes_on else None
            by_others = by_others or behind is None
            found += behind or []
        # What a Concat joins keeps its grids, and would be requantized to a narrower one of the whole.
        if by_others or node.op_type == "Concat":
            continue
        found += [_find_live(value, each, calibration, choice) for each in by_source.get(value, [])]
        if not found:
            continue
        live = Range(min(each.live.lo for each in found), max(each.live.hi for each in found))
        if live != _WHOLE and _limit(value, live, found, calibration, choice):
            # Values between which codes only move share the union of their ranges.
            known[value] = found


def _limit(
    value: ir.Value,
    live: Range,
    readers: Sequence[_Reader],
    calibration: Calibration,
    choice: RangeChoice,
) -> bool:
    """Hangs ``live`` on ``value`` where all beyond it keeps its codes; returns whether anything is left out.

    A grid ends up to half a step within its range, since 0 has a code, or further where a method cuts off more. If the
    functions' codes are others there, all that saturates gets them: what a hard-swish takes for 0 comes out of it a
    step too low everywhere. So ends move out until codes are those of what lies beyond, or are left where they were.
    """
    lo, hi = live.lo, live.hi
    moves = [0, 0]
    while (lo, hi) != (-math.inf, math.inf):
        limit_range(value, Range(lo, hi))
        grid = make_grid(range_of(value, calibration, choice), get_clamp(value), choice.symmetric)
        ends = [code_table(each.function, grid, each.target, (-128, 127)) for each in readers]
        half = float(grid.scale) / 2
        pairs = list(zip(ends, readers, strict=True))
        low = lo > -math.inf and any(codes[0] != each.first for codes, each in pairs)
        high = hi < math.inf and any(codes[1] != each.last for codes, each in pairs)
        if not low and not high:
            return True
        if low:
            lo = lo - half if moves[0] < _MOVES else -math.inf
            moves[0] += 1
        if high:
            hi = hi + half if moves[1] < _MOVES else math.inf
            moves[1] += 1
    limit_range(value, None)
    return False


def _find_live(
    value: ir.Value, region: Region, calibration: Calibration, choice: RangeChoice
) -> _Reader:
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
    whole = code_table(function, make_grid(reach), target)
    table, grid = whole, make_grid(reach)
    lo, hi = -math.inf, math.inf
    for _ in range(_ROUNDS):
        changes = np.flatnonzero(np.diff(table))
        if not changes.size:
            break
        first, last_code = int(changes[0]), int(changes[-1]) + 1
        if first > 0:
            lo = _real(grid, first)
        if last_code < len(table) - 1:
            hi = _real(grid, last_code)
        reach = Range(max(reach.lo, lo), min(reach.hi, hi))
        grid = make_grid(reach)
        table = code_table(function, grid, target)
    return _Reader(function, target, Range(lo, hi), int(whole[0]), int(whole[-1]))


def _real(grid: ActivationQuantization, place: int) -> float:
    """Returns what the code at a place of a table stands for."""
    return float(grid.scale) * (place - 128 - grid.zero_point)
