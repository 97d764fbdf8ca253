"""Hangs the records on a layer whose codes have more bits than a product takes, and come in parts."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, Range, RangeChoice
from edgekit.converters.compensate import Hessians
from edgekit.converters.grids import make_grid
from edgekit.converters.layer_rounding import LayerRounding
from edgekit.converters.part_program import PARTS_OF_A_CODE
from edgekit.converters.passes.fuse_clamps import clamp_of
from edgekit.converters.passes.rewrite import constant, only_consumer
from edgekit.converters.program import MAX_CODE, MIN_CODE
from edgekit.converters.quantizable import output_axis
from edgekit.converters.quantization import (
    ActivationQuantization,
    PartGrids,
    WeightQuantization,
    set_quantization,
    take_parts,
)
from edgekit.converters.quantize.nodes import own_constant, read_statistics
from edgekit.converters.quantize.weights import largest_start, round_up
from edgekit.converters.value_ranges import range_of

# The other parts reach so far from the zero point.
_REACH = 16
_LIMIT = 127
# What unrounded values may exceed those that calibration saw by.
_FURTHER = 1.25


def quantize_parts(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    choice: RangeChoice,
    *,
    has_rest: bool,
) -> None:
    """Hangs the record on the weights of ``node``, whose bias stays float32, and the grids on itself.

    Weights are ``scale * (codes + rest / 16)``: the codes as those of an int8 layer, the rest rounded by the same
    Hessian, or left out.

    Args:
        graph: Of the node.
        node: A layer.
        calibration: Of the float model.
        hessians: Of layers' inputs, or None.
        choice: How ranges are chosen.
        has_rest: Whether weights have a second part.
    """
    axis = output_axis(node)
    weight = own_constant(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    source, result = node.inputs[0], find_result(node)
    assert source is not None
    seen = range_of(source, calibration, choice)
    if not source.is_graph_input():
        seen = _reach_further(source, seen)
    plain = make_grid(seen, symmetric=choice.symmetric)
    # What a network is given mostly has 8 bits already, as pictures have.
    is_given = source.is_graph_input() and not has_rest
    grids = PartGrids(
        plain if is_given else leave_room(plain),
        make_grid(range_of(result, calibration, choice), symmetric=choice.symmetric),
        whole=is_given,
    )
    moved = np.moveaxis(array, axis, 0)
    rows = moved.reshape(*moved.shape[:2], -1).astype(np.float64)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    offset = np.zeros(len(rows))
    if bias is not None:
        offset = np.broadcast_to(bias.reshape(-1), (len(rows),)).astype(np.float64)
    peak = np.abs(rows).max(axis=(1, 2), initial=0.0)
    scale = np.where(peak > 0, peak / _LIMIT, 1.0)
    least = largest_start(offset, min(float(plain.scale), float(grids.input.scale)))
    scale = round_up(np.maximum(scale, least))
    inputs = read_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    scale = rounding.fit_scales(rows, _LIMIT, scale)
    targets = rows / scale[:, None, None]
    codes = rounding(targets, inputs, _LIMIT)
    rest = None
    if has_rest:
        rest = rounding((targets - codes) * PARTS_OF_A_CODE, inputs, _LIMIT)

    def shape(found: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
        return np.ascontiguousarray(np.moveaxis(found.reshape(moved.shape), 0, axis), np.int8)

    set_quantization(
        weight,
        WeightQuantization(
            shape(codes),
            scale.astype(np.float32),
            axis,
            rest=None if rest is None else shape(rest),
        ),
    )
    take_parts(node, grids)


def _reach_further(value: ir.Value, seen: Range) -> Range:
    """Returns a range that other samples leave less often; of codes with 12 bits that costs a part of one bit.

    A clamp is as far as a value gets anywhere.
    """
    maker = value.producer()
    bounds = None if maker is None or maker.op_type not in ("Relu", "Clip") else clamp_of(maker)
    lo, hi = seen.lo * _FURTHER, seen.hi * _FURTHER
    return Range(lo, hi) if bounds is None else Range(max(lo, bounds.lo), min(hi, bounds.hi))


def find_result(node: ir.Node) -> ir.Value:
    """Returns the output of ``node``, or of the clamp that alone reads it."""
    value = node.outputs[0]
    reader = None if value.is_graph_output() else only_consumer(value)
    if reader is not None and reader.op_type in ("Relu", "Clip") and clamp_of(reader) is not None:
        return reader.outputs[0]
    return value


def leave_room(grid: ActivationQuantization) -> ActivationQuantization:
    """Returns a grid over the same range whose zero point leaves 16 codes on each side for the other parts."""
    lowest, highest = MIN_CODE + _REACH, MAX_CODE - _REACH
    if lowest <= grid.zero_point <= highest:
        return grid
    zero_point = int(np.clip(grid.zero_point, lowest, highest))
    below = (grid.zero_point - grid.lo) / max(zero_point - MIN_CODE, 1)
    above = (grid.hi - grid.zero_point) / max(MAX_CODE - zero_point, 1)
    scale = np.float32(float(grid.scale) * max(below, above))
    # What the range ends at is a clamp for whoever made it: the codes end there too.
    ends = np.float64(grid.scale) * (np.array([grid.lo, grid.hi]) - grid.zero_point)
    lo, hi = np.rint(ends / float(scale)) + zero_point
    return ActivationQuantization(scale, zero_point, int(lo), int(hi))
