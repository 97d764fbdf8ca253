"""The judge of 16x8 layers: docs/arithmetic.md, "16x8", in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.float_reference import cut_windows
from edgekit.converters.program import Float32Array, Op, Program
from edgekit.converters.wide_program import MOST_WIDE, WideConv, WideDepthwiseConv, WideLayer

Array = npt.NDArray[Any]


def wide_codes(x: Array, step: np.float32) -> npt.NDArray[np.int16]:
    """Returns ``clamp(rne(x / step), -32767, 32767)``; NaN gives -32767."""
    with np.errstate(all="ignore"):
        ratio = x / np.float32(step)
    codes = np.rint(np.where(np.isnan(ratio), -MOST_WIDE, np.clip(ratio, -MOST_WIDE, MOST_WIDE)))
    return codes.astype(np.int16)


def _conv(program: Program, op: WideConv, tensors: Mapping[str, Array]) -> Float32Array:
    codes = wide_codes(tensors[op.input], op.input_step).astype(np.int64)
    flat = op.weights.reshape(len(op.weights), -1).astype(np.int64)
    if codes.ndim == 4:
        patches = cut_windows(codes, op.window)
        codes = patches.reshape(*patches.shape[:3], -1)
    return _finish(op, codes @ flat.T)


def _depthwise(
    program: Program, op: WideDepthwiseConv, tensors: Mapping[str, Array]
) -> Float32Array:
    patches = cut_windows(wide_codes(tensors[op.input], op.input_step).astype(np.int64), op.window)
    sums = (patches * op.weights.transpose(1, 2, 0).astype(np.int64)).sum(axis=(3, 4))
    return _finish(op, sums)


def _finish(op: WideLayer, sums: npt.NDArray[np.int64]) -> Float32Array:
    codes = np.rint((sums.astype(np.float64) + op.bias) * op.multiplier).clip(op.lo, op.hi)
    return codes.astype(np.float32) * np.float32(op.output_step)


WIDE_RULES: dict[type[Op], Callable[..., Array]] = {
    WideConv: _conv,
    WideDepthwiseConv: _depthwise,
}
