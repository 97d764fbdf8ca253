"""What a compressed network has to keep of the float model's answers."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.closest import Candidate
from edgekit.report import Accuracy
from edgekit.session import Session
from edgekit.targets.errors import AccuracyError, EdgekitError

Evaluate = Callable[[Session], float]

# Signal to noise of the worst output. Noise of a tenth of the answers' size is what float32 layers are taken against
# where they cost little; noise of a sixth, more than the int8 forms of careful quantizers have, at any price.
WANTED_SNR_DB = 20.0
LEAST_SNR_DB = 15.0
# Noise of any one sample, over the mean power of the answers: more turns that answer around.
_MOST_NOISE = 0.5
# How much longer an inference may take for what is wanted.
LITTLE = 1.1


def check_goal(evaluate: Evaluate | None, max_drop: float | None) -> None:
    """Checks that what may be lost is of something.

    Raises:
        EdgekitError: There is a bound and no measure.
    """
    if max_drop is not None and evaluate is None:
        raise EdgekitError("max_drop needs evaluate: a callable that measures a session")


class Goal:
    """The caller's bound on the drop of its own measure; where there is none, decibels of the worst output.

    Args:
        evaluate: Takes a session and returns a figure, higher is better.
        float_session: Runs the float model.
        max_drop: How much of the figure may be lost.
    """

    def __init__(
        self, evaluate: Evaluate | None, float_session: Session, max_drop: float | None
    ) -> None:
        self._evaluate = evaluate
        self._float_session = float_session
        self._float_value: float | None = None
        self._max_drop = max_drop
        self._known: dict[int, tuple[Candidate, Accuracy]] = {}

    def measure(self, candidate: Candidate) -> Accuracy | None:
        """Returns the caller's figures, None where there is no measure; each session is measured once."""
        if self._evaluate is None:
            return None
        if self._float_value is None:
            self._float_value = float(self._evaluate(self._float_session))
        if id(candidate) not in self._known:
            value = float(self._evaluate(candidate.forms.session))
            self._known[id(candidate)] = (candidate, Accuracy(self._float_value, value))
        return self._known[id(candidate)][1]

    def is_met(self, candidate: Candidate) -> bool:
        """Returns whether ``candidate`` answers well enough."""
        if self._max_drop is None:
            return candidate.snr_db >= WANTED_SNR_DB
        accuracy = self.measure(candidate)
        return accuracy is not None and accuracy.drop <= self._max_drop

    def is_sound(self, candidate: Candidate) -> bool:
        """Returns whether ``candidate`` may be kept where one that meets the goal would be much slower."""
        if self._max_drop is not None:
            return self.is_met(candidate)
        return candidate.snr_db >= LEAST_SNR_DB and candidate.worst <= _MOST_NOISE

    def is_worth(self, slowdown: float) -> bool:
        """Returns whether a candidate that is sound is to be given up for one that meets the goal, so much slower."""
        return self._max_drop is not None or slowdown <= LITTLE

    def check(self, candidate: Candidate) -> None:
        """Checks the caller's bound.

        Raises:
            AccuracyError: The figure drops by more.
        """
        accuracy = self.measure(candidate)
        if accuracy is None or self._max_drop is None or accuracy.drop <= self._max_drop:
            return
        raise AccuracyError(
            f"int8 brings the figure from {accuracy.float_value:.4g} to {accuracy.int8_value:.4g}, a drop above "
            f"max_drop={self._max_drop:.4g}: give more calibration samples, or such as the model meets in use, "
            "or allow more"
        )
