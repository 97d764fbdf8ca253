"""How codes are stored: int8 as the program has them, or int16 over the same ranges (16x8: weights stay int8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import DType, Float32Array, Int32Array, Tensor
from edgekit.converters.tflite.model_file import Grid

Array = npt.NDArray[Any]

_MAX_WIDE = 32767
# Grids that TFLite's kernels insist on, by those that the program has for the same functions.
UNITS = {(np.float32(1 / 256), -128), (np.float32(1 / 128), 0)}
_WIDE_UNIT = np.float32(1 / 32768)


class Codes:
    """int8 on the program's grids; biases are int32.

    Attributes:
        dtype: Of codes.
        bias_dtype: Of biases.
        is_wide: Whether they have 16 bits.
    """

    dtype: type[np.signedinteger[Any]] = np.int8
    bias_dtype: type[np.signedinteger[Any]] = np.int32
    is_wide = False

    def scale(self, tensor: Tensor) -> np.float32:
        """Returns the scale of a tensor's codes in the file."""
        return np.float32(tensor.scale)

    def grid(self, tensor: Tensor) -> Grid | None:
        """Returns the grid of a tensor's codes in the file, None of plain numbers."""
        if tensor.dtype is not DType.CODE:
            return None
        return Grid(np.array([tensor.scale], np.float32), tensor.zero_point)

    def elements(self, data: Array, tensor: Tensor) -> Array:
        """Returns a constant of the program as the file stores it."""
        return data

    def bias(self, bias: Int32Array, x: Tensor, weight_scale: Float32Array) -> tuple[Array, Grid]:
        """Returns a layer's bias and its grid, for an input ``x``."""
        return bias, Grid(self.scale(x) * weight_scale)


class WideCodes(Codes):
    """int16 on ``s = max(-lo, hi) / 32767`` over each range ``[lo, hi]`` of the program; biases are int64."""

    dtype = np.int16
    bias_dtype = np.int64
    is_wide = True

    def scale(self, tensor: Tensor) -> np.float32:
        """Returns the scale of a tensor's codes in the file."""
        if (np.float32(tensor.scale), tensor.zero_point) in UNITS:
            return _WIDE_UNIT
        reach = max(128 + tensor.zero_point, 127 - tensor.zero_point)
        return np.float32(float(tensor.scale) * reach / _MAX_WIDE)

    def grid(self, tensor: Tensor) -> Grid | None:
        """Returns the grid of a tensor's codes in the file, None of plain numbers."""
        if tensor.dtype is not DType.CODE:
            return None
        return Grid(np.array([self.scale(tensor)], np.float32))

    def elements(self, data: Array, tensor: Tensor) -> Array:
        """Returns a constant of the program as the file stores it."""
        if tensor.dtype is not DType.CODE:
            return data
        real = (data.astype(np.float64) - tensor.zero_point) * float(tensor.scale)
        codes = np.rint(real / float(self.scale(tensor))).clip(-_MAX_WIDE, _MAX_WIDE)
        return np.asarray(codes, np.int16)

    def bias(self, bias: Int32Array, x: Tensor, weight_scale: Float32Array) -> tuple[Array, Grid]:
        """Returns a layer's bias and its grid, for an input ``x``."""
        finer = float(x.scale) / float(self.scale(x))
        codes = np.asarray(np.rint(bias.astype(np.float64) * finer), np.int64)
        return codes, Grid(self.scale(x) * weight_scale)
