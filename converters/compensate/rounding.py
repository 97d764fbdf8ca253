"""Rounds a layer's weights by the Hessian of its inputs: what `round_weights` does with mean and variance alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.compensate.masks import Given
from edgekit.converters.compensate.solver import DAMPING, CodeRange, Solver, solve_exactly

Doubles = npt.NDArray[np.float64]

# Rows of at most so many inputs are decided in two orders, of which each row takes the better.
FEW_INPUTS = 64
# Patches of an image are alike: so many inputs does one of sqrt(patches * images) teach about, at most so surely.
_INPUTS_TAUGHT = 4
_MOST_PRIOR = 0.5
# Where so many rows share their zeros, a factor of H for each set of them pays.
_ROWS_A_SUPPORT = 4


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


def round_by_hessians(
    targets: Doubles, codes: CodeRange, hessians: Doubles, *, keep_zeros: bool = False
) -> Doubles:
    """Rounds targets to whole numbers such that a layer's output changes least.

    Args:
        targets: ``[C, I, P]``, weights over their scale, P taps for each of I input channels of a group.
        codes: The codes' range.
        hessians: ``[groups, I * P, I * P]``, output channels lying group by group.
        keep_zeros: Whether targets of 0 keep the code 0.

    Returns:
        Whole numbers of the same shape.
    """
    groups, depth = hessians.shape[:2]
    rows = targets.reshape(groups, -1, depth)
    each = rows.shape[1]
    threads = count_cores()
    found = np.zeros(rows.shape)
    costs = np.full((groups, each), np.inf)
    ones = np.ones((groups, each))
    kept = rows != 0 if keep_zeros else None
    if depth <= FEW_INPUTS:
        exact = solve_exactly(hessians, rows, codes=codes, scales=ones, kept=kept, threads=threads)
        assert exact.codes is not None
        found[:], costs = exact.codes, exact.costs
    # A depthwise layer's channels, of which the exact steps are the better ones by far.
    if depth > FEW_INPUTS or each > 1:
        for group in range(groups):
            mask = None if kept is None else kept[group]
            for part in _share_supports(hessians[group], mask, each):
                place = np.ix_(part.rows, part.columns)
                result = part.solver.round(
                    rows[group][place], codes, scales=ones[group][part.rows, None], mask=part.mask
                )
                assert result.codes is not None
                better = result.costs < costs[group, part.rows]
                found[group, part.rows[better]] = 0
                found[group][np.ix_(part.rows[better], part.columns)] = result.codes[better]
    return found.reshape(targets.shape)


@dataclass(frozen=True)
class _Part:
    """Rows that are decided together.

    Attributes:
        rows: Their numbers.
        columns: Those that are not 0 in all of them.
        solver: Of these columns.
        mask: What else stays 0.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    solver: Solver
    mask: Given | None = None


def _share_supports(
    hessian: Doubles, kept: npt.NDArray[np.bool_] | None, count: int
) -> Iterator[_Part]:
    """Yields parts of ``count`` rows of which each has columns of its own, or all of them with a mask.

    A column is decided as if all behind it were free to make up for it. So where rows share their zeros, as those of a
    block do, these columns are left out of H: the others then count on no help from them.
    """
    threads = count_cores()
    everything = np.arange(count), np.arange(len(hessian))
    if kept is None:
        yield _Part(*everything, Solver(hessian, falling=True, threads=threads))
        return
    supports, which = np.unique(kept, axis=0, return_inverse=True)
    if len(supports) * _ROWS_A_SUPPORT > count:
        yield _Part(*everything, Solver(hessian, falling=True, threads=threads), Given(kept))
        return
    size = float(hessian.diagonal().mean())
    for index, support in enumerate(supports):
        columns = np.flatnonzero(support)
        if len(columns):
            part = hessian[np.ix_(columns, columns)]
            mean = float(part.diagonal().mean())
            damping = DAMPING * size / mean if mean > 0 else DAMPING
            solver = Solver(part, damping=damping, falling=True, threads=threads)
            yield _Part(np.flatnonzero(which.reshape(-1) == index), columns, solver)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
