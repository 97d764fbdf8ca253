"""Tests of the mean difference of bounded scores on the same samples, by betting.

Someone who bets on each sample, in turn and in a fair game if the true mean is m, gets rich only with little chance:

    K_t = product over i <= t of (1 + lambda_i (m - d_i)),   P[K_t >= 1 / alpha for any t] <= alpha if E[d] >= m

(Ville's inequality), where the stake lambda_i >= 0 depends on earlier samples alone. It holds for every distribution of
scores and every number of samples, and adapts to their variance (Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting", 2023). Student's t would be shorter, and wrong where a few samples lose much.
"""

from __future__ import annotations

import math

import numpy as np

from edgekit.promise.paired import Reals, find_least

# The most that is staked, of what would leave nothing.
_BOLD = 0.9
_TOLERANCE = 1e-6
# Samples come in an order that may say something, such as by class; betting needs one that does not.
_SEED = 0
# Above so many samples nothing is computed: it takes a second.
_MOST = 20_000_000


def find_p(differences: Reals, mean: float, alpha: float) -> float:
    """Returns a p-value of the true mean being at least ``mean``, to be compared with ``alpha``.

    Args:
        differences: In [-1, 1]; float64 [samples].
        mean: In (-1, 1).
        alpha: The level for which stakes are chosen; the p-value holds at any.
    """
    n = differences.size
    ordered = np.random.default_rng(_SEED).permutation(differences)
    counts = np.arange(1, n + 1)
    means = np.cumsum(ordered) / counts
    # Of [-1, 1], so that the first estimate of the variance is the largest that there can be.
    variances = (1 + np.cumsum((ordered - means) ** 2)) / (counts + 1)
    before = np.concatenate([[1.0], variances[:-1]])
    stakes = np.sqrt(2 * math.log(1 / alpha) / (n * before))
    stakes = np.minimum(stakes, _BOLD / (1 - mean))
    riches = np.cumsum(np.log1p(stakes * (mean - ordered)))
    return math.exp(-max(0.0, float(riches.max())))


def bound_mean(differences: Reals, alpha: float) -> float:
    """Returns the least mean that the true one is below, but for a chance of ``alpha``."""
    low, high = float(np.clip(differences.mean(), -1.0, 1.0)), 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if find_p(differences, middle, alpha) <= alpha else (middle, high)
    return high


def count_needed(differences: Reals, mean: float, alpha: float) -> int | None:
    """Returns about how many samples like these would be enough to promise ``mean``; None where no number would."""
    if float(differences.mean()) >= mean:
        return None

    def suffices(total: int) -> bool:
        return total <= _MOST and find_p(np.resize(differences, total), mean, alpha) <= alpha

    return find_least(suffices, differences.size)
