"""The native solver against plain numpy, to the byte: on every instruction set and number of threads."""

import numpy as np
import pytest
from compress_oracle import (
    apply_zeros,
    factorize,
    gather_patches,
    order_removal,
    solve_columns,
    solve_exactly,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.targets.errors import EdgekitError

ISAS = [info.name for info in _native.isas() if info.built and info.supported]
NO_MASK = _native.MaskRule(_native.MaskKind.NONE)
GIVEN = _native.MaskRule(_native.MaskKind.GIVEN)
fast = settings(deadline=None, max_examples=25)
sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)
isas = st.sampled_from(ISAS)
threads = st.sampled_from([1, 2, 5])


def make_hessian(rng, depth, dead=0):
    x = rng.normal(size=(max(1, depth // 2), depth)).astype(np.float32)
    x[:, rng.permutation(depth)[:dead]] = 0
    codes = np.rint(x * 40).astype(np.int8).astype(np.float64)
    return codes.T @ codes


def count_mask(rows, columns, window, count):
    return (
        _native.MaskRule(
            _native.MaskKind.COUNT, rows=rows, columns=columns, window=window, count=count
        ),
        ("count", rows, columns, window, count),
    )


def density_mask(rows, columns, window, density):
    return (
        _native.MaskRule(
            _native.MaskKind.DENSITY, rows=rows, columns=columns, window=window, density=density
        ),
        ("density", rows, columns, window, density),
    )


@fast
@given(data=st.data(), seed=seeds, isa=isas, count=threads, codes=st.booleans())
def test_hessian_is_the_oracles(data, seed, isa, count, codes):
    rng = np.random.default_rng(seed)
    draw = data.draw
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 5]))
    channels = groups * draw(st.integers(1, 5))
    pair = lambda low, high: [draw(st.integers(low, high)) for _ in range(2)]  # noqa: E731
    size, kernel = pair(1, 9), pair(1, 3)
    stride, dilation, pad, out = pair(1, 3), pair(1, 2), pair(0, 3), pair(1, 13)
    window = _native.Window(
        channels,
        groups=groups,
        size=size,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pad=pad,
        out=out,
        transposed=transposed,
    )
    if codes:
        image = rng.integers(-128, 128, (channels, *size)).astype(np.int8)
        real, grid = image.astype(np.float64) - 3, {"offset": 3.0}
    else:
        image = rng.normal(size=(channels, *size)).astype(np.float32)
        real = np.rint(image.astype(np.float64) * 2**12).clip(-5000, 5000)
        grid = {"scale": 2.0**12, "limit": 5000.0}
    places = np.sort(rng.permutation(window.positions)[: rng.integers(0, 140)]).astype(np.uint32)
    hessian = _native.Hessian(groups, window.depth, threads=count, isa=isa)
    hessian.add(window, image, places, **grid)
    for group in range(groups):
        patches = gather_patches(
            real, group, groups, kernel, stride, dilation, pad, out, transposed
        )[places]
        np.testing.assert_array_equal(hessian.matrix(group), patches.T @ patches)


def test_hessian_does_not_depend_on_order_and_is_exact_at_the_ends():
    rng = np.random.default_rng(3)
    x = rng.choice(np.array([-128, 127, -1, 0], np.int8), (3000, 30))
    window, places = _native.Window(30), np.zeros(1, np.uint32)
    found = []
    for order in (np.arange(3000), rng.permutation(3000)):
        hessian = _native.Hessian(1, 30, threads=2)
        for row in x[order]:
            hessian.add(window, row.reshape(30, 1, 1), places, offset=-128.0)
        found.append(hessian.matrix())
    exact = (x.astype(np.int64) + 128).T @ (x.astype(np.int64) + 128)
    np.testing.assert_array_equal(found[0], exact)
    np.testing.assert_array_equal(found[1], exact)


