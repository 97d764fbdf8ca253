"""Chooses how TFLite pads for a window: SAME, VALID, or a PAD of its own before VALID."""

from __future__ import annotations

import math

import numpy as np

from edgekit.converters.program import Tensor, Window
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State

Pads = list[tuple[int, int]]


def place_window(
    state: State,
    source: int,
    x: Tensor,
    window: Window,
    outputs: tuple[int, int],
    *,
    fill: float | None = None,
) -> tuple[int, int]:
    """Returns the tensor to slide ``window`` over, padded where it must be, and TFLite's padding.

    TFLite's SAME puts the larger half of its pads behind; frameworks with symmetric pads differ from it where a
    stride skips.

    Args:
        state: The writer.
        source: An NHWC image in the file.
        x: The image.
        window: With the pads that the program means.
        outputs: How many windows there are, down and across.
        fill: What to pad with, a code or a number; None for what stands for 0. SAME takes what the operator means.
    """
    size = (x.shape[1], x.shape[2])
    pads = window_pads(window, size, outputs)
    if not any(map(any, pads)):
        return source, schema.Padding.VALID
    if is_same(window, size, outputs):
        return source, schema.Padding.SAME
    return add_pad(state, source, x, pads, fill), schema.Padding.VALID


def window_pads(window: Window, size: tuple[int, int], outputs: tuple[int, int]) -> Pads:
    """Returns how far each dimension of an NHWC image must reach so that every window lies inside.

    >>> window_pads(Window(3, 3, 2, 2, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1), (4, 4), (2, 2))
    [(0, 0), (1, 0), (1, 0), (0, 0)]
    """
    pads = [
        (before, max((count - 1) * stride + span - length - before, 0))
        for length, count, (span, stride, before) in zip(size, outputs, _axes(window), strict=True)
    ]
    return [(0, 0), *pads, (0, 0)]


def is_same(window: Window, size: tuple[int, int], outputs: tuple[int, int]) -> bool:
    """Returns whether TFLite's SAME places the windows where ``window`` does."""
    for length, count, (span, stride, before) in zip(size, outputs, _axes(window), strict=True):
        steps = math.ceil(length / stride)
        total = max((steps - 1) * stride + span - length, 0)
        if count != steps or before != total // 2:
            return False
    return True


def add_pad(state: State, source: int, x: Tensor, pads: Pads, fill: float | None = None) -> int:
    """Adds a PAD with what stands for 0, or a PADV2 with ``fill``; returns the padded tensor."""
    shape = [size + before + after for size, (before, after) in zip(x.shape, pads, strict=True)]
    result = state.codes(f"{x.name}:padded", shape, x)
    pad_to(state, source, x, pads, fill, result)
    return result


def pad_to(
    state: State, source: int, x: Tensor, pads: Pads, fill: float | None, output: int
) -> None:
    """Writes the padded ``source`` to ``output``."""
    inputs = [source, state.integers(pads)]
    if fill is None or fill == x.zero_point:
        state.add("PAD", inputs, output, schema.PadOptionsT())
        return
    value = state.codes(f"{x.name}:fill", (1,), x, np.array([fill], x.dtype.numpy))
    state.add("PADV2", [*inputs, value], output, schema.PadV2OptionsT())


def _axes(window: Window) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Returns the span, the stride and the pad before of both axes."""
    return (
        ((window.kernel_h - 1) * window.dilation_h + 1, window.stride_h, window.pad_top),
        ((window.kernel_w - 1) * window.dilation_w + 1, window.stride_w, window.pad_left),
    )
