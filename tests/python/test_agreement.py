import doctest

import pytest

from edgekit import agreement
from edgekit.agreement import Proportion


def test_doctests():
    assert doctest.testmod(agreement).failed == 0


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # At the ends the other bound is z^2 / (n + z^2) away.
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (88, 89, 0.9391, 0.9980),
    ],
)
def test_interval(count, total, low, high):
    assert Proportion(count, total).interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("count", "total"), [(1, 0), (3, 2), (-1, 2)])
def test_nonsense(count, total):
    with pytest.raises(ValueError, match="not a proportion"):
        Proportion(count, total)
