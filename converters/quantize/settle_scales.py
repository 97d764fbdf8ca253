"""Scales of weights that let kernels requantize in one operation.

A product rounded to float32 and then to a whole number is not always the product rounded once. Where two products of
a channel next to the middle of two codes disagree on it, no multiplication and addition gives that channel's codes,
and a scale one last place away, a ten-millionth, mostly has no such products. So scales are raised by as little as
that, channel by channel, before anything is derived from them: every form and every kernel computes with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.quantize.weights import LayerQuantization

# Input codes as kernels hold them: the largest magnitude, and what is added to a code.
_STORAGES = ((128, 0), (255, 128))


def most_products(rows: npt.NDArray[np.integer[Any]]) -> int:
    """Returns how many weights of a channel, ``[channels, k]``, are not 0 at most."""
    return int(np.count_nonzero(rows, axis=1).max(initial=0))


def settle_scales(
    layer: LayerQuantization, source: ActivationQuantization, result: ActivationQuantization
) -> LayerQuantization:
    """Returns a layer of int8 weights with such scales, where its outputs have few enough products."""
    record, bias = layer.weight, layer.bias
    rows = np.moveaxis(record.codes, record.axis, 0).astype(np.int64)
    rows = rows.reshape(len(rows), -1)
    if not 0 < most_products(rows) <= _native.MOST_FUSED_DEPTH:
        return layer
    start = np.zeros(len(rows), np.int64) if bias is None else bias.codes.astype(np.int64)
    largest, total = np.abs(rows).sum(axis=1), rows.sum(axis=1)
    starts = np.stack([start - (source.zero_point + offset) * total for _, offset in _STORAGES])
    reach = np.stack([most * largest for most, _ in _STORAGES])
    scale = _native.settle_scales(
        np.array(np.broadcast_to(record.scale, (len(rows),)), np.float32),
        float(source.scale),
        float(result.scale),
        result.zero_point,
        result.lo,
        result.hi,
        starts - reach,
        starts + reach,
    )
    settled = None if bias is None else replace(bias, scale=np.float32(source.scale) * scale)
    return replace(layer, weight=replace(record, scale=scale), bias=settled)
