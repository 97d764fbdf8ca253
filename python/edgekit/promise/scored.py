"""Measures that give a score for each sample, so that two networks can be compared on pairs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edgekit.session import Session
from edgekit.targets.errors import EdgekitError

Scores = npt.NDArray[np.float64]


@runtime_checkable
class Scored(Protocol):
    """An `evaluate` whose figure is the mean of one score a sample: 1 or 0 for right or wrong, or any in [0, 1].

    Scores of another range need an attribute ``bounds``, the least and the largest score that there can be: no bound
    on a mean holds without (Bahadur and Savage, "The nonexistence of certain statistical procedures in nonparametric
    problems", 1956). Samples are the same, in the same order, for every session.
    """

    def __call__(self, session: Session, /) -> float:
        """Returns the mean of the scores."""

    def scores(self, session: Session, /) -> Scores:
        """Returns a score for each sample, higher is better."""


def read_scores(evaluate: Scored, session: Session) -> Scores:
    """Returns ``evaluate``'s scores, checked; float64 [samples].

    Raises:
        EdgekitError: They are no numbers, one a sample, within the bounds.
    """
    return check_scores(evaluate.scores(session), read_bounds(evaluate))


def check_scores(given: npt.ArrayLike, bounds: tuple[float, float] = (0.0, 1.0)) -> Scores:
    """Returns scores as float64 [samples].

    Args:
        given: What a measure returned.
        bounds: The least and the largest score that there can be.

    Raises:
        EdgekitError: They are no numbers, one a sample, within the bounds.
    """
    try:
        scores = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise EdgekitError(f"scores must be numbers, one for each sample: {error}") from error
    if scores.ndim != 1 or scores.size == 0:
        raise EdgekitError(
            f"scores must give one number for each sample, not an array of shape {list(scores.shape)}"
        )
    if not np.isfinite(scores).all():
        index = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise EdgekitError(f"the score of sample {index} is {scores[index]}: give numbers")
    low, high = bounds
    if scores.min() < low or scores.max() > high:
        raise EdgekitError(
            f"scores lie in {scores.min():.4g} to {scores.max():.4g}, outside of {low:.4g} to {high:.4g}: give the "
            "measure an attribute `bounds` with the least and the largest score that there can be"
        )
    return scores


def read_bounds(evaluate: object) -> tuple[float, float]:
    """Returns the least and the largest score that ``evaluate`` may give, 0 and 1 where it does not say.

    Raises:
        EdgekitError: Its ``bounds`` are not two numbers, the lower one first.
    """
    bounds = getattr(evaluate, "bounds", (0.0, 1.0))
    try:
        low, high = (float(end) for end in bounds)
    except (TypeError, ValueError) as error:
        raise EdgekitError(f"bounds must be two numbers, not {bounds!r}") from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise EdgekitError(f"bounds must be two numbers, the lower one first, not {bounds!r}")
    return low, high
