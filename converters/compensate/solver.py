"""Calls the native solver (csrc/compress) with weights and Hessians as numpy has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.compensate.masks import Blocks, Given, KeepOfGroup, Mask, Unstructured
from edgekit.targets.errors import EdgekitError

DAMPING = 0.01
# Scales that are tried for a group, as parts of the least that reaches every weight.
PARTS = tuple(float(part) for part in np.linspace(1.0, 0.7, 16))

Progress = Callable[[int, int], object]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CodeRange:
    """The least and the largest code."""

    low: int
    high: int


INT8 = CodeRange(-127, 127)
INT4 = CodeRange(-8, 7)


@dataclass(frozen=True)
class Compensated:
    """Rows of weights that were decided.

    Attributes:
        weights: What they are now, 0 where they were removed.
        codes: The same in steps of their scale; None where they were not rounded.
        scales: ``[rows, groups]``; None likewise.
        kept: True where a weight stays; None without a mask.
        costs: By row, what its outputs' squares changed by over all patches that H has seen, damping included.
    """

    weights: Doubles
    codes: npt.NDArray[np.int8] | None
    scales: Doubles | None
    kept: npt.NDArray[np.bool_] | None
    costs: Doubles


class Solver:
    """Decides rows of weights column by column, given the Hessian of their inputs.

    Attributes:
        depth: Columns.
        threads: Threads that share the rows.
    """

    def __init__(
        self,
        hessian: Doubles,
        *,
        damping: float = DAMPING,
        falling: bool = False,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Factorizes ``hessian``, ``[depth, depth]``.

        Args:
            hessian: ``X^T X``, in any unit.
            damping: What is added to its diagonal, in parts of the diagonal's mean.
            falling: Whether columns are decided by falling diagonal instead of in their own order. Masks of
                several columns, and scales that are found by group, need their own.
            threads: Threads to use.
            progress: Called with steps done and all; what it raises ends the work.

        Raises:
            EdgekitError: It is not positive definite, or not finite.
        """
        diagonal = hessian.diagonal()
        order = np.argsort(-diagonal, kind="stable") if falling else np.arange(len(diagonal))
        self.depth = len(diagonal)
        self.threads = threads
        self._factor = _native.Factor(
            np.ascontiguousarray(hessian, np.float64),
            order.astype(np.int64),
            damping=damping,
            threads=threads,
            progress=progress,
        )

    def round(
        self,
        weights: Doubles,
        codes: CodeRange,
        *,
        scales: Doubles | None = None,
        group: int | None = None,
        parts: Sequence[float] = PARTS,
        mask: Mask | None = None,
        progress: Progress | None = None,
    ) -> Compensated:
        """Rounds rows of weights to codes, and removes what a mask says first.

        Args:
            weights: ``[rows, depth]``.
            codes: The codes' range.
            scales: ``[rows, ceil(depth / group)]``; None: found as columns are reached.
            group: Columns that share a scale; None: all of a row.
            parts: Scales that are tried, as parts of the least that reaches all weights of a group.
            mask: What is removed.
            progress: As above.

        Raises:
            EdgekitError: Something has the wrong shape, or a scale is not positive.
        """
        rule, kept = _make_rule(mask)
        found = _native.solve_columns(
            self._factor,
            np.ascontiguousarray(weights, np.float64),
            mask=rule,
            kept=kept,
            scales=None if scales is None else np.ascontiguousarray(scales, np.float64),
            parts=parts if scales is None else (),
            group=group or 0,
            low=codes.low,
            high=codes.high,
            threads=self.threads,
            progress=progress,
        )
        return _finish(found)

    def remove(
        self, weights: Doubles, mask: Mask, *, progress: Progress | None = None
    ) -> Compensated:
        """Removes what a mask says, and lets what stays make up for it.

        Args:
            weights: ``[rows, depth]``.
            mask: What is removed.
            progress: As above.

        Raises:
            EdgekitError: Something has the wrong shape, or the mask needs the columns' own order.
        """
        rule, kept = _make_rule(mask)
        found = _native.solve_columns(
            self._factor,
            np.ascontiguousarray(weights, np.float64),
            mask=rule,
            kept=kept,
            threads=self.threads,
            progress=progress,
        )
        return _finish(found)


def solve_exactly(
    hessians: Doubles,
    weights: Doubles,
    *,
    codes: CodeRange | None = None,
    scales: Doubles | None = None,
    kept: npt.NDArray[np.bool_] | None = None,
    removed: int = 0,
    damping: float = DAMPING,
    threads: int = 1,
    progress: Progress | None = None,
) -> Compensated:
    """Removes and rounds rows of few inputs, always the weight that costs least; time grows with depth^3 by row.

    Args:
        hessians: ``[groups, depth, depth]``.
        weights: ``[groups, rows, depth]``.
        codes: The codes' range; None: nothing is rounded.
        scales: ``[groups, rows]``, where codes are.
        kept: ``[groups, rows, depth]``, true where a weight stays; None: ``removed`` of each row go.
        removed: How many go where ``kept`` does not say which.
        damping: As for `Solver`.
        threads: Threads to use.
        progress: As for `Solver`.

    Raises:
        EdgekitError: A Hessian is not positive definite, or something has the wrong shape.
    """
    if (codes is None) != (scales is None):
        raise EdgekitError("codes need scales, and scales codes")
    limits = codes or INT8
    found = _native.solve_exactly(
        np.ascontiguousarray(hessians, np.float64),
        np.ascontiguousarray(weights, np.float64),
        kept=None if kept is None else np.ascontiguousarray(kept, np.uint8),
        removed=removed,
        scales=None if scales is None else np.ascontiguousarray(scales, np.float64),
        low=limits.low,
        high=limits.high,
        damping=damping,
        threads=threads,
        progress=progress,
    )
    return Compensated(found.weights, found.codes, scales, kept, found.costs)


def _finish(found: _native.SolvedRows) -> Compensated:
    kept = None if found.kept is None else found.kept.astype(bool)
    return Compensated(found.weights, found.codes, found.scales, kept, found.costs)


def _make_rule(mask: Mask | None) -> tuple[_native.MaskRule, npt.NDArray[np.uint8] | None]:
    kinds = _native.MaskKind
    match mask:
        case None:
            return _native.MaskRule(kinds.NONE), None
        case Given(kept):
            return _native.MaskRule(kinds.GIVEN), np.ascontiguousarray(kept, np.uint8)
        case KeepOfGroup(keep, group, rows):
            if not 0 <= keep <= group:
                raise EdgekitError(f"{keep} of {group} columns cannot stay")
            return _native.MaskRule(kinds.COUNT, rows=rows, window=group, count=keep), None
        case Blocks(density, rows, columns, window):
            rule = _native.MaskRule(
                kinds.DENSITY, rows=rows, columns=columns, window=window, density=density
            )
            return rule, None
        case Unstructured(density, window):
            return _native.MaskRule(kinds.DENSITY, window=window, density=density), None