@fast
@given(depth=sizes, seed=seeds, isa=isas, count=threads, damping=st.sampled_from([1e-4, 0.01, 1.0]))
def test_factor_is_the_oracles(depth, seed, isa, count, damping):
    rng = np.random.default_rng(seed)
    h = make_hessian(rng, depth, dead=depth // 5)
    order = rng.permutation(depth)
    factor = _native.Factor(h, order, damping=damping, threads=count, isa=isa)
    np.testing.assert_array_equal(factor.pivots, factorize(h, order, damping).diagonal())


@pytest.mark.parametrize("isa", ISAS)
def test_factor_of_several_blocks_multiplies_back(isa):
    rng = np.random.default_rng(5)
    h = make_hessian(rng, 200)
    order = np.arange(200)
    a = factorize(h, order, 0.01)
    np.testing.assert_allclose(
        a.T @ a, h + 0.01 * h.diagonal().mean() * np.eye(200), rtol=1e-9, atol=1e-6
    )
    factor = _native.Factor(h, order, damping=0.01, threads=2, isa=isa)
    np.testing.assert_array_equal(factor.pivots, a.diagonal())


@fast
@given(
    rows=st.integers(1, 60),
    depth=sizes,
    seed=seeds,
    isa=isas,
    count=threads,
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([None, 8, 5]),
    given_mask=st.booleans(),
)
def test_rounding_is_the_oracles(rows, depth, seed, isa, count, bits, group, given_mask):
    rng = np.random.default_rng(seed)
    h, order = make_hessian(rng, depth, dead=depth // 7), rng.permutation(depth)
    weights = rng.normal(size=(rows, depth))
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    groups = -(-depth // (group or depth))
    # Some are clamped.
    scales = rng.uniform(0.5, 1.1, (rows, groups)) * np.abs(weights).max() / high
    kept = (rng.random((rows, depth)) < 0.6).astype(np.uint8) if given_mask else None
    factor = _native.Factor(h, order, damping=0.01, isa=isa)
    found = _native.solve_columns(
        factor,
        weights,
        mask=GIVEN if given_mask else NO_MASK,
        kept=kept,
        scales=scales,
        group=group or 0,
        low=low,
        high=high,
        threads=count,
        isa=isa,
    )
    result, codes, _, _, costs = solve_columns(
        factorize(h, order, 0.01),
        order,
        weights,
        kept=kept,
        scales=scales,
        group=group,
        low=low,
        high=high,
    )
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.weights, result)
    np.testing.assert_array_equal(found.costs, costs)


@fast
@given(
    rows=st.integers(1, 40),
    depth=sizes,
    seed=seeds,
    isa=isas,
    count=threads,
    group=st.sampled_from([None, 8, 12]),
    rounds=st.booleans(),
    rule=st.sampled_from(
        [
            None,
            count_mask(1, 1, 4, 2),
            count_mask(1, 1, 16, 3),
            count_mask(4, 1, 4, 2),
            count_mask(1, 4, 16, 2),
            density_mask(1, 1, 16, 0.4),
            density_mask(1, 1, 64, 0.5),
            density_mask(32, 4, 8, 0.5),
            density_mask(3, 4, 20, 0.3),
        ]
    ),
)
def test_scales_and_masks_chosen_on_the_way_are_the_oracles(
    rows, depth, seed, isa, count, group, rounds, rule
):
    rng = np.random.default_rng(seed)
    h, order = make_hessian(rng, depth), np.arange(depth)
    weights = rng.normal(size=(rows, depth))
    weights[0] = 0
    parts = [1.0, 0.8, 0.9] if rounds else []
    factor = _native.Factor(h, order, damping=0.01, isa=isa)
    found = _native.solve_columns(
        factor,
        weights,
        mask=rule[0] if rule else NO_MASK,
        parts=parts,
        group=group or 0,
        low=-8,
        high=7,
        threads=count,
        isa=isa,
    )
    result, codes, scales, kept, costs = solve_columns(
        factorize(h, order, 0.01),
        order,
        weights,
        mask=rule[1] if rule else None,
        parts=parts,
        group=group,
        low=-8,
        high=7,
    )
    if rule:
        np.testing.assert_array_equal(found.kept, kept)
    if rounds:
        np.testing.assert_array_equal(found.scales, scales)
        np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.weights, result)
    np.testing.assert_array_equal(found.costs, costs)


@fast
@given(
    groups=st.integers(1, 3),
    rows=st.integers(1, 3),
    depth=st.integers(1, 12),
    seed=seeds,
    count=threads,
    rounds=st.booleans(),
    removal=st.sampled_from(["none", "some", "given"]),
)
def test_exact_steps_are_the_oracles(groups, rows, depth, seed, count, rounds, removal):
    rng = np.random.default_rng(seed)
    h = np.stack([make_hessian(rng, depth) for _ in range(groups)])
    weights = rng.normal(size=(groups, rows, depth))
    scales = rng.uniform(0.1, 0.4, (groups, rows)) if rounds else None
    kept = (rng.random(weights.shape) < 0.5).astype(np.uint8) if removal == "given" else None
    removed = depth // 2 if removal == "some" else 0
    found = _native.solve_exactly(
        h, weights, kept=kept, removed=removed, scales=scales, low=-8, high=7, threads=count
    )
    for g in range(groups):
        for r in range(rows):
            result, codes, cost = solve_exactly(
                h[g],
                weights[g, r],
                kept=None if kept is None else kept[g, r],
                removed=removed,
                scale=scales[g, r] if rounds else None,
                low=-8,
                high=7,
            )
            np.testing.assert_array_equal(found.weights[g, r], result)
            if rounds:
                np.testing.assert_array_equal(found.codes[g, r], codes)
            assert found.costs[g, r] == cost


def loss(h, damping, errors):
    whole = h + damping * h.diagonal().mean() * np.eye(len(h))
    return np.einsum("ri,ij,rj->r", errors, whole, errors)


@pytest.mark.parametrize("bits", [4, 8])
def test_costs_are_the_loss_and_less_than_that_of_nearest_codes(bits):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(600, 96)) @ rng.normal(size=(96, 96))
    x = np.rint(x / np.abs(x).max() * 2000)
    h, weights = x.T @ x, rng.normal(size=(40, 96))
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    scales = np.abs(weights).max(axis=1, keepdims=True) / high
    factor = _native.Factor(h, np.arange(96), damping=0.01)
    found = _native.solve_columns(factor, weights, mask=NO_MASK, scales=scales, low=low, high=high)
    np.testing.assert_allclose(found.costs, loss(h, 0.01, weights - found.weights), rtol=1e-6)
    nearest = np.rint(weights / scales).clip(low, high) * scales
    assert found.costs.sum() < 0.6 * loss(h, 0.01, weights - nearest).sum()


