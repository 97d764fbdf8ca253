"""Which weights of a matrix [rows, columns] become 0: output channels are rows, their inputs columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

# Columns of which a domain is decided at once, as SparseGPT does.
_WINDOW = 128


@dataclass(frozen=True)
class Given:
    """A mask that is decided already.

    Attributes:
        kept: ``[rows, columns]``, true where a weight stays.
    """

    kept: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeepOfGroup:
    """N:M: of each ``group`` columns that follow each other, ``keep`` stay.

    Attributes:
        keep: Columns that stay.
        group: Of so many.
        rows: Rows that share the choice.
    """

    keep: int
    group: int
    rows: int = 1


@dataclass(frozen=True)
class Blocks:
    """Whole blocks go, such as 32 rows by 4 columns, until ``density`` of them is left.

    Attributes:
        density: The share of blocks that stays.
        rows: Rows of a block.
        columns: Columns of a block.
        window: Columns whose blocks compete with each other, of all rows; a multiple of ``columns``.
    """

    density: float
    rows: int
    columns: int
    window: int = _WINDOW


@dataclass(frozen=True)
class Unstructured:
    """Single weights go, until ``density`` of them is left.

    Attributes:
        density: The share of weights that stays.
        window: Columns whose weights compete with each other, of all rows.
    """

    density: float
    window: int = _WINDOW


Mask: TypeAlias = Given | KeepOfGroup | Blocks | Unstructured
