"""The records of quantization as arrays of a file: scales, zero points and codes, in a style's types."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import ActivationQuantization, WeightQuantization
from edgekit.converters.write_onnx.styles import Style

Array = npt.NDArray[np.generic]


def grid_arrays(record: ActivationQuantization, style: Style) -> tuple[Array, Array]:
    """Returns scale and zero point, scalars."""
    zero_point = np.array(record.zero_point + style.shift, style.codes)
    return np.array(record.scale, np.float32), zero_point


def encode(real: npt.NDArray[np.generic], record: ActivationQuantization, style: Style) -> Array:
    """Returns the codes of a constant, as the style stores them."""
    grid = np.rint(real.astype(np.float32) / record.scale) + record.zero_point
    codes: Array = (np.clip(grid, record.lo, record.hi) + style.shift).astype(style.codes)
    return codes


def bound(record: ActivationQuantization, code: int) -> npt.NDArray[np.float32]:
    """Returns the real value of a code, a scalar."""
    real = np.float32(code - record.zero_point) * np.float32(record.scale)
    return np.array(real, np.float32)


def weight_arrays(record: WeightQuantization) -> tuple[Array, Array, int | None]:
    """Returns scale, zero point and axis of a weight or bias; scalars and no axis where there is one scale."""
    per_channel = record.scale.size > 1
    scale = record.scale.astype(np.float32).reshape((-1,) if per_channel else ())
    return scale, np.zeros(scale.shape, record.codes.dtype), record.axis if per_channel else None


def decode(record: WeightQuantization) -> npt.NDArray[np.float32]:
    """Returns the real values of a weight or bias: each product rounded to float32."""
    shape = [-1 if i == record.axis else 1 for i in range(record.codes.ndim)]
    scale = record.scale.astype(np.float32)
    if scale.size > 1:
        scale = scale.reshape(shape)
    return (record.codes.astype(np.float32) * scale).astype(np.float32)
