"""Puts the weights of a layer into int4: codes in [-8, 7], a scale for each output channel or each group along k."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import WeightQuantization
from edgekit.converters.quantize.weights import (
    LayerQuantization,
    Rounding,
    encode_bias,
    largest_start,
    round_up,
)
from edgekit.converters.round_weights import GroupScales, InputStatistics, round_weights

LOW, HIGH = -8, 7
# Weights of an output channel along k that may share a scale; 0: all of them.
GROUPS = (0, 32, 64, 128)
# Scales that are tried, as parts of the one that reaches every weight.
_TRIES = np.linspace(0.5, 1.0, 26)
# Kernels may hold 16 times a sum (docs/arithmetic.md, "int4 weights").
_TIMES = 16

Doubles = npt.NDArray[np.float64]
# As LayerRounding.fit_int4.
Fit = Callable[[Doubles, int, Doubles], tuple[Doubles, Doubles] | None]


def quantize_int4(
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    input_scale: np.float32,
    axis: int,
    inputs: InputStatistics,
    rounding: Rounding = round_weights,
    *,
    group: int = 0,
    fit: Fit | None = None,
) -> LayerQuantization:
    """Quantizes a layer's weights to int4, and its bias where there is one scale for each output channel.

    `fit` chooses scales and codes together, where it can. Otherwise, of 26 scales between half of the one that reaches
    every weight and that one itself, each channel or group gets that whose nearest codes leave the least
    ``sum E[x_k^2] (w_k - s q_k)^2``; a bias or sums that would not fit make it larger. Then `rounding` chooses codes
    for those scales.

    Args:
        weight: Finite; without ``axis``, its first dimension is that of input channels.
        bias: Finite, ``[C]``, or None. With groups it stays float32, and is not looked at.
        input_scale: Scale of the layer's input.
        axis: Dimension of ``weight`` with the C output channels.
        inputs: Statistics of the layer's input.
        rounding: What chooses between rounding up and down.
        group: Weights of a channel that share a scale, along k of a matrix; 0: all.
        fit: As `LayerRounding.fit_int4`.
    """
    moved = np.moveaxis(weight, axis, 0)
    rows = moved.reshape(*moved.shape[:2], -1).astype(np.float64)
    count, depth, taps = rows.shape
    length = group or depth * taps
    offset = np.zeros(count) if bias is None or group else bias.astype(np.float64)
    step = float(input_scale)
    needed = round_up(largest_start(offset, step, _TIMES))[:, None]
    fitted = None if fit is None or not rows.size else fit(rows, group, needed[:, 0])
    if fitted is not None and (fitted[1] >= needed).all():
        codes, scale = fitted
        widened = set(np.flatnonzero((needed == scale).any(axis=1)))
    else:
        importance = np.repeat(inputs.mean**2 + inputs.variance, taps, axis=1)
        scale = _choose_scales(rows.reshape(count, -1), importance, max(length, 1))
        widened = set(np.flatnonzero((needed > scale).any(axis=1)))
        scale = round_up(np.maximum(scale, needed))
        spread = np.repeat(scale, length, axis=1)[:, : depth * taps].reshape(rows.shape)
        groups = GroupScales(scale, length) if group else None
        codes = rounding(rows / spread, inputs, HIGH, LOW, groups)
    whole = np.moveaxis(codes.reshape(moved.shape), 0, axis)
    scale32 = scale.astype(np.float32)
    record = WeightQuantization(
        np.ascontiguousarray(whole, np.int8),
        np.ascontiguousarray(scale32.T) if group else scale32[:, 0],
        axis,
        bits=4,
        group=group,
    )
    bias_record = None
    if bias is not None and not group:
        offsets = encode_bias(offset, scale[:, 0], step)
        bias_record = WeightQuantization(
            offsets.astype(np.int32), np.float32(input_scale) * record.scale, 0
        )
    return LayerQuantization(record, bias_record, tuple(int(c) for c in sorted(widened)))


def _choose_scales(
    rows: npt.NDArray[np.float64], importance: npt.NDArray[np.float64], length: int
) -> npt.NDArray[np.float64]:
    """Returns the scale of each run of ``length`` of each row: ``[C, runs]``."""
    count, depth = rows.shape
    runs = -(-depth // length)
    padding = ((0, 0), (0, runs * length - depth))
    weights = np.pad(rows, padding).reshape(count, runs, length)
    factors = np.pad(importance, padding).reshape(count, runs, length)
    # What was never seen still counts a little.
    factors = factors + 1e-6 * max(float(factors.max(initial=0.0)), 1e-30)
    reach = np.maximum(weights.max(axis=2) / HIGH, weights.min(axis=2) / LOW)
    smallest = float(np.finfo(np.float32).tiny) * 2
    reach = np.where(reach > 0, np.maximum(reach, smallest), 1.0)
    best, scales = np.full(reach.shape, np.inf), reach.copy()
    for part in _TRIES:
        scale = (reach * part).astype(np.float32).astype(np.float64)
        scale = np.maximum(scale, smallest)
        codes = np.rint(weights / scale[..., None]).clip(LOW, HIGH)
        error = (factors * (codes * scale[..., None] - weights) ** 2).sum(axis=2)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
    return scales
