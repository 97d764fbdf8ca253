"""Measures two networks on the same samples, and in turns on the same clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.agreement import Proportion, name_answers
from edgekit.benchmark import is_sized, make_inputs
from edgekit.classification import Classification
from edgekit.converters.answers import Outputs
from edgekit.data import Preprocessing, Samples, read_samples
from edgekit.promise import Scored, Scores, bound_median, read_scores
from edgekit.promise.scored import check_scores, read_bounds
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from edgekit.timing import measure_rounds

# Returns a figure, or a score for each sample.
Measure = Callable[[Session], Any]


class SameAnswers:
    """The share of samples that a network answers as another one does: a measure without labels.

    The answer is where the first output of numbers is largest, along its last axis.

    Args:
        samples: What `deploy` takes as ``calibration``.
        reference: The other network.
        preprocessing: How the pictures of a folder become inputs.
    """

    def __init__(
        self, samples: Any, reference: Session, preprocessing: Preprocessing | None = None
    ) -> None:
        self._samples = samples
        self._reference = reference
        self._preprocessing = preprocessing
        self._known: list[npt.NDArray[np.int64]] | None = None

    def __call__(self, session: Session) -> float:
        """Returns the share."""
        return float(self.scores(session).mean())

    def scores(self, session: Session) -> Scores:
        """Returns 1 for each sample that is answered alike and 0 for the others."""
        if self._known is None:
            self._known = self._answer(self._reference)
        given = self._known if session is self._reference else self._answer(session)
        return np.array(
            [np.array_equal(a, b) for a, b in zip(self._known, given, strict=True)], np.float64
        )

    def _answer(self, session: Session) -> list[npt.NDArray[np.int64]]:
        samples: Samples = read_samples(self._samples, session.inputs, self._preprocessing)
        answers = []
        for sample in samples:
            session.reset()
            outputs: Outputs = session.run(sample)
            answers.append(name_answers(outputs))
        return answers


@dataclass(frozen=True)
class Pair:
    """What both networks reach on the same samples.

    Attributes:
        reference, candidate: Their figures.
        scores: Of single samples, the reference's and the candidate's; None where the measure gives a figure alone.
        bounds: The least and the largest score that there can be.
        changed: On how many samples the answers differ, or where these are not known, the scores.
    """

    reference: float
    candidate: float
    scores: tuple[Scores, Scores] | None
    bounds: tuple[float, float]
    changed: Proportion | None


def measure_pair(evaluate: Measure, reference: Session, candidate: Session) -> Pair:
    """Measures both networks.

    Args:
        evaluate: Takes a session and returns a figure, higher is better, or an array with a score for each sample; or
            a `Scored`.
        reference: What the candidate is compared with.
        candidate: The other one.

    Raises:
        EdgekitError: It returns something else, or scores of different samples.
    """
    first, second = _ask(evaluate, reference), _ask(evaluate, candidate)
    if isinstance(first, float) and isinstance(second, float):
        return Pair(first, second, None, (0.0, 1.0), None)
    if isinstance(first, float) or isinstance(second, float) or len(first) != len(second):
        raise EdgekitError(
            "the measure gives scores of other samples for one network than for the other"
        )
    differing = first != second
    if isinstance(evaluate, Classification):
        differing = evaluate.name_classes(reference) != evaluate.name_classes(candidate)
    return Pair(
        float(first.mean()),
        float(second.mean()),
        (first, second),
        read_bounds(evaluate),
        Proportion(int(differing.sum()), differing.size),
    )


def _ask(evaluate: Measure, session: Session) -> float | Scores:
    if isinstance(evaluate, Scored):
        return read_scores(evaluate, session)
    value = evaluate(session)
    if isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value):
        return check_scores(value, read_bounds(evaluate))
    try:
        figure = float(value)
    except (TypeError, ValueError) as error:
        raise EdgekitError(
            f"the measure returned {value!r}, not a figure or a score for each sample"
        ) from error
    if not np.isfinite(figure):
        raise EdgekitError(f"the measure returned {figure} for {session.path}")
    return figure


def time_pair(
    reference: Session | None, candidate: Session, *, threads: int, seconds: float
) -> tuple[list[float] | None, list[float]]:
    """Returns milliseconds of both networks, in turns: the median of each of many rounds.

    Raises:
        EdgekitError: They take other inputs, or leave a size open.
    """
    sessions = {"reference": reference, "candidate": candidate}
    here = {name: session for name, session in sessions.items() if session is not None}
    specs = [session.inputs for session in here.values()]
    inputs = make_inputs(next((each for each in specs if is_sized(each)), specs[0]))
    calls = {name: partial(session.run, inputs) for name, session in here.items()}
    rounds = measure_rounds(calls, threads=threads, seconds=seconds)
    return rounds.get("reference"), rounds["candidate"]


def describe_times(times: list[float], confidence: float) -> tuple[float, float, float]:
    """Returns the median and its bounds."""
    return (statistics.median(times), *bound_median(times, confidence))
