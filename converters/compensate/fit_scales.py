"""Chooses scales and codes together: for few codes, where a scale that reaches every weight is too coarse for most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.compensate.masks import Given
from edgekit.converters.compensate.rounding import FEW_INPUTS, count_cores, round_by_hessians
from edgekit.converters.compensate.solver import CodeRange, Solver, solve_exactly

Doubles = npt.NDArray[np.float64]

# Scales that are tried first, as parts of the one that reaches every weight; then those between the best and its
# neighbours.
_PARTS = np.linspace(1.0, 0.5, 11)
_FINER = (0.025, 0.0125)
# Of runs all are tried at once, since they hardly cost anything.
_PARTS_OF_RUNS = tuple(float(part) for part in np.linspace(1.0, 0.5, 26))
# Scales of 8 bits above the least one.
_PARTS_ABOVE = tuple(float(part) for part in np.linspace(1.0, 1.1, 8))
_SMALLEST = float(np.finfo(np.float32).tiny) * 2


@dataclass(frozen=True)
class FittedCodes:
    """Codes of rows of weights and the scales that they are steps of.

    Attributes:
        codes: Whole numbers, ``[groups, rows, depth]``.
        scales: Of float32, ``[groups, rows, runs]``.
        costs: What each row costs, ``[groups, rows]``.
    """

    codes: Doubles
    scales: Doubles
    costs: Doubles


def fit_rows(
    weights: Doubles,
    hessians: Doubles,
    codes: CodeRange,
    least: Doubles,
    *,
    keep_zeros: bool = False,
) -> FittedCodes:
    """Rounds rows of weights with one scale each, whatever scale leaves a row the least loss.

    Each row is rounded with some scales between half of the one that reaches all its weights and that one itself, and
    keeps the codes of the least loss ``e^T H e``; then its scale is ``q^T H w / q^T H q``, the best for these codes.

    Args:
        weights: ``[groups, rows, depth]``.
        hessians: ``[groups, depth, depth]``.
        codes: The codes' range.
        least: The smallest scale that each row may have, ``[groups, rows]``.
        keep_zeros: Whether weights of 0 keep the code 0.
    """
    kept = weights != 0 if keep_zeros else None
    groups, rows, depth = weights.shape
    reach = np.maximum(weights.max(axis=2) / codes.high, weights.min(axis=2) / codes.low)
    reach = np.where(reach > 0, reach, 1.0)
    best = FittedCodes(
        np.zeros(weights.shape), np.ones((groups, rows, 1)), np.full((groups, rows), np.inf)
    )
    parts = np.ones((groups, rows))
    threads = count_cores()
    solvers = (
        [Solver(h, falling=True, threads=threads) for h in hessians]
        if (depth > FEW_INPUTS or rows > 1)
        else []
    )

    def attempt(tried: Doubles) -> None:
        scales = _to_float32(np.maximum(reach * tried, np.maximum(least, _SMALLEST)))
        found = []
        if depth <= FEW_INPUTS:
            found.append(
                solve_exactly(
                    hessians, weights, codes=codes, scales=scales, kept=kept, threads=threads
                )
            )
        for result in found:
            assert result.codes is not None
            _keep(best, parts, slice(None), result.codes, scales, result.costs, tried)
        for group, solver in enumerate(solvers):
            mask = None if kept is None else Given(kept[group])
            result = solver.round(weights[group], codes, scales=scales[group][:, None], mask=mask)
            assert result.codes is not None
            _keep(best, parts, group, result.codes, scales[group], result.costs, tried[group])

    for part in _PARTS:
        attempt(np.full((groups, rows), part))
    for step in _FINER:
        middle = parts.copy()
        for side in (-step, step):
            attempt(middle + side)
    weighted = best.codes @ hessians
    above, below = (weighted * weights).sum(axis=2), (weighted * best.codes).sum(axis=2)
    fits = (below > 0) & (above > 0)
    fitted = _to_float32(above / np.where(fits, below, 1.0))
    fits &= fitted >= np.maximum(least, _SMALLEST)
    best.scales[..., 0][fits] = fitted[fits]
    return best


def choose_scales(weights: Doubles, hessians: Doubles, codes: CodeRange, least: Doubles) -> Doubles:
    """Returns for each row the scale, a little above the least one, with which its codes leave the least loss.

    Few weights fall between the codes of one scale and next to those of another: nine of a depthwise layer lose 2 to 3
    dB less by the best of eight scales. Of many weights the mean hardly changes.

    Args:
        weights: ``[groups, rows, depth]``, depth at most `FEW_INPUTS`.
        hessians: ``[groups, depth, depth]``.
        codes: The codes' range.
        least: The scale that reaches all weights of a row, ``[groups, rows]``.

    Returns:
        Scales of float32, ``[groups, rows]``, at most a tenth above the least.
    """
    best, cost = least.copy(), np.full(least.shape, np.inf)
    for part in _PARTS_ABOVE:
        scales = np.where(part == 1, least, _to_float32(least * part))
        rounded = round_by_hessians(
            (weights / scales[..., None]).reshape(-1, weights.shape[-1], 1), codes, hessians
        )
        error = (weights - rounded.reshape(weights.shape) * scales[..., None])[..., None]
        lost = (error * (hessians[:, None] @ error)).sum(axis=(2, 3))
        better = lost < cost
        best[better], cost[better] = scales[better], lost[better]
    return best


def fit_runs(
    weights: Doubles, hessian: Doubles, codes: CodeRange, run: int, *, keep_zeros: bool = False
) -> FittedCodes:
    """Rounds rows of weights with a scale for each ``run`` columns.

    Scales are found as columns are reached, in their own order, and with these scales rows are decided once more, the
    columns that matter most first. Each row keeps what costs less.

    Args:
        weights: ``[rows, depth]``.
        hessian: ``[depth, depth]``.
        codes: The codes' range.
        run: Columns that share a scale.
        keep_zeros: Whether weights of 0 keep the code 0.

    Returns:
        As `fit_rows`, with one group.
    """
    threads = count_cores()
    mask = Given(weights != 0) if keep_zeros else None
    first = Solver(hessian, threads=threads).round(
        weights, codes, group=run, parts=_PARTS_OF_RUNS, mask=mask
    )
    assert first.codes is not None
    assert first.scales is not None
    found, costs = first.codes.astype(np.float64), first.costs.copy()
    again = Solver(hessian, falling=True, threads=threads).round(
        weights, codes, group=run, scales=first.scales, mask=mask
    )
    assert again.codes is not None
    better = again.costs < costs
    found[better], costs[better] = again.codes[better], again.costs[better]
    return FittedCodes(found[None], first.scales[None], costs[None])


def _keep(
    best: FittedCodes,
    parts: Doubles,
    place: int | slice,
    codes: npt.NDArray[np.int8],
    scales: Doubles,
    costs: Doubles,
    tried: Doubles,
) -> None:
    """Takes over the rows that cost less than what is known."""
    better = costs < best.costs[place]
    best.costs[place][better] = costs[better]
    best.codes[place][better] = codes[better]
    best.scales[place][better] = scales[better][:, None]
    parts[place][better] = tried[better]


def _to_float32(scales: Doubles) -> Doubles:
    return scales.astype(np.float32).astype(np.float64)
