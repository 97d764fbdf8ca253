"""Channels that are cut leave a network that answers as the one whose readers have zeros for them."""

import numpy as np
import pytest
from channel_networks import KINDS, build
from check_pass import run
from float_networks import FloatNet, float_networks, images
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.prune.channels.cut import cut, zero_readers
from edgekit.converters.prune.channels.find_channels import find_channels


def choose_units(channels, random):
    """Returns some units of each space, so many that at least one of it stays."""
    chosen = []
    for space in channels.spaces:
        most = len(space.units) - (space.fixed == 0)
        count = int(random.integers(0, most + 1))
        chosen += random.choice(space.units, count, replace=False).tolist()
    return chosen


def assert_cut_equals_masked(model, feeds, seed=0):
    """Cuts some units; returns how many."""
    channels = find_channels(model)
    units = choose_units(channels, np.random.default_rng(seed))
    if channels.empties(frozenset(units)):
        return 0
    masked, small = model.clone(), model.clone()
    zero_readers(masked, find_channels(masked), units)
    cut(small, find_channels(small), units)
    for before, after in zip(run(masked, **feeds), run(small, **feeds), strict=True):
        assert np.isfinite(before).all()
        np.testing.assert_allclose(after, before, atol=1e-5 * max(np.abs(before).max(), 1e-3))
    return len(units)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(float_networks(), st.integers(0, 99))
def test_cut_equals_masked(model, seed):
    assert_cut_equals_masked(model, {"x": images()}, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cut_equals_masked_in_each_kind_of_group(kind):
    cut_units = []

    @settings(deadline=None, max_examples=10)
    @given(st.integers(0, 2**31), st.integers(2, 6), st.integers(0, 99))
    def check(seed, n, chosen):
        cut_units.append(assert_cut_equals_masked(build(kind, seed, n), {"x": images()}, chosen))

    check()
    assert sum(cut_units) > 0


def test_spaces_are_what_layers_share():
    def spaces(kind):
        found = find_channels(build(kind, 1, 5)).spaces
        return [(len(space.units), space.width) for space in found]

    assert spaces("gate") == [(10, 1), (5, 1), (5, 1)]
    # Features that are summed and normalized stay; two heads go whole; the inner layer goes by channels; an image of
    # four is made in the end.
    assert spaces("heads") == [(2, 4), (20, 1), (4, 1)]
    assert spaces("LSTM") == spaces("LSTM both ways") == [(10, 1), (5, 1), (4, 1)]
    assert spaces("features") == [(5, 1), (15, 1)]


def test_what_is_not_understood_stays():
    net = FloatNet(3)
    name, *_ = net.active(net.conv(("x", 4, 8), 8), "Relu")
    net.values.append((net.node("DepthToSpace", [name], blocksize=2), 2, 16))
    assert not find_channels(net.build()).units
