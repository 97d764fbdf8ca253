"""Alignment and migration: channels are scaled until each fills the grid of its tensor, where that is worth it.

Alignment moves the channels that layers make; migration those of normalizations, whose outliers go into the weights
behind them (Xiao, Lin, Seznec, Wu, Demouth and Han, "SmoothQuant", 2023), the share of the outliers that goes there
being the one with the least noise.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.recover.fill_grids import ROOM, choose_factors, find_groups
from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.converters.recover.report import LayerEffect
from edgekit.converters.recover.rescale import bounds_of, rescale

# Less than this is not worth a change.
_LEAST_DB = 0.05
_NORMS = frozenset({"BatchNormalization", "InstanceNormalization", "LayerNormalization"})


def align(
    model: ir.Model, calibration: Calibration, *, move_bounds: bool = False
) -> list[LayerEffect]:
    """Scales the channels that layers make so that int8 loses least, in place; the answers stay, but for rounding.

    Channels behind a Clip keep one factor, so that its bounds stay. With ``move_bounds`` those that calibration saw
    below half of the upper bound may be raised as far as leaves them twice the room that they took there; on other
    samples they may be clipped earlier than before, so that the answers stay for what calibration saw alone.

    Args:
        model: A simplified float graph.
        calibration: Of this graph.
        move_bounds: Whether calibration may decide where Clips clip.

    Returns:
        The layers whose output channels were moved, and by how much the noise at their readers falls.
    """
    return _fill(model, calibration, norms=False, move_bounds=move_bounds)


def migrate(model: ir.Model, calibration: Calibration) -> list[LayerEffect]:
    """Scales the channels that normalizations make so that int8 loses least, in place; the answers stay.

    Args:
        model: A simplified float graph.
        calibration: Of this graph.

    Returns:
        The normalizations whose channels were moved, and by how much the noise at their readers falls.
    """
    return _fill(model, calibration, norms=True, move_bounds=False)


def _fill(
    model: ir.Model, calibration: Calibration, *, norms: bool, move_bounds: bool
) -> list[LayerEffect]:
    scaling = find_scaling(model)
    factors: dict[int, float] = {}
    bounds: dict[ir.Node, tuple[float, float]] = {}
    effects = []
    for group in find_groups(model, scaling, calibration, move_bounds=move_bounds):
        if norms != any(node.op_type in _NORMS for node in group.makers):
            continue
        found, gain = choose_factors(group)
        if gain < _LEAST_DB:
            continue
        factors.update(zip(group.roots[1:].tolist(), found[1:].tolist(), strict=True))
        for clip, where, hi in group.clips:
            lo, bound = bounds_of(clip)
            if not group.fixed[where].any():
                bound = ROOM * float((found[where] * hi).max())
            bounds[clip] = lo, bound
        moved = found[np.abs(np.log(found)) > 1e-3]
        name = group.makers[0].name if group.makers else ""
        note = f"{moved.size} channels by {moved.min():.3g} to {moved.max():.3g}"
        if group.clips:
            note += ", clipped where calibration saw their largest value"
        effects.append(LayerEffect(name or "", gain, note))
    if factors:
        rescale(model, scaling, factors, bounds=bounds)
        infer_shapes(model)
    return effects
