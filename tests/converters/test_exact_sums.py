"""Scales of sums with which every rule of rounding gives the same codes."""

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit.converters.calibrate import Range
from edgekit.converters.exact_sums import Term, settle_sum
from edgekit.converters.grids import make_grid

CODES = np.arange(-128, 128)
# Ends of ranges have nine bits; scales of some others, of 0x1.9e7ffcp-3 say, divide none of the multiples tried.
ends = st.builds(math.ldexp, st.integers(256, 511), st.integers(-15, -4))


def term(lo: float, hi: float, is_free: bool = True) -> Term:
    return Term(make_grid(Range(-lo, hi)), -lo, is_free)


def page(a: Term, b: Term, y: Term, sign: int) -> np.ndarray:
    """docs/arithmetic.md: two float32 products, one float32 sum, ties to even."""
    left, right = (
        (CODES - t.grid.zero_point).astype(np.float32) * (t.grid.scale / y.grid.scale)
        for t in (a, b)
    )
    total = left[:, None] + np.float32(sign) * right
    return (np.rint(total) + y.grid.zero_point).clip(-128, 127)


def onnxruntime_x86(a: Term, b: Term, y: Term, sign: int, shift: int) -> np.ndarray:
    """The zero points' share first, codes stored with ``shift``, ties to the even stored value."""
    za, zb, zy = (t.grid.zero_point + shift for t in (a, b, y))
    ra, rb = (np.float32(t.grid.scale / y.grid.scale) for t in (a, b))
    rb = np.float32(sign) * rb
    fixed = np.float32(zy) - (ra * np.float32(za) + rb * np.float32(zb))
    stored = (CODES + shift).astype(np.float32)
    total = (fixed + ra * stored)[:, None] + rb * stored
    return np.rint(total).clip(-128 + shift, 127 + shift) - shift


def integer(a: Term, b: Term, y: Term, sign: int, bits: int, *, away: bool) -> np.ndarray:
    """Multipliers of ``bits`` bits; halves up, or away from zero."""
    ra, rb = (float(np.float32(t.grid.scale / y.grid.scale)) for t in (a, b))
    shift = bits - 1 - math.floor(math.log2(max(ra, rb)))
    ma, mb = round(math.ldexp(ra, shift)), sign * round(math.ldexp(rb, shift))
    total = ((CODES - a.grid.zero_point) * ma)[:, None] + (CODES - b.grid.zero_point) * mb
    half = 1 << (shift - 1)
    rounded = (total + half) >> shift
    if away:
        rounded = np.sign(total) * ((np.abs(total) + half) >> shift)
    return (rounded + y.grid.zero_point).clip(-128, 127)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[ends] * 6), st.sampled_from([None, 0, 1, 2]))
def test_every_rule_gives_the_same_codes(sizes, bound):
    terms = [term(*sizes[i : i + 2], is_free=bound != i // 2) for i in (0, 2, 4)]
    scales = [float(t.grid.scale) for t in terms]
    # A sum's range is of the order of its operands'.
    assume(all(1 / 8 < scale / scales[2] < 8 for scale in scales))
    settled = settle_sum(*terms)
    assert settled is not None
    for before, after in zip(terms, settled, strict=True):
        growth = float(after.grid.scale / before.grid.scale)
        assert growth == 1 if not before.is_free else 1 <= growth < 1.02
    for sign in (1, -1):
        wanted = page(*settled, sign)
        for shift in (0, 128):
            assert np.array_equal(onnxruntime_x86(*settled, sign, shift), wanted)
        assert np.array_equal(integer(*settled, sign, 21, away=False), wanted)
        assert np.array_equal(integer(*settled, sign, 22, away=True), wanted)


def test_two_scales_must_be_free():
    assert settle_sum(term(1, 1, False), term(1, 2, False), term(2, 2)) is None


def test_without_it_rules_differ():
    terms = [term(1.0, 1.0), term(1.0, 1.0), term(2.0, 2.0)]
    assert not np.array_equal(page(*terms, 1), integer(*terms, 1, 21, away=False))
