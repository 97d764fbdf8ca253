"""One layer's zeros by the native solver, beside plain least squares in numpy."""

import numpy as np
import pytest

from edgekit.converters.prune.pattern import parse_pattern
from edgekit.converters.prune.sparsity.solve_layer import fit_kept, solve_layer

PATTERNS = ["4x4", "4x32", "2:4", "1:4x3", "unstructured"]


def make_layer(n=20, k=70):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, k)) @ rng.normal(size=(k, k))
    return rng.normal(size=(n, k)), x.T @ x / 300 + 0.1 * np.eye(k)


def fit_rows(weights, covariance, kept):
    """Returns the best weights of a mask, each row by itself: the oracle."""
    found = np.zeros(weights.shape)
    for row, columns in enumerate(kept):
        part = covariance[np.ix_(columns, columns)]
        found[row, columns] = np.linalg.solve(part, covariance[columns] @ weights[row])
    return found


def lose(weights, found, covariance):
    error = weights - found
    return np.einsum("ni,ij,nj->n", error, covariance, error)


@pytest.mark.parametrize("text", PATTERNS)
def test_what_stays_is_the_best_of_its_mask(text):
    weights, covariance = make_layer()
    solved = solve_layer(weights, covariance, parse_pattern(text), 0.5)
    share = {"1:4x3": 0.75}.get(text, 0.5)
    assert (solved.weights == 0).mean() == pytest.approx(share, abs=0.03)
    wanted = fit_rows(weights, covariance, solved.kept)
    np.testing.assert_allclose(solved.weights, wanted, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(solved.losses, lose(weights, wanted, covariance), rtol=1e-7)


@pytest.mark.parametrize("text", PATTERNS)
def test_codes_at_once_lose_what_the_mask_and_rounding_lose(text):
    weights, covariance = make_layer()
    # Wide enough for what makes up for the zeros.
    scales = 4 * np.abs(weights).max(axis=1) / 127
    pattern = parse_pattern(text)
    solved = solve_layer(weights, covariance, pattern, 0.5, scales=scales)
    assert solved.codes is not None
    np.testing.assert_array_equal(solved.codes == 0, (solved.codes == 0) | ~solved.kept)
    np.testing.assert_array_equal(solved.weights, solved.codes * scales[:, None])
    pruned = solve_layer(weights, covariance, pattern, 0.5)
    np.testing.assert_array_equal(pruned.kept, solved.kept)
    by_rounding = lose(pruned.weights, solved.weights, covariance)
    np.testing.assert_allclose(solved.losses, pruned.losses + by_rounding, rtol=1e-6)
    nearest = np.clip(np.rint(pruned.weights / scales[:, None]), -127, 127) * scales[:, None]
    assert by_rounding.sum() < lose(pruned.weights, nearest, covariance).sum()


def test_a_mask_of_everything_changes_nothing_and_one_of_nothing_leaves_nothing():
    weights, covariance = make_layer(3, 12)
    solved = fit_kept(weights, covariance, np.ones(weights.shape, bool))
    np.testing.assert_array_equal(solved.weights, weights)
    assert not solved.losses.any()
    solved = fit_kept(weights, covariance, np.zeros(weights.shape, bool))
    assert not solved.weights.any()
    np.testing.assert_allclose(solved.losses, lose(weights, 0, covariance), rtol=1e-7)
