"""In which order the blocks of a matrix go: always the one whose removal costs least once the others make up for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.prune.pattern import Blocks, KeepOfGroup, Pattern

Doubles = npt.NDArray[np.float64]

# Products beyond which blocks are ordered by what each costs alone.
_MOST_PRODUCTS = 4e11


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
    Costs are made to rise, so that a block never goes before one that had to go first.

    Args:
        weights: ``[n, k]``; columns that are 0 in all rows of a panel go first, for nothing.
        covariance: Of the inputs, positive definite, ``[k, k]``.
        pattern: Where zeros may lie.
    """
    count, depth = weights.shape
    rows = 1 if not isinstance(pattern, Blocks | KeepOfGroup) else pattern.rows
    width = pattern.columns if isinstance(pattern, Blocks) else 1
    blocks = np.arange(-(-depth // width) * width).reshape(-1, width)
    columns = np.minimum(blocks, depth)
    inverse = np.asarray(np.linalg.inv(covariance), np.float64)
    work = -(-count // rows) * depth * float(depth) ** 2
    panels = []
    for first in range(0, count, rows):
        part = weights[first : first + rows]
        room = _Room(pattern, len(columns))
        if work > _MOST_PRODUCTS:
            order, costs = _order_alone(part, inverse, columns, room)
        else:
            order, costs = _eliminate(part, inverse, columns, room)
        rising = np.maximum.accumulate(costs) if len(costs) else costs
        panels.append(Panel(first, len(part), columns, order, rising))
    return panels


class _Room:
    """How many more of each group N:M lets go; of other patterns all."""

    def __init__(self, pattern: Pattern, blocks: int) -> None:
        self._group = pattern.group if isinstance(pattern, KeepOfGroup) else blocks
        keep = pattern.keep if isinstance(pattern, KeepOfGroup) else 0
        sizes = np.bincount(np.arange(blocks) // max(self._group, 1))
        self._left = np.maximum(sizes - keep, 0)

    @property
    def total(self) -> int:
        return int(self._left.sum())

    def holds(self, blocks: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        return self._left[blocks // self._group] > 0

    def take(self, block: int) -> None:
        self._left[block // self._group] -= 1


def _eliminate(
    weights: Doubles, inverse: Doubles, columns: npt.NDArray[np.intp], room: _Room
) -> tuple[npt.NDArray[np.intp], Doubles]:
    blocks, width = columns.shape
    beyond = blocks * width - weights.shape[1]
    w = np.pad(weights, ((0, 0), (0, beyond)))
    m = np.eye(blocks * width)
    m[: len(inverse), : len(inverse)] = inverse
    left = np.arange(blocks)
    order, costs = [], []
    for _ in range(room.total):
        each = np.arange(len(left))
        inner = m.reshape(len(left), width, len(left), width)[each, :, each, :]
        own = w.reshape(len(w), len(left), width).transpose(1, 2, 0)
        cost = (own * np.linalg.solve(inner, own)).sum(axis=(1, 2))
        cost[~room.holds(left)] = np.inf
        best = int(cost.argmin())
        order.append(left[best])
        costs.append(cost[best])
        room.take(int(left[best]))
        place = slice(best * width, (best + 1) * width)
        pull = np.linalg.solve(inner[best], m[place])
        stays = np.repeat(each != best, width)
        w = (w - w[:, place] @ pull)[:, stays]
        m = (m - m[:, place] @ pull)[np.ix_(stays, stays)]
        left = left[each != best]
    return np.array(order, np.intp), np.array(costs)


def _order_alone(
    weights: Doubles, inverse: Doubles, columns: npt.NDArray[np.intp], room: _Room
) -> tuple[npt.NDArray[np.intp], Doubles]:
    """Returns blocks by what each costs if no other goes."""
    cost = np.empty(len(columns))
    for block, places in enumerate(columns):
        inside = places[places < weights.shape[1]]
        own = weights[:, inside].T
        cost[block] = (own * np.linalg.solve(inverse[np.ix_(inside, inside)], own)).sum()
    order = []
    for block in np.argsort(cost, kind="stable"):
        if room.holds(np.array([block]))[0]:
            room.take(int(block))
            order.append(block)
    found = np.array(order, np.intp)
    return found, cost[found]
