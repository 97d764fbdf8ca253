"""The sketch of one tensor's values: exact extremes and a histogram over the float32 bit pattern.

The key of a value is the upper 16 bits of its float32 pattern (sign, exponent, 7 bits of mantissa), so a bucket
is at most 1/128 of its value wide, at any magnitude, and needs no range known in advance. Counts are integers and
extremes are exact, so ``add`` and ``merge`` commute: the same values give the same sketch, in any order and parts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_KEYS = 1 << 16
# Counts are kept in blocks of 256 keys, two powers of two each: a tensor reaches a few dozen of the 256.
_BLOCK = 1 << 8

_Found = TypeVar("_Found")


class TensorSketch:
    """Counts of the values of one tensor; its memory does not depend on how many were added.

    Attributes:
        lo: The smallest value added, inf where none was.
        hi: The largest value added, -inf where none was.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, npt.NDArray[np.int64]] = {}
        self.lo = np.float32(np.inf)
        self.hi = np.float32(-np.inf)
        self._known: dict[Hashable, Any] = {}

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of values with each key, ``[65536]``."""
        whole = np.zeros((_KEYS // _BLOCK, _BLOCK), np.int64)
        for block, counts in self._blocks.items():
            whole[block] = counts
        return whole.reshape(-1)

    @property
    def total(self) -> int:
        """The number of values added."""
        return int(sum(counts.sum() for counts in self._blocks.values()))

    def add(self, values: npt.NDArray[np.float32]) -> bool:
        """Adds ``values``, of any shape.

        Returns:
            False, with nothing added, where one of them is NaN or infinite.
        """
        if not values.size:
            return True
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        lo, hi = flat.min(), flat.max()
        if not (np.isfinite(lo) and np.isfinite(hi)):
            return False
        keys = flat.view(np.uint32) >> np.uint32(16)
        self.add_counts(np.bincount(keys, minlength=_KEYS))
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        return True

    def add_counts(self, counts: npt.NDArray[np.int64]) -> None:
        """Adds ``counts`` of each key, ``[65536]``."""
        rows = counts.reshape(-1, _BLOCK)
        for block in np.flatnonzero(rows.any(axis=1)):
            self._add_block(int(block), rows[block])

    def merge(self, other: TensorSketch) -> None:
        """Adds everything that was added to ``other``."""
        for block, counts in other._blocks.items():
            self._add_block(block, counts)
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)

    def above(self, least: float) -> TensorSketch:
        """Returns the sketch of the buckets whose values all lie above ``least``; empty where there is none."""
        counts = self.counts
        keys = np.flatnonzero(counts)
        begin, end = _ends(keys)
        kept = begin > least
        result = TensorSketch()
        if kept.any():
            whole = np.zeros(_KEYS, np.int64)
            whole[keys[kept]] = counts[keys[kept]]
            result.add_counts(whole)
            result.lo = max(self.lo, np.float32(begin[kept].min()))
            result.hi = min(self.hi, np.float32(end[kept].max()))
        return result

    def within(self, lo: float, hi: float) -> TensorSketch:
        """Returns the sketch of the values cut off at ``lo`` and ``hi``; it is kept, and not to be changed."""
        return self.recall(("within", lo, hi), lambda sketch: sketch._cut(lo, hi))

    def _cut(self, lo: float, hi: float) -> TensorSketch:
        ends = np.array([self.lo, self.hi]).clip(lo, hi).astype(np.float32)
        counts = self.counts
        keys = np.flatnonzero(counts)
        begin, end = _ends(keys)
        whole = np.zeros(_KEYS, np.int64)
        below, above = end < lo, begin > hi
        kept = ~(below | above)
        whole[keys[kept]] = counts[keys[kept]]
        for place, where in zip(ends.view(np.uint32) >> np.uint32(16), (below, above), strict=True):
            whole[place] += counts[keys[where]].sum()
        result = TensorSketch()
        result.add_counts(whole)
        result.lo, result.hi = ends
        return result

    def recall(self, key: Hashable, compute: Callable[[TensorSketch], _Found]) -> _Found:
        """Returns what ``compute`` made of this sketch when ``key`` was last asked for; computed again once it grows.

        Args:
            key: Names the computation.
            compute: Takes the sketch, and nothing else that changes.
        """
        # The extremes may be set from outside, as by what reads a saved sketch.
        whole = (key, float(self.lo), float(self.hi))
        if whole not in self._known:
            self._known[whole] = compute(self)
        found: _Found = self._known[whole]
        return found

    def _add_block(self, block: int, counts: npt.NDArray[np.int64]) -> None:
        self._known.clear()
        if block not in self._blocks:
            self._blocks[block] = np.zeros(_BLOCK, np.int64)
        self._blocks[block] += counts

    def buckets(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Returns the non-empty buckets in ascending order of value.

        Returns:
            ``(begin, end, count)``: the values of a bucket lie in ``[begin, end]``, within ``[lo, hi]``.
        """
        counts = self.counts
        keys = np.flatnonzero(counts)
        begin, end = _ends(keys)
        order = np.argsort(begin, kind="stable")
        lo, hi = float(self.lo), float(self.hi)
        return begin[order].clip(lo, hi), end[order].clip(lo, hi), counts[keys[order]]


def _ends(
    keys: npt.NDArray[np.integer[Any]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the least and the largest value of the bucket of each key."""
    inner = (keys.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    # The last pattern of the bucket: the one whose lower 16 bits are all set.
    outer = ((keys.astype(np.uint32) << np.uint32(16)) | np.uint32(0xFFFF)).view(np.float32)
    far = outer.astype(np.float64)
    return np.minimum(inner, far), np.maximum(inner, far)
