"""In which order the blocks of a matrix go: always the one whose removal costs least once the others make up for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.compensate.rounding import count_cores
from edgekit.converters.prune.pattern import Blocks, KeepOfGroup, Pattern

Doubles = npt.NDArray[np.float64]

# Products beyond which blocks are ordered by what each costs alone: a minute or so of a core.
_MOST_PRODUCTS = 2e12


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows of a matrix that share their zeros, and in which order they get these.

    Attributes:
        first: The first row.
        count: How many.
        columns: The columns of each block that can go, ``[blocks, columns]``; k stands for one beyond the end.
        order: Blocks in the order in which they go; with N:M not all of them may.
        costs: What the removal of each of these costs, rising: the sum of squares of errors of the rows' results, a
            place of the output.
    """

    first: int
    count: int
    columns: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    costs: Doubles


def order_removal(weights: Doubles, covariance: Doubles, pattern: Pattern) -> list[Panel]:
    """Returns the panels of a matrix, each with its blocks in the order in which they go.

    With w the weights of a panel's rows and M the inverse of the covariance, removing the columns B costs::

        sum over rows  w_B^T (M_BB)^-1 w_B

    when those that are left make up for it, after which w and M are theirs (Optimal Brain Surgeon, Hassibi and Stork,
    1993; Optimal Brain Compression, Frantar et al., 2022; for blocks that rows share, ZipLM, Kurtic et al., 2023).
    Costs are made to rise, so that a block never goes before one that had to go first. The native solver does the work
    (csrc/compress/removal.h), on all cores.

    Args:
        weights: ``[n, k]``; columns that are 0 in all rows of a panel go first, for nothing.
        covariance: Of the inputs, positive definite, ``[k, k]``.
        pattern: Where zeros may lie.

    Raises:
        EdgekitError: The covariance is not positive definite.
    """
    count, depth = weights.shape
    rows = pattern.rows if isinstance(pattern, Blocks | KeepOfGroup) else 1
    width = pattern.columns if isinstance(pattern, Blocks) else 1
    columns = np.minimum(np.arange(-(-depth // width) * width), depth).reshape(-1, width)
    orders, costs = _native.order_removal(
        np.ascontiguousarray(weights, np.float64),
        np.ascontiguousarray(np.linalg.inv(covariance), np.float64),
        rows=rows,
        columns=width,
        group=pattern.group if isinstance(pattern, KeepOfGroup) else len(columns),
        keep=pattern.keep if isinstance(pattern, KeepOfGroup) else 0,
        alone=-(-count // rows) * float(depth) ** 3 > _MOST_PRODUCTS,
        threads=count_cores(),
    )
    rising = np.maximum.accumulate(costs, axis=1)
    return [
        Panel(first, min(rows, count - first), columns, order.astype(np.intp), cost)
        for first, order, cost in zip(range(0, count, rows), orders, rising, strict=True)
    ]
