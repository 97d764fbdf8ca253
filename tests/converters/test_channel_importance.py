"""What units are said to lose is what the best weights without them lose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.prune.channels.channels import Space
from edgekit.converters.prune.channels.importance import DAMPING, Reader, order_by_error


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 7), st.integers(1, 3), st.integers(1, 4))
def test_losses_are_those_of_the_best_repair(seed, count, taps, outputs):
    random = np.random.default_rng(seed)
    depth = count * taps
    rows = random.normal(size=(4 * depth, depth)) @ random.normal(size=(depth, depth))
    covariance = np.cov(rows.T, bias=True)
    weights = random.normal(size=(outputs, depth))
    units = np.arange(1, count + 1)
    reader = Reader(np.repeat(units, taps), weights[None], covariance[None], 2.0)
    order = order_by_error(Space(tuple(units.tolist()), 0, 1, ("layer",)), [reader])
    assert sorted(order.units) == units.tolist()

    damped = covariance + np.eye(depth) * DAMPING * np.trace(covariance) / depth
    for number, lost in enumerate(order.losses):
        left = ~np.isin(reader.columns, order.units[:number])
        best = (
            np.linalg.solve(damped[np.ix_(left, left)], damped[left] @ weights.T)
            if left.any()
            else 0
        )
        error = weights.copy()
        error[:, left] -= np.transpose(best)
        assert lost == pytest.approx(2.0 * np.trace(error @ damped @ error.T), rel=1e-6, abs=1e-9)


def test_many_units_go_some_at_a_time_and_cost_as_much():
    random = np.random.default_rng(0)
    count = 300
    rows = random.normal(size=(900, count)) * np.linspace(0.1, 2, count)
    weights = random.normal(size=(4, count))
    units = tuple(range(1, count + 1))
    reader = Reader(np.array(units), weights[None], np.cov(rows.T, bias=True)[None], 1.0)
    order = order_by_error(Space(units, 0, 1, ("layer",)), [reader])
    assert sorted(order.units) == list(units)
    assert (np.diff(order.losses) >= 0).all()
    damped = (
        reader.covariances[0] + np.eye(count) * DAMPING * np.trace(reader.covariances[0]) / count
    )
    assert order.losses[-1] == pytest.approx(np.trace(weights @ damped @ weights.T))
