"""Fits a layer's weights to what it is to give, behind the clamp that follows (least squares)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.prune.channels.rows import Doubles, Floats, LayerRows

# Parts of the mean of a covariance's diagonal that hold weights where they are; the best on rows left out is taken.
HOLDS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# How often targets are set anew that a clamp hides.
_ROUNDS = 3


@dataclass(frozen=True)
class Ahead:
    """What a layer's result goes through, as far as a fit takes it into account.

    Attributes:
        sum: The name of the sum that the result alone is part of, "" where there is none.
        other: What it is added to.
        low: Where a clamp behind it begins, -inf where there is none.
        high: Where it ends.
    """

    sum: str = ""
    other: str = ""
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class Fitted:
    """Weights ``[groups, outputs, depth]`` and bias ``[groups, outputs]`` of a layer, and its error before and after.

    Attributes:
        weights: The weights.
        bias: The bias.
        before: Error behind the clamp in parts of the variance there, on rows left out.
        after: The same when it was fitted.
        hold: What held the weights where they were.
    """

    weights: Doubles
    bias: Doubles
    before: float
    after: float
    hold: float


class _Rows:
    """Some rows of a layer and what it is to give, group by group; what they are compared by is in single precision."""

    def __init__(self, rows: Doubles, others: Doubles, wanted: Doubles, ahead: Ahead) -> None:
        self.rows = np.ascontiguousarray(np.moveaxis(rows, 1, 0))
        self.wanted, self._others = (
            np.ascontiguousarray(np.moveaxis(array, 1, 0), np.float32) for array in (wanted, others)
        )
        self._single = self.rows.astype(np.float32)
        self._low, self._high = np.float32(ahead.low), np.float32(ahead.high)
        self._own_mean: Doubles = np.zeros(0)
        self._products: Doubles | None = None
        self.is_clamped = bool(np.isfinite([ahead.low, ahead.high]).any())
        if self.is_clamped:
            self._clamped = np.clip(self.wanted, self._low, self._high)
            self._below, self._above = self.wanted <= self._low, self.wanted >= self._high
        else:
            self._clamped = self.wanted
        spread = self._clamped - self._clamped.mean(axis=1, keepdims=True)
        self._spread = max(float(np.square(spread).mean(axis=1, dtype=np.float64).sum()), 1e-30)

    @property
    def count(self) -> int:
        return int(self.rows.shape[1])

    def spread_about(self, mean: Doubles) -> Doubles:
        """Returns the sum of products of rows about a mean, ``[groups, depth, depth]``; about their own only once."""
        if self._products is None:
            self._own_mean = self.rows.mean(axis=1, keepdims=True)
            centred = self.rows - self._own_mean
            self._products = np.matmul(centred.transpose(0, 2, 1), centred)
        away = self._own_mean - mean
        return self._products + self.count * away.transpose(0, 2, 1) * away

    def apply(self, weights: Doubles, bias: Doubles) -> Floats:
        """Returns what weights ``[groups, outputs, depth]`` and a bias give, ``[groups, n, outputs]``."""
        turned = weights.transpose(0, 2, 1).astype(np.float32)
        given: Floats = np.matmul(self._single, turned)
        given += bias[:, None].astype(np.float32)
        given += self._others
        return given

    def reach(self, given: Floats | None) -> Doubles:
        """Returns what a layer is to give: where the clamp hides it, what it gives already."""
        wanted = self.wanted
        if self.is_clamped and given is not None:
            wanted = np.where(self._below, np.minimum(given, self._low), wanted)
            wanted = np.where(self._above, np.maximum(given, self._high), wanted)
        return (wanted - self._others).astype(np.float64)

    def score(self, given: Floats) -> float:
        """Returns the error behind the clamp in parts of the variance there."""
        error = np.clip(given, self._low, self._high) if self.is_clamped else given.copy()
        error -= self._clamped
        return float(np.square(error).sum(dtype=np.float64)) / self.count / self._spread


class Fit:
    """Rows ``[n, groups, depth]`` of a layer and what it is to give, ``[n, groups, outputs]``."""

    def __init__(
        self,
        layer: LayerRows,
        ahead: Ahead,
        rows: Doubles,
        others: Doubles,
        wanted: Doubles,
        support: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._support = None if support is None else [_share_support(part) for part in support]
        self._weights, self._bias = layer.weights, layer.bias
        self._has_bias = len(layer.node.inputs) > 2 and layer.node.inputs[2] is not None
        self._ahead, self._all = ahead, (rows, others, wanted)

    def solve(self, owners: npt.NDArray[np.int64], holds: Sequence[float] = HOLDS) -> Fitted | None:
        """Returns the fitted weights, None where those that there are do as well.

        Args:
            owners: Which sample each row is from, ``[n]``.
            holds: What is tried; a single one is taken as it is.
        """
        whole = _Rows(*self._all, self._ahead)
        if len(holds) == 1:
            ((weights, bias),) = self._fit(whole, holds, 1)
            return Fitted(weights, bias, math.nan, math.nan, holds[0])
        learning = owners % 2 == 0
        if learning.all() or not learning.any():
            learning = np.arange(len(owners)) % 2 == 0
        rows, others, wanted = self._all
        halves = [
            _Rows(rows[part], others[part], wanted[part], self._ahead)
            for part in (learning, ~learning)
        ]
        given = [half.apply(self._weights, self._bias) for half in halves]
        before = sum(half.score(one) for half, one in zip(halves, given, strict=True))
        scores = [0.0] * len(holds)
        for place, half in enumerate(halves):
            other = halves[1 - place]
            for hold, fitted in enumerate(self._fit(half, holds, 1, given[place])):
                scores[hold] += other.score(other.apply(*fitted))
        best = int(np.argmin(scores))
        if not scores[best] < before:
            return None
        ((weights, bias),) = self._fit(whole, (holds[best],), _ROUNDS, parts=halves)
        return Fitted(weights, bias, before / 2, scores[best] / 2, holds[best])

    def _fit(
        self,
        part: _Rows,
        holds: Sequence[float],
        rounds: int,
        given: Floats | None = None,
        parts: Sequence[_Rows] = (),
    ) -> list[tuple[Doubles, Doubles]]:
        """Returns weights and bias for each of ``holds``; of ``parts``, which make up ``part``, products are known."""
        parts = parts or (part,)
        rows, count = part.rows, part.count
        mean = (
            rows.mean(axis=1, keepdims=True)
            if self._has_bias
            else np.zeros((len(rows), 1, rows.shape[2]))
        )
        turned = (rows - mean).transpose(0, 2, 1)
        products = sum((one.spread_about(mean) for one in parts), start=np.zeros(())) / count
        scale = np.maximum(np.einsum("gii->g", products) / products.shape[1], 1e-30)
        unit = np.eye(products.shape[1])

        def project(given: Floats | None) -> tuple[Doubles, Doubles | float]:
            wanted = part.reach(given)
            middle = wanted.mean(axis=1, keepdims=True) if self._has_bias else 0.0
            return np.matmul(turned, wanted - middle) / count, middle

        if part.is_clamped and given is None:
            given = part.apply(self._weights, self._bias)
        # The first targets are those of the weights that there are, whatever holds them.
        start = project(given)
        found = []
        for hold in holds:
            damped = products + (hold * scale)[:, None, None] * unit
            pull = (hold * scale)[:, None, None] * self._weights.transpose(0, 2, 1)
            weights, bias, (right, middle) = self._weights, self._bias, start
            for turn in range(rounds if part.is_clamped else 1):
                if turn:
                    right, middle = project(part.apply(weights, bias))
                solved = self._solve(damped, right + pull)
                weights = solved.transpose(0, 2, 1)
                if self._has_bias:
                    bias = (middle - np.matmul(mean, solved))[:, 0]
            found.append((weights, bias))
        return found

    def _solve(self, products: Doubles, right: Doubles) -> Doubles:
        """Returns weights, ``[groups, depth, outputs]``, those that are to be 0 left out of the equations."""
        if self._support is None:
            return np.asarray(np.linalg.solve(products, right), np.float64)
        found = np.zeros(right.shape)
        for group, kinds in enumerate(self._support):
            for columns, outputs in kinds:
                part = products[group][np.ix_(columns, columns)]
                place = np.ix_(columns, outputs)
                found[group][place] = np.linalg.solve(part, right[group][place])
        return found


def _share_support(
    support: npt.NDArray[np.bool_],
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Returns the columns that stay, and the rows of ``[outputs, depth]`` that share them."""
    _, first, which = np.unique(
        np.packbits(support, axis=1), axis=0, return_index=True, return_inverse=True
    )
    owners = which.reshape(-1)
    return [
        (np.flatnonzero(support[row]), np.flatnonzero(owners == kind))
        for kind, row in enumerate(first)
    ]
