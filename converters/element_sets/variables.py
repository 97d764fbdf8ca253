"""Variables that elements of a graph's values have, and which of them are one (disjoint sets)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
# The variable that must stay as it is.
PINNED = 0


class Variables:
    """Disjoint sets of variables; the set of variable 0 is pinned: it must stay as it is."""

    def __init__(self) -> None:
        self._parent: list[int] = [PINNED]

    def make(self, count: int) -> Ids:
        """Returns ``count`` new variables."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, a: Ids, b: Ids) -> None:
        """Makes each variable of ``a`` one with that of ``b`` at the same place; both are broadcast."""
        left, right = np.broadcast_arrays(a, b)
        pairs = np.stack([self.roots(left).ravel(), self.roots(right).ravel()], axis=1)
        for x, y in np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).tolist():
            low, high = sorted((self._root(x), self._root(y)))
            self._parent[high] = low

    def collapse(self, ids: Ids, axes: tuple[int, ...]) -> Ids:
        """Joins what lies along ``axes``, and returns the variables with those of size 1."""
        for axis in axes:
            if ids.shape[axis] > 1:
                first = np.take(ids, [0], axis)
                self.join(ids, first)
                ids = first
        return ids

    def pin(self, ids: Ids) -> None:
        """Puts variables into the set that must stay as it is."""
        self.join(ids, np.array(PINNED))

    def roots(self, ids: Ids) -> Ids:
        """Returns the first of each variable's set."""
        parent = np.asarray(self._parent, np.int64)
        while True:
            above = parent[ids]
            if np.array_equal(above, ids):
                return above
            ids = above

    def __len__(self) -> int:
        return len(self._parent)

    def _root(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one
