"""Smallest and largest element of each channel of a tensor: exact, in any order, in fixed memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class ChannelRange:
    """Extremes of each channel of a tensor.

    Attributes:
        axis: The channels' dimension.
        lo: float32 ``[C]``, infinite before anything was seen.
        hi: The same shape.
    """

    def __init__(self, axis: int, channels: int) -> None:
        self.axis = axis
        self.lo: npt.NDArray[np.float32] = np.full(channels, np.inf, np.float32)
        self.hi: npt.NDArray[np.float32] = np.full(channels, -np.inf, np.float32)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Adds a finite tensor."""
        others = tuple(axis for axis in range(values.ndim) if axis != self.axis)
        if values.shape[self.axis] != self.lo.size:
            raise ValueError(f"{values.shape[self.axis]} channels, after {self.lo.size}")
        np.minimum(self.lo, values.min(axis=others, initial=np.inf), out=self.lo)
        np.maximum(self.hi, values.max(axis=others, initial=-np.inf), out=self.hi)

    def merge(self, other: ChannelRange) -> None:
        """Adds everything that was added to ``other``."""
        np.minimum(self.lo, other.lo, out=self.lo)
        np.maximum(self.hi, other.hi, out=self.hi)
