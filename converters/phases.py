"""Cuts the weights of a transposed convolution into those of its phases, each a plain convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import Window


def cut_phases(
    weights: npt.NDArray[Any], window: Window, in_width: int, out_width: int, groups: int = 1
) -> list[npt.NDArray[Any]]:
    """Returns the weights ``[n, taps, c]`` of each phase, as csrc/ops/conv_transpose.h lists them.

    Args:
        weights: ``[n, kernel_h, kernel_w, c]``.
        window: Of the layer.
        in_width: Columns of its input.
        out_width: Columns of its output.
        groups: How many parts the channels are cut into.
    """
    rows = _phase_taps(window.kernel_h, window.stride_h, window.dilation_h)
    columns = _phase_taps(window.kernel_w, window.stride_w, window.dilation_w)
    count, _, _, depth = weights.shape
    joined = (
        groups == 1
        and window.kernel_w == window.stride_w
        and window.dilation_w == 1
        and window.pad_left == 0
        and in_width * window.stride_w == out_width
    )
    phases = []
    for row in rows:
        if joined:
            # [kernel_w, n, taps, c]: the columns of the window one behind the other.
            whole = weights[:, row].transpose(2, 0, 1, 3)
            phases.append(_or_zeros(whole, window.kernel_w * count, len(row), depth))
            continue
        for column in columns:
            part = weights[:, row][:, :, column]
            taps = max(len(row), 1) * max(len(column), 1)
            phases.append(_or_zeros(part, count, taps, depth))
    return phases


def _phase_taps(kernel: int, stride: int, dilation: int) -> list[list[int]]:
    """Returns the taps of each phase of an axis: of the outputs x with ``(x + pad) % stride == phase``."""
    return [
        [tap for tap in range(kernel) if (phase - tap * dilation) % stride == 0]
        for phase in range(stride)
    ]


def _or_zeros(weights: npt.NDArray[Any], count: int, taps: int, depth: int) -> npt.NDArray[Any]:
    """Returns ``weights`` as ``[count, taps, depth]``, and zeros of one tap or more where they are empty."""
    if weights.size == 0:
        return np.zeros((count, max(taps, 1), depth), weights.dtype)
    return np.ascontiguousarray(weights.reshape(count, taps, depth))