def test_what_removal_leaves_is_the_best_that_the_mask_allows():
    rng = np.random.default_rng(13)
    h, weights = make_hessian(rng, 20), rng.normal(size=(6, 20))
    whole = h + 0.01 * h.diagonal().mean() * np.eye(20)
    # Where what is removed comes first, all the rest makes up for it.
    kept = np.ones((6, 20), np.uint8)
    kept[:, :7] = 0
    factor = _native.Factor(h, np.arange(20), damping=0.01)
    found = _native.solve_columns(factor, weights, mask=GIVEN, kept=kept)
    exact = _native.solve_exactly(h[None], weights[None], kept=kept[None])
    best = np.linalg.solve(whole[7:, 7:], whole[7:] @ weights.T).T
    for result in (found.weights, exact.weights[0]):
        assert not result[:, :7].any()
        np.testing.assert_allclose(result[:, 7:], best, rtol=1e-6)


def test_masks_hold_what_they_promise():
    rng = np.random.default_rng(17)
    h, weights = make_hessian(rng, 64), rng.normal(size=(70, 64))
    factor = _native.Factor(h, np.arange(64), damping=0.01)

    def choose(rule):
        found = _native.solve_columns(factor, weights, mask=rule[0])
        assert not found.weights[found.kept == 0].any()
        return found.kept

    two_of_four = choose(count_mask(1, 1, 4, 2))
    assert (two_of_four.reshape(70, 16, 4).sum(axis=2) == 2).all()
    assert choose(density_mask(1, 1, 24, 0.3)).sum() == round(0.3 * 70 * 64)
    blocks = choose(density_mask(32, 4, 64, 0.5))
    tall = np.add.reduceat(blocks, [0, 32, 64], axis=0).reshape(3, 16, 4).sum(axis=2)
    assert set(np.unique(tall)) <= {0, 32 * 4, 6 * 4}
    assert (tall > 0).sum() == 24


def test_progress_is_told_and_may_cancel():
    rng = np.random.default_rng(19)
    h, weights = make_hessian(rng, 300), rng.normal(size=(500, 300))
    told = []
    factor = _native.Factor(
        h, np.arange(300), damping=0.01, progress=lambda *step: told.append(step)
    )
    assert told[0] == (0, 304)
    assert told[-1] == (304, 304)

    def cancel(done, total):
        if done:
            raise TimeoutError(f"{done} of {total}")

    with pytest.raises(TimeoutError):
        _native.solve_columns(factor, weights, mask=NO_MASK, threads=2, progress=cancel)
    with pytest.raises(TimeoutError):
        _native.solve_exactly(h[None], weights[None, :1], progress=cancel)


