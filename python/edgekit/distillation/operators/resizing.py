"""Resize of an image, nearest or linear, by the places that the converter computes for the native form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekit.converters.lower.resizing import find_places, find_real_sources
from edgekit.distillation.operators.call import Call, Operator

# Parts of an element that docs/arithmetic.md gives the weights of a linear resize in.
_PARTS = 2048


def _resize(call: Call) -> Tensor:
    x = call[0]
    if x.ndim != 4:
        call.refuse(f"it resizes a tensor of rank {x.ndim}, not 4")
    if call.integer("antialias", 0):
        call.refuse("it filters against aliasing")
    mode = call.text("mode", "nearest")
    if mode not in ("nearest", "linear"):
        call.refuse(f"it resizes in mode {mode!r}")
    factors, sizes = call.get(2), call.get(3)
    places = find_places(
        call.node,
        tuple(x.shape),
        None if sizes is None or not sizes.numel() else sizes.numpy(),
        None if factors is None or not factors.numel() else factors.numpy(),
    )
    for axis, place in zip((3, 2), reversed(places), strict=True):
        pairs, weights = find_real_sources(call.node, mode, place, x.shape[axis])
        first = x.index_select(axis, torch.from_numpy(pairs[:, 0].astype(np.int64)))
        if not weights.any():
            x = first
            continue
        if call.exact_codes:
            weights = (np.rint(weights * _PARTS) / _PARTS).astype(np.float32)
        share = torch.from_numpy(weights)
        share = share.reshape([-1 if i == axis else 1 for i in range(4)])
        second = x.index_select(axis, torch.from_numpy(pairs[:, 1].astype(np.int64)))
        x = (1 - share) * first + share * second
    return x


OPERATORS: dict[str, Operator] = {"Resize": _resize}
