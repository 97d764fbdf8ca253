"""Numbers as int8 has them (docs/arithmetic.md), still floats: forward rounded, backward as if nothing had been.

The gradient of rounding is that of the identity where a number lies inside its codes' bounds, and 0 where it saturates
(Bengio, Leonard and Courville, https://arxiv.org/abs/1308.3432).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.converters.quantization import ActivationQuantization

_LIMIT = 127.0


class _RoundToGrid(torch.autograd.Function):  # type: ignore[misc]
    """In place on one buffer and in whole vectors: torch's own takes an element at a time, and keeps a mask."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        context.save_for_backward(x)
        context.ends = (low - 0.5) * scale, (high + 0.5) * scale
        # NaN is the lowest code.
        codes = torch.mul(x, float(np.float32(1) / np.float32(scale))).round_()
        return codes.clamp_(low, high).nan_to_num_(low, high, low).mul_(scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = context.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *context.ends), None, None, None


def round_to_grid(x: Tensor, grid: ActivationQuantization) -> Tensor:
    """Returns ``s * (clamp(z + rne(x / s), lo, hi) - z)``, ties to even; a NaN is the lowest code.

    The quotient is a product with float32's ``1 / s``, so that what lies next to the middle of two codes may go the
    other way, as it may by the order of a sum.
    """
    low, high = grid.lo - grid.zero_point, grid.hi - grid.zero_point
    # The zero point is added behind rounding: before it would send ties elsewhere.
    found: Tensor = _RoundToGrid.apply(x, float(grid.scale), low, high)
    return found


def clamp_to_grid(x: Tensor, grid: ActivationQuantization) -> Tensor:
    """Returns ``x`` between the smallest and the largest number that the codes stand for."""
    scale = float(grid.scale)
    return torch.nn.functional.hardtanh(
        x, (grid.lo - grid.zero_point) * scale, (grid.hi - grid.zero_point) * scale
    )


def round_through(x: Tensor) -> Tensor:
    """Returns ``rne(x)``, whose gradient is that of ``x``."""
    return x + (torch.round(x) - x).detach()


def round_weights(weight: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Returns ``s * clamp(rne(w / s), low, high)``; a scale that needs a gradient gets that of LSQ.

    That is the code less the quotient inside the bounds, and the bound outside (Esser et al., arXiv:1902.08153).
    """
    bounded = (weight / scale).clamp(low, high)
    return round_through(bounded) * scale


def round_rows(x: Tensor, *, whole: bool = False) -> Tensor:
    """Returns each row of ``x`` as its codes stand for, by its own largest magnitude, or that of all if ``whole``.

    docs/arithmetic.md, "Dynamic products".
    """
    with torch.no_grad():
        size = x.abs()
        peak = size.amax() if whole else size.amax(dim=-1, keepdim=True)
        scale = peak / _LIMIT
        safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    return round_through((x / safe).clamp(-_LIMIT, _LIMIT)) * scale


def round_wide(x: Tensor, scale: float, most: int) -> Tensor:
    """Returns ``s * clamp(rne(x / s), -most, most)``: the codes around 0 of 16x8."""
    return round_through((x / scale).clamp(-most, most)) * scale


def least_scale(weight: Tensor, axis: int, limit: int) -> Tensor:
    """Returns the smallest float32 scale of each output channel whose codes reach every weight: ``max|w| / limit``."""
    others = [dim for dim in range(weight.ndim) if dim != axis]
    with torch.no_grad():
        exact = weight.abs().amax(dim=others).double() / limit
        rounded = exact.float()
        above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
        return torch.where(rounded.double() < exact, above, rounded)