def test_what_does_not_fit_is_named():
    h, weights = np.eye(4), np.ones((2, 4))
    order = np.arange(4)
    with pytest.raises(EdgekitError, match="positive definite"):
        _native.Factor(-h, order, damping=0.0)
    with pytest.raises(EdgekitError, match="positive definite"):
        _native.Factor(h * np.nan, order, damping=0.01)
    with pytest.raises(EdgekitError, match="each column once"):
        _native.Factor(h, np.zeros(4, np.int64), damping=0.01)
    with pytest.raises(EdgekitError, match="h is float32, not float64"):
        _native.Factor(h.astype(np.float32), order, damping=0.01)
    factor = _native.Factor(h, order, damping=0.01)
    with pytest.raises(EdgekitError, match="dimension 1 should be 4"):
        _native.solve_columns(factor, np.ones((2, 3)), mask=NO_MASK)
    with pytest.raises(EdgekitError, match="kept is missing"):
        _native.solve_columns(factor, weights, mask=GIVEN)
    with pytest.raises(EdgekitError, match="scale is not positive"):
        _native.solve_columns(factor, weights, mask=NO_MASK, scales=np.zeros((2, 1)))
    turned = _native.Factor(h, order[::-1].copy(), damping=0.01)
    for rule in (count_mask(1, 1, 4, 2), density_mask(1, 4, 4, 0.5)):
        with pytest.raises(EdgekitError, match="own order"):
            _native.solve_columns(turned, weights, mask=rule[0])
    with pytest.raises(EdgekitError, match="own order"):
        _native.solve_columns(turned, weights, mask=NO_MASK, parts=[1.0], group=2)
    with pytest.raises(EdgekitError, match="multiple"):
        _native.solve_columns(factor, weights, mask=density_mask(1, 4, 6, 0.5)[0])
    with pytest.raises(EdgekitError, match="outside"):
        _native.Hessian(1, 2).add(
            _native.Window(2), np.zeros((2, 1, 1), np.float32), np.ones(1, np.uint32)
        )
    with pytest.raises(EdgekitError, match="groups"):
        _native.Window(5, groups=2)


@fast
@given(data=st.data(), seed=seeds, isa=isas, count=threads)
def test_blocks_go_in_the_oracles_order(data, seed, isa, count):
    rng = np.random.default_rng(seed)
    draw = data.draw
    rows, depth = draw(st.integers(1, 9)), draw(st.sampled_from([1, 5, 23, 70, 170]))
    panel, width = draw(
        st.sampled_from([(1, 1), (4, 1), (4, 4), (3, 2), (32, 4), (2, 20), (2, 70)])
    )
    blocks = -(-depth // width)
    group = draw(st.sampled_from([blocks, 4, 3]))
    keep, alone = draw(st.integers(0, 2)), draw(st.booleans())
    h = make_hessian(rng, depth) + 0.5 * np.eye(depth)
    inverse = np.linalg.inv(h)
    inverse = (inverse + inverse.T) / 2
    weights = rng.normal(size=(rows, depth))
    expected = order_removal(weights, inverse, panel, width, group, keep, alone)
    found = _native.order_removal(
        weights,
        inverse,
        rows=panel,
        columns=width,
        group=group,
        keep=keep,
        alone=alone,
        threads=count,
        isa=isa,
    )
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@fast
@given(seed=seeds, isa=isas, count=threads, depth=st.sampled_from([1, 9, 70, 170]))
def test_what_stays_makes_up_as_the_oracle_says(seed, isa, count, depth):
    rng = np.random.default_rng(seed)
    h = make_hessian(rng, depth) + 0.5 * np.eye(depth)
    inverse = np.linalg.inv(h)
    inverse = (inverse + inverse.T) / 2
    weights, supports = rng.normal(size=(5, depth)), rng.random((3, depth)) < rng.random((3, 1))
    owners = rng.integers(0, 3, 5)
    expected = apply_zeros(weights, inverse, supports[owners])
    found = _native.apply_zeros(
        weights,
        inverse,
        kept=supports.astype(np.uint8),
        support_of=owners,
        threads=count,
        isa=isa,
    )
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_an_order_needs_a_covariance():
    weights = np.ones((2, 3))
    with pytest.raises(EdgekitError, match="positive definite"):
        _native.order_removal(weights, -np.eye(3), rows=2, columns=2, group=2)
    with pytest.raises(EdgekitError, match="inverse"):
        _native.order_removal(weights, np.eye(4), rows=2, columns=2, group=2)
