"""Puts the weights and biases of a layer into integers, and proves that its sums stay in int32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import WeightQuantization
from edgekit.converters.round_weights import InputStatistics, round_weights

_WEIGHT_LIMIT = 127
# A bias takes at most half of int32; the products get what it leaves.
_BIAS_LIMIT = float(1 << 30)
_INT32_MAX = (1 << 31) - 1
# However a kernel stores its input (q, q + 128) and wherever it keeps the zero point, a partial sum is at most
# |bias| + |zero_point| * sum|w| + |input| * sum|w|, and both factors are at most 255.
_PRODUCT_FACTOR = 2 * 255
# An x86 without VNNI adds two products of uint8 and int8 in 16 bits (VPMADDUBSW): two weights of one sign whose sum is
# at most this never leave them, 255 * 128 being 32640. Weights of two signs can't.
PAIR_LIMIT = 128
# Bits that the bias of a channel without weights is given.
_LONE_BIAS = float(1 << 20)

# From weights [C, I, P], the largest code and the smallest scales [C] to scales of float32 that are no smaller.
FitScales = Callable[
    [npt.NDArray[np.float64], int, npt.NDArray[np.float64]], npt.NDArray[np.float64]
]
# As round_weights.
Rounding = Callable[..., npt.NDArray[np.float64]]


@dataclass(frozen=True)
class LayerQuantization:
    """The records of one layer.

    Attributes:
        weight: int8 codes.
        bias: int32 codes, or None where the layer has no bias.
        widened: Output channels whose scale had to grow beyond ``max|w| / 127`` to keep sums in int32.
        narrowed: Those whose scale had to grow to keep pairs of products in int16.
    """

    weight: WeightQuantization
    bias: WeightQuantization | None
    widened: tuple[int, ...]
    narrowed: tuple[int, ...] = ()


def quantize_layer(
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    input_scale: np.float32,
    axis: int,
    inputs: InputStatistics,
    rounding: Rounding = round_weights,
    *,
    pair_limit: int | None = None,
    fit: FitScales | None = None,
) -> LayerQuantization:
    """Quantizes a layer's weights, symmetric for each output channel, and its bias, as in docs/arithmetic.md.

    ``s_w[c] = max|w[c]| / 127``, larger where the bias or the sum of products would not fit in int32.

    Args:
        weight: Finite; without ``axis``, its first dimension is that of input channels.
        bias: Finite, ``[C]``, or None.
        input_scale: Scale of the layer's input.
        axis: Dimension of ``weight`` with the C output channels.
        inputs: Statistics of the layer's input, for the choice between rounding up and down.
        rounding: What chooses: `round_weights`, or what remembers it.
        pair_limit: What the codes of two weights of one sign in an output channel may sum up to, whichever two a
            kernel takes together (`PAIR_LIMIT`); None where nothing saturates.
        fit: Chooses scales a little above the smallest; None takes these.
    """
    moved = np.moveaxis(weight, axis, 0)
    rows = moved.reshape(*moved.shape[:2], -1).astype(np.float64)
    offset = np.zeros(len(rows)) if bias is None else bias.astype(np.float64)
    peak = np.abs(rows).max(axis=(1, 2), initial=0.0)
    step = float(input_scale)
    scale = peak / _WEIGHT_LIMIT
    lone = peak == 0
    scale[lone] = np.where(offset[lone] != 0, np.abs(offset[lone]) / (step * _LONE_BIAS), 1.0)
    needed = largest_start(offset, step)
    widened = set(np.flatnonzero(needed > scale))
    scale = round_up(np.maximum(scale, needed))
    narrowed: set[np.int64] = set()
    if pair_limit is not None:
        least = largest_pairs(rows.reshape(len(rows), -1)) / pair_limit
        narrowed = set(np.flatnonzero(least > scale))
        scale = round_up(np.maximum(scale, least))

    if fit is not None:
        scale = fit(rows, _WEIGHT_LIMIT, scale)
    codes = rounding(rows / scale[:, None, None], inputs, _WEIGHT_LIMIT)
    offsets = encode_bias(offset, scale, step)
    while True:
        products = _PRODUCT_FACTOR * np.abs(codes).sum(axis=(1, 2))
        room = _INT32_MAX - np.abs(offsets)
        over = products > room
        widened.update(np.flatnonzero(over))
        factor = np.where(over, products / np.maximum(room, 1.0) * 1.001, 1.0)
        if pair_limit is not None:
            pairs = largest_pairs(codes.reshape(len(codes), -1))
            narrowed.update(np.flatnonzero(pairs > pair_limit))
            factor = np.where(pairs > pair_limit, np.maximum(factor, pairs / pair_limit), factor)
        over = factor > 1
        if not over.any():
            break
        scale[over] = round_up(scale[over] * factor[over])
        codes = rounding(rows / scale[:, None, None], inputs, _WEIGHT_LIMIT)
        offsets = encode_bias(offset, scale, step)

    scale32 = scale.astype(np.float32)
    whole = np.moveaxis(codes.reshape(moved.shape), 0, axis)
    weight_record = WeightQuantization(np.ascontiguousarray(whole, np.int8), scale32, axis)
    bias_record = None
    if bias is not None:
        bias_record = WeightQuantization(
            offsets.astype(np.int32), np.float32(input_scale) * scale32, 0
        )
    return LayerQuantization(
        weight_record,
        bias_record,
        tuple(int(c) for c in sorted(widened)),
        tuple(int(c) for c in sorted(narrowed)),
    )


def limit_biases(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the largest magnitude that the bias of each output channel may have with weights' codes ``[C, K]``."""
    room: npt.NDArray[np.float64] = _INT32_MAX - _PRODUCT_FACTOR * np.abs(rows).sum(axis=1)
    return np.minimum(room, _BIAS_LIMIT)


def largest_pairs(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns for each row the largest magnitude of the sum of two elements that are of one sign, or one and 0."""
    ends = np.concatenate([rows, np.zeros((len(rows), 2))], axis=1)
    ends.sort(axis=1)
    sums: npt.NDArray[np.float64] = np.maximum(ends[:, -2:].sum(axis=1), -ends[:, :2].sum(axis=1))
    return sums


def largest_start(
    offset: npt.NDArray[np.float64], step: float, times: int = 1
) -> npt.NDArray[np.float64]:
    """Returns the scale that weights need at least for ``times`` their bias to fit, ``[C]``.

    The product with ``step``, the input's scale, must be a normal float32, since it is the bias's scale.
    """
    smallest = float(np.finfo(np.float32).tiny) * 2
    return np.maximum(np.abs(offset) * times / (step * _BIAS_LIMIT), max(smallest / step, smallest))


def round_up(scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the next float32 that is not smaller, so that no code exceeds its limit."""
    rounded = scale.astype(np.float32)
    small = rounded.astype(np.float64) < scale
    rounded[small] = np.nextafter(rounded[small], np.float32(np.inf))
    return rounded.astype(np.float64)


def encode_bias(
    offset: npt.NDArray[np.float64], scale: npt.NDArray[np.float64], step: float
) -> npt.NDArray[np.float64]:
    """Returns the codes of a bias on the scale ``float32(step * scale)``, ``[C]``."""
    bias_scale = np.float32(step) * scale.astype(np.float32)
    return np.rint(offset / bias_scale.astype(np.float64))
