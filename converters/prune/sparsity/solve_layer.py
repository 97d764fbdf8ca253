"""One layer's zeros by the native solver: which weights go, what the others become, and their codes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.compensate.rounding import count_cores, round_by_hessians
from edgekit.converters.compensate.solver import INT8, CodeRange
from edgekit.converters.prune.pattern import KeepOfGroup, Pattern
from edgekit.converters.prune.sparsity.removal import order_removal
from edgekit.converters.prune.sparsity.spread import Curve, keep_rest, spread_zeros

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SolvedLayer:
    """Weights of a layer with zeros.

    Attributes:
        kept: ``[n, k]``, true where a weight stays.
        weights: ``[n, k]``; where there are codes, these in steps of their scale.
        losses: ``[n]``: ``e^T C e`` of each row, e what it changed by.
        codes: ``[n, k]``; None where nothing was rounded.
    """

    kept: npt.NDArray[np.bool_]
    weights: Doubles
    losses: Doubles
    codes: npt.NDArray[np.int8] | None = None


def solve_layer(
    weights: Doubles,
    covariance: Doubles,
    pattern: Pattern,
    share: float,
    *,
    scales: Doubles | None = None,
    codes: CodeRange = INT8,
) -> SolvedLayer:
    """Makes a share of a layer's weights 0, those that cost least, and lets the others make up for it.

    Args:
        weights: ``[n, k]``, k in the order of the pattern.
        covariance: Of the inputs, or their Hessian in any unit, positive definite, ``[k, k]``.
        pattern: Where zeros may lie.
        share: Of the weights; N:M has its own.
        scales: ``[n]``: the weights become whole numbers of them at once; None: they are not rounded.
        codes: The codes' range.

    Raises:
        EdgekitError: The covariance is not positive definite.
    """
    panels = order_removal(weights, covariance, pattern)
    curve = Curve(panels, weights.shape[1], 1.0)
    if isinstance(pattern, KeepOfGroup):
        counts = [len(panel.order) for panel in panels]
    else:
        counts = spread_zeros({"": curve}, share)[""]
    return fit_kept(weights, covariance, keep_rest(curve, counts), scales=scales, codes=codes)


def fit_kept(
    weights: Doubles,
    covariance: Doubles,
    kept: npt.NDArray[np.bool_],
    *,
    scales: Doubles | None = None,
    codes: CodeRange = INT8,
) -> SolvedLayer:
    """Returns the weights within a mask whose results come closest to those of the weights there are.

    They are the best of their mask. So rounding towards them, on the columns that stay, loses what rounding towards
    ``weights`` itself would: the two losses differ by what the mask costs.

    Args:
        weights: ``[n, k]``.
        covariance: As for `solve_layer`.
        kept: ``[n, k]``, true where a weight stays.
        scales: As for `solve_layer`.
        codes: As for `solve_layer`.

    Raises:
        EdgekitError: The covariance is not positive definite.
    """
    _, first, owners = np.unique(
        np.packbits(kept, axis=1), axis=0, return_index=True, return_inverse=True
    )
    found, losses = _native.apply_zeros(
        np.ascontiguousarray(weights, np.float64),
        np.ascontiguousarray(np.linalg.inv(covariance), np.float64),
        kept=np.ascontiguousarray(kept[first], np.uint8),
        support_of=owners.reshape(-1).astype(np.int64),
        threads=count_cores(),
    )
    if scales is None:
        return SolvedLayer(kept, found, losses)
    steps = (found / scales[:, None])[:, :, None]
    rounded = round_by_hessians(steps, codes, covariance[None], keep_zeros=True)[:, :, 0]
    result = rounded * scales[:, None]
    error = weights - result
    lost = np.einsum("ni,ij,nj->n", error, covariance, error, optimize=True)
    return SolvedLayer(kept, result, lost, rounded.astype(np.int8))
