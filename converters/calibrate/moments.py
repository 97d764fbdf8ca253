"""Exact, order-independent mean and mean square of each channel of a tensor, in fixed memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FRACTION_BITS = 40
_LARGEST = 2.0**62


class FixedSum:
    """Sums of vectors in fixed point: integers, so that neither order nor grouping changes the result.

    Attributes:
        whole: int64 ``[C]``, the integer part, rounded down.
        fraction: int64 ``[C]``, in units of ``2^-40``, in ``[0, 2^40)``.
    """

    def __init__(self, channels: int) -> None:
        self.whole: npt.NDArray[np.int64] = np.zeros(channels, np.int64)
        self.fraction: npt.NDArray[np.int64] = np.zeros(channels, np.int64)

    def add(self, terms: npt.NDArray[np.float64]) -> None:
        """Adds ``terms``, each rounded to ``2^-40`` and cut off at ``2^62``."""
        floor = np.floor(terms.clip(-_LARGEST, _LARGEST))
        fraction = np.rint(np.ldexp((terms - floor).clip(0, 1), _FRACTION_BITS))
        self._carry(floor.astype(np.int64), fraction.astype(np.int64))

    def merge(self, other: FixedSum) -> None:
        """Adds everything that was added to ``other``."""
        self._carry(other.whole, other.fraction)

    def value(self) -> npt.NDArray[np.float64]:
        """Returns the sums."""
        return self.whole.astype(np.float64) + np.ldexp(
            self.fraction.astype(np.float64), -_FRACTION_BITS
        )

    def _carry(self, whole: npt.NDArray[np.int64], fraction: npt.NDArray[np.int64]) -> None:
        total = self.fraction + fraction
        self.whole = self.whole + whole + (total >> _FRACTION_BITS)
        self.fraction = total & ((1 << _FRACTION_BITS) - 1)


class ChannelMoments:
    """Mean and mean square of each channel of a tensor.

    Attributes:
        axis: The channels' dimension.
        count: Entries of the batch seen.
        sums: Of each entry's mean, ``[C]``: means, so that large images do not exhaust the integers.
        squares: Of each entry's mean square, ``[C]``.
    """

    def __init__(self, axis: int, channels: int) -> None:
        self.axis = axis
        self.count = 0
        self.sums = FixedSum(channels)
        self.squares = FixedSum(channels)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Adds a finite tensor, its first dimension the batch; its channels are averaged in float64 first."""
        rows = np.moveaxis(values, self.axis, 0).reshape(values.shape[self.axis], -1)
        if rows.shape[0] != self.sums.whole.size:
            raise ValueError(f"{rows.shape[0]} channels, after {self.sums.whole.size}")
        if not rows.shape[1]:
            return
        entries = values.shape[0]
        self.count += entries
        self.sums.add(rows.mean(axis=1, dtype=np.float64) * entries)
        self.squares.add(np.square(rows, dtype=np.float64).mean(axis=1) * entries)

    def merge(self, other: ChannelMoments) -> None:
        """Adds everything that was added to ``other``."""
        self.count += other.count
        self.sums.merge(other.sums)
        self.squares.merge(other.squares)

    def mean(self) -> npt.NDArray[np.float64]:
        """Returns the mean of each channel."""
        return self.sums.value() / max(self.count, 1)

    def variance(self) -> npt.NDArray[np.float64]:
        """Returns the variance of each channel."""
        return np.maximum(self.squares.value() / max(self.count, 1) - self.mean() ** 2, 0.0)
