"""What is read of a TensorFlow Lite file: tensors and operators, without offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

QUANTIZED_TYPES = frozenset({"INT4", "INT8", "UINT8", "INT16"})
FLOAT_TYPES = frozenset({"FLOAT16", "FLOAT32"})


@dataclass(frozen=True, eq=False)
class Grid:
    """Real value ``scale * (q - zero_point)``, one pair for a tensor or for each index of ``axis``."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor.

    Attributes:
        index: Its place in the file, or behind all of those where it is a branch's.
        name: Maybe empty, maybe not unique.
        type: As the schema calls it.
        shape: In the file's order.
        signature: The same, with None for a dimension that may have any size.
        data: Elements of a constant, None for what is computed.
        grid: How codes stand for numbers, None where they do not.
        is_state: Whether the interpreter keeps it from one run to the next.
    """

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    signature: tuple[int | None, ...]
    data: npt.NDArray[Any] | None
    grid: Grid | None
    is_state: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        index: Its place in the file.
        code: As the schema calls it.
        inputs: Tensors by index, -1 where an input is left out.
        outputs: Tensors by index.
        options: Its options' fields by name; empty where it has none.
    """

    index: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
