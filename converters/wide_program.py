"""The 16x8 layers of a lowered program, one to one with the Wide tables of csrc/runtime/plan.fbs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import Float32Array, Int8Array, Unary, Window

MOST_WIDE = 32767


@dataclass(frozen=True, eq=False, kw_only=True)
class WideLayer(Unary):
    """A layer of int8 weights on int16 codes around 0, between float32 tensors: docs/arithmetic.md, "16x8".

    Attributes:
        weights: int8, the shape is each layer's own.
        weight_scale: float32 ``[n]``.
        bias: float64 ``[n]``, whole numbers: codes of the scale ``input_step * weight_scale``.
        multiplier: float64 ``[n]``: ``input_step * weight_scale / output_step``.
        input_step: The scale of the input's codes, float32.
        output_step: That of the output's.
        window: Kernel, strides, dilations and pads.
        lo: Smallest code of the output.
        hi: Largest code of the output.
    """

    weights: Int8Array
    weight_scale: Float32Array
    bias: npt.NDArray[np.float64]
    multiplier: npt.NDArray[np.float64]
    input_step: np.float32
    output_step: np.float32
    window: Window
    lo: int = -MOST_WIDE
    hi: int = MOST_WIDE


@dataclass(frozen=True, eq=False, kw_only=True)
class WideConv(WideLayer):
    """Dense convolution of weights ``[n][kernel_h][kernel_w][c]``; of rows where the kernel is one element."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WideDepthwiseConv(WideLayer):
    """Convolution of each channel with its own kernel; weights are ``[c][kernel_h][kernel_w]``."""
