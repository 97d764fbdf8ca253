"""Chooses the range of a value from its sketch, within its clamp and without what only masks places."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import (
    Calibration,
    Range,
    RangeChoice,
    TensorSketch,
    choose_range,
)
from edgekit.converters.grids import make_grid
from edgekit.converters.passes.bound_masks import MASKED, feeds_softmax, masked_sums
from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.quantization import ActivationQuantization
from edgekit.targets.errors import CalibrationError

# Values that Softmax takes and that lie below this were lowered by a mask (``BoundMasks``).
_MASKED = float(MASKED) / 2
# What lies so far below the largest value has no share that 8 bits could tell from 0: exp(-8) is less than 1/512.
_UNLIKELY = 8.0
# Significant bits of a range's end: rounding it costs at most 0.4 % of the range.
_RANGE_BITS = 9
_KEY = "edgekit.live_range"


def limit_range(value: ir.Value, live: Range | None) -> None:
    """Hangs on ``value`` the interval beyond which it makes no difference how far it goes; None: there is none."""
    if live is None:
        value.meta.pop(_KEY, None)
    else:
        value.meta[_KEY] = live


def make_grid_by(
    value: ir.Value, calibration: Calibration, choice: RangeChoice
) -> ActivationQuantization:
    """Returns the grid that ``value`` of a quantized graph would have by another choice, if it shared none."""
    return make_grid(range_of(value, calibration, choice), get_clamp(value), choice.symmetric)


def range_of(value: ir.Value, calibration: Calibration, choice: RangeChoice) -> Range:
    """Returns the range of ``value`` from its sketch, within a clamp that was fused into it, of what matters."""
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
    live = value.meta.get(_KEY)
    if sketch.lo < _MASKED:
        found = _masked_range(value, sketch, calibration, choice)
    elif live is not None:
        found = choose_range(sketch.within(live.lo, live.hi), choice.of(name))
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
        sums = [range_of(each, calibration, choice) for each in masked_sums(value)]
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
