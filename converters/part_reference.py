"""The judge of codes in parts: docs/arithmetic.md, "Codes in parts", in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.part_program import PARTS_OF_A_CODE, QuantizeParts
from edgekit.converters.program import Op, Program

Array = npt.NDArray[Any]


def _quantize_parts(
    program: Program, op: QuantizeParts, tensors: Mapping[str, Array]
) -> npt.NDArray[np.int8]:
    x, y = tensors[op.input], program.tensors[op.output]
    least, most = np.float32(op.lo - y.zero_point), np.float32(op.hi - y.zero_point)
    with np.errstate(all="ignore"):
        t = x * (np.float32(1) / np.float32(y.scale))
    t = np.where(np.isnan(t), least, np.clip(t, least, most)).astype(np.float32)
    code = np.rint(t)
    parts = [code, np.rint((t - code) * PARTS_OF_A_CODE), np.rint(code / PARTS_OF_A_CODE)]
    count = y.shape[op.axis] // x.shape[op.axis]
    codes = np.concatenate(parts[:count], axis=op.axis) + y.zero_point
    return np.asarray(codes.astype(np.int8))


PART_RULES: dict[type[Op], Callable[..., Array]] = {QuantizeParts: _quantize_parts}
