"""Channels that one common scale leaves with few codes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.converters.doctor.rule import Cost

# Channels that use less of the codes than this have lost two bits or more.
FEW_CODES = 32
_LARGEST = 127


def count_few(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the largest code of each channel that uses few of them; channels of zeros need none.

    Args:
        rows: Codes less the zero point, a row for each channel.
    """
    peak: npt.NDArray[np.int64] = np.abs(rows).max(axis=1)
    return peak[(peak > 0) & (peak < FEW_CODES)]


def rounding_cost(rows: npt.NDArray[np.int64]) -> Cost:
    """Returns the power of the worst channel's weights over that of their rounding, with one scale and with its own.

    Rounding to a step is taken for noise of the power step^2 / 12.
    """
    peak = np.abs(rows).max(axis=1).astype(np.float64)
    worst = int(np.where(peak > 0, peak, np.inf).argmin())
    shared = 10 * np.log10(12 * np.square(rows[worst].astype(np.float64)).mean())
    own = shared + 20 * np.log10(_LARGEST / peak[worst])
    return Cost(
        db=(float(shared), float(own)),
        basis="weights of the worst channel over their rounding, computed",
    )
