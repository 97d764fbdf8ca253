"""Chooses scales with which a sum of codes rounds to the same code in every runtime.

Runtimes disagree on sums that fall on or next to the middle of two codes (docs/arithmetic.md): some take float32
products, some integer multipliers of 20 bits, and ties go to even, up or away from zero. But they all divide
``s_a / s_y`` and ``s_b / s_y`` in float32 first. If both are whole multiples of ``2^-k`` and small enough, then every
product and sum of every rule is exact, and if no pair of codes lies in the middle of two results, nothing is
left to disagree on. Such scales lie close to any others: a few parts in a thousand above them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgekit.converters.quantization import ActivationQuantization

# float32 holds every whole number up to here.
_EXACT = 1 << 24
# How far above the smallest ratio that serves others are tried, in steps of 2^-k.
_STEPS = 96


@dataclass(frozen=True)
class Term:
    """An operand or the result of a sum.

    Attributes:
        grid: The smallest that holds its range.
        lo: The range's lower end.
        is_free: Whether its scale may grow.
    """

    grid: ActivationQuantization
    lo: float
    is_free: bool

    def at(self, scale: np.float32) -> Term:
        """Returns the term with another scale, its zero point where 0 lies then."""
        zero_point = int(np.clip(np.rint(-128 - self.lo / float(scale)), -128, 127))
        return replace(self, grid=replace(self.grid, scale=scale, zero_point=zero_point))


def settle_sum(a: Term, b: Term, y: Term) -> tuple[Term, Term, Term] | None:
    """Returns ``y = a + b`` or ``y = a - b`` with scales that every runtime agrees on, or None where none were found.

    Two of the three scales at least must be free; they grow by a few parts in a thousand. A term that is not free keeps
    its scale, and so does ``a`` where all are.
    """
    if sum(term.is_free for term in (a, b, y)) < 2:
        return None
    swapped = a.is_free and not b.is_free
    first, second = (b, a) if swapped else (a, b)
    ratios = sum(float(term.grid.scale) / float(y.grid.scale) for term in (a, b))
    bits = math.floor(math.log2(_EXACT / (256 * (1 + ratios))))
    candidates = _from_result if not y.is_free else _from_operand
    for found in candidates(first, second, y, bits):
        if found is None:
            continue
        left, right, result = found
        terms = (right, left, result) if swapped else found
        if not _has_ties(*terms, bits):
            return terms
    return None


def _diagonals() -> Iterator[tuple[int, int]]:
    """Yields pairs of steps, the smallest sums first."""
    for total in range(_STEPS):
        for i in range(total + 1):
            yield i, total - i


def _from_operand(a: Term, b: Term, y: Term, bits: int) -> Iterator[tuple[Term, Term, Term] | None]:
    """Yields scales of ``y`` and ``b`` for the scale of ``a``."""
    most = math.floor(math.ldexp(float(a.grid.scale) / float(y.grid.scale), bits))
    for i, j in _diagonals():
        if most - i < 1:
            return
        result = y.at(np.float32(math.ldexp(float(a.grid.scale), bits) / (most - i)))
        yield _exact(a, _next(b, result, bits, j), result, bits)


def _from_result(a: Term, b: Term, y: Term, bits: int) -> Iterator[tuple[Term, Term, Term] | None]:
    """Yields scales of both operands for the scale of ``y``."""
    for i, j in _diagonals():
        yield _exact(_next(a, y, bits, i), _next(b, y, bits, j), y, bits)


def _next(term: Term, y: Term, bits: int, step: int) -> Term:
    """Returns ``term`` with the scale that lies ``step`` steps above the smallest one that is a multiple."""
    least = math.ceil(math.ldexp(float(term.grid.scale) / float(y.grid.scale), bits))
    return term.at(np.float32(math.ldexp(float(y.grid.scale) * (least + step), -bits)))


def _exact(a: Term, b: Term, y: Term, bits: int) -> tuple[Term, Term, Term] | None:
    """Returns the terms if float32 divides their scales without a rest beyond ``bits``."""
    exact = all(math.ldexp(float(ratio(term, y)), bits).is_integer() for term in (a, b))
    return (a, b, y) if exact else None


def ratio(term: Term, y: Term) -> np.float32:
    """Returns ``float32(s / s_y)``."""
    return np.float32(term.grid.scale) / np.float32(y.grid.scale)


def _has_ties(a: Term, b: Term, y: Term, bits: int) -> bool:
    """Returns whether the sum or the difference of any two codes lies in the middle of two results."""
    left, right = (_centred(term) * int(math.ldexp(float(ratio(term, y)), bits)) for term in (a, b))
    half = 1 << (bits - 1)
    low, high = (code - y.grid.zero_point for code in (-128, 127))
    for sums in (left[:, None] + right, left[:, None] - right):
        inside = (sums >= (low << bits) - half) & (sums <= (high << bits) + half)
        if np.any(inside & ((sums & (2 * half - 1)) == half)):
            return True
    return False


def _centred(term: Term) -> npt.NDArray[np.int64]:
    return np.arange(-128, 128, dtype=np.int64) - term.grid.zero_point
