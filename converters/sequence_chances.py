"""How likely sequences of answers are to be read where each place of an output has a distribution of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

# Less is what float32 makes of nothing.
_LEAST_CHANCE = 1e-30


def log_chance(chances: Reals, sequence: Places, separator: int) -> float:
    """Returns the logarithm of the chance that places drawn by ``chances`` read as ``sequence``.

    What is drawn again at the next place counts once, and separators count for nothing: the sum over all such paths, by
    the forward recursion of Graves et al., "Connectionist temporal classification", 2006. An answer that comes one
    place later is as likely as before.

    Args:
        chances: Distributions of the places, ``[n, k]``.
        sequence: The answers, without separators.
        separator: What stands between answers, and has to where one comes twice.

    >>> even = np.full((2, 2), 0.5)
    >>> round(float(np.exp(log_chance(even, np.array([1]), 0))), 6)
    0.75
    """
    states = np.full(2 * len(sequence) + 1, separator)
    states[1::2] = sequence
    # Between two answers that differ the separator may be left out.
    skips = np.zeros(len(states), bool)
    skips[3::2] = sequence[1:] != sequence[:-1]
    steps = np.log(np.maximum(chances[:, states], _LEAST_CHANCE))
    reached = np.full(len(states), -np.inf)
    reached[:2] = steps[0, :2]
    for step in steps[1:]:
        before = reached
        reached = before.copy()
        reached[1:] = np.logaddexp(reached[1:], before[:-1])
        reached[2:] = np.where(skips[2:], np.logaddexp(reached[2:], before[:-2]), reached[2:])
        reached += step
    return float(np.logaddexp.reduce(reached[-2:]))
