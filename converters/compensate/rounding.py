"""Rounds a layer's weights by the Hessian of its inputs: what `round_weights` does with mean and variance alone."""

from __future__ import annotations

import math
import os

import numpy as np
import numpy.typing as npt

from edgekit.converters.compensate.solver import CodeRange, Solver, solve_exactly

Doubles = npt.NDArray[np.float64]

# Rows of at most so many inputs are decided in two orders, of which each row takes the better.
FEW_INPUTS = 64
# Patches of an image are alike: so many inputs does one of sqrt(patches * images) teach about, at most so surely.
_INPUTS_TAUGHT = 4
_MOST_PRIOR = 0.5


def blend_hessians(
    hessians: Doubles, patches: int, images: int, mean: Doubles, variance: Doubles
) -> Doubles:
    """Returns Hessians for each patch, drawn towards what mean and variance of the inputs alone would make them.

    H of few samples has correlations that other samples don't have, and compensation would follow them. So, with N
    what the samples are worth,::

        (1 - a) H / patches + a (mean mean^T + diag(variance)),    a = min(1/2, depth / (depth + 4 N))

    as in Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004), with N
    between the number of images and that of patches: their geometric mean.

    Args:
        hessians: ``[groups, depth, depth]``, sums over ``patches``.
        patches: How many.
        images: In how many images they were.
        mean: ``[groups, depth]``.
        variance: ``[groups, depth]``.
    """
    depth = hessians.shape[-1]
    worth = math.sqrt(max(patches, 1) * max(images, 1))
    share = min(_MOST_PRIOR, depth / (depth + _INPUTS_TAUGHT * worth))
    prior = mean[:, :, None] * mean[:, None, :]
    prior[:, np.arange(depth), np.arange(depth)] += variance
    blended: Doubles = (1 - share) / max(patches, 1) * hessians + share * prior
    return blended


def round_by_hessians(targets: Doubles, codes: CodeRange, hessians: Doubles) -> Doubles:
    """Rounds targets to whole numbers such that a layer's output changes least.

    Args:
        targets: ``[C, I, P]``, weights over their scale, P taps for each of I input channels of a group.
        codes: The codes' range.
        hessians: ``[groups, I * P, I * P]``, output channels lying group by group.

    Returns:
        Whole numbers of the same shape.
    """
    groups, depth = hessians.shape[:2]
    rows = targets.reshape(groups, -1, depth)
    each = rows.shape[1]
    threads = count_cores()
    found = np.empty(rows.shape)
    costs = np.full((groups, each), np.inf)
    ones = np.ones((groups, each))
    if depth <= FEW_INPUTS:
        exact = solve_exactly(hessians, rows, codes=codes, scales=ones, threads=threads)
        assert exact.codes is not None
        found[:], costs = exact.codes, exact.costs
    # A depthwise layer's channels, of which the exact steps are the better ones by far.
    if depth > FEW_INPUTS or each > 1:
        for group in range(groups):
            solver = Solver(hessians[group], falling=True, threads=threads)
            result = solver.round(rows[group], codes, scales=ones[group][:, None])
            assert result.codes is not None
            better = result.costs < costs[group]
            found[group, better] = result.codes[better]
    return found.reshape(targets.shape)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
