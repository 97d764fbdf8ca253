"""The records of quantization as arrays of a file: scales, zero points and codes, in a style's types."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.converters.part_program import PARTS_OF_A_CODE
from edgekit.converters.program import MAX_CODE, MIN_CODE
from edgekit.converters.quantization import ActivationQuantization, WeightQuantization
from edgekit.converters.write_onnx.styles import Style

Array = npt.NDArray[np.generic]


# Steps of a 16 bit grid in one of 8 bits over the same range: 65535 / 255.
_STEPS = 257


def grid_arrays(record: ActivationQuantization, style: Style) -> tuple[Array, Array]:
    """Returns scale and zero point, scalars.

    uint16 divides each step of the 8 bit grid by 257 and holds its codes and its ends; int16 is symmetric, over the
    end that is farther from 0: ``s = max(-lo, hi) / 32767``, ``z = 0``.
    """
    if style.codes == "uint16":
        zero = np.array((record.zero_point - MIN_CODE) * _STEPS, np.uint16)
        return np.array(np.float32(record.scale) / np.float32(_STEPS), np.float32), zero
    if style.codes == "int16":
        far = max(record.zero_point - MIN_CODE, MAX_CODE - record.zero_point)
        return np.array(float(record.scale) * far / 32767, np.float32), np.array(0, np.int16)
    zero_point = np.array(record.zero_point + style.shift, style.codes)
    return np.array(record.scale, np.float32), zero_point


def encode(real: npt.NDArray[np.generic], record: ActivationQuantization, style: Style) -> Array:
    """Returns the codes of a constant, as the style stores them."""
    if style.is_wide:
        scale, zero_point = grid_arrays(record, style)
        ends = np.iinfo(style.codes)
        wide = np.rint(real.astype(np.float32) / float(scale.item())) + int(zero_point.item())
        return np.asarray(wide.clip(ends.min, ends.max), style.codes)
    grid = np.rint(real.astype(np.float32) / record.scale) + record.zero_point
    return np.asarray(np.clip(grid, record.lo, record.hi) + style.shift, style.codes)


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
    codes = record.codes.astype(np.float32)
    if record.rest is not None:
        codes += record.rest.astype(np.float32) / np.float32(PARTS_OF_A_CODE)
    return (codes * record.spread_scale()).astype(np.float32)
