"""What a compressed network has to keep of the float model's answers."""

from __future__ import annotations

import copy
from collections.abc import Callable

from edgekit.choosing.closest import Candidate, to_decibels
from edgekit.promise import (
    CONFIDENCE,
    DropPromise,
    Scored,
    Scores,
    Verdict,
    check_confidence,
    promise_drop,
    read_scores,
)
from edgekit.promise.scored import read_bounds
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
# Answers that are others than float's, where outputs are distributions (`share_changed`): so few leave nothing to ask
# for; more than the second are told, and more than the third not kept at any price.
WANTED_CHANGED = 0.002
TOLD_CHANGED = 0.01
_MOST_CHANGED = 0.05
# How much longer an inference may take for what is wanted, and for each answer that it may save.
LITTLE = 1.1
_WORTH_OF_ANSWERS = 10.0


def check_goal(evaluate: Evaluate | None, max_drop: float | None) -> None:
    """Checks what may be lost.

    Raises:
        EdgekitError: It is no share of answers, and there is no measure.
    """
    if max_drop is not None and evaluate is None and not 0 <= max_drop <= 1:
        raise EdgekitError(
            f"max_drop without evaluate is a share of answers, from 0 to 1, not {max_drop!r}"
        )


class Goal:
    """The caller's bound on the drop of its own measure; where there is none, decibels of the worst output.

    A bound without a measure is one on the share of answers that may be others than float's (`share_turned`), of which
    no measure that counts right answers can lose more.

    Where the measure gives a score for each sample (`Scored`), the bound is tested on pairs and has to hold with
    ``confidence``. Candidates are tried one after another, on the same samples: the k-th is tested at a share of
    3 / 4^k of what may go wrong, which adds up to no more than the whole however many there are. `promise` tests one at
    the whole, for those who try them in a fixed order (`accept_in_order`). Where the measure gives a figure alone, or
    ``confidence`` is None, figures are compared as they are.

    Args:
        evaluate: Takes a session and returns a figure, higher is better.
        float_session: Runs the float model.
        max_drop: How much of the figure may be lost.
        confidence: That the bound has to hold with, None to compare figures alone.

    Raises:
        EdgekitError: The confidence makes no sense.
    """

    def __init__(
        self,
        evaluate: Evaluate | None,
        float_session: Session,
        max_drop: float | None,
        confidence: float | None = CONFIDENCE,
    ) -> None:
        if confidence is not None:
            check_confidence(confidence)
        self._evaluate = evaluate
        self._float_session = float_session
        self._float_scores: Scores | None = None
        self._float_value: float | None = None
        self._max_drop = max_drop
        self._confidence = confidence
        self._known: dict[int, tuple[Candidate, Accuracy]] = {}
        self._scores: dict[int, Scores] = {}
        # Candidates in the order in which they were tried.
        self._tried: list[int] = []

    def at(self, confidence: float) -> Goal:
        """Returns the goal with another confidence; what is measured for one is known to both."""
        check_confidence(confidence)
        again = copy.copy(self)
        again._confidence = confidence
        return again

    @property
    def has_samples(self) -> bool:
        """Whether answers are judged by the caller's measure, which has samples of its own."""
        return self._max_drop is not None and self._evaluate is not None

    @property
    def confidence(self) -> float | None:
        """That bounds have to hold with; None where figures are compared as they are."""
        return self._confidence

    @property
    def counts_answers(self) -> bool:
        """Whether a drop is bounded by the share of answers that may be others, for want of a measure."""
        return self._max_drop is not None and self._evaluate is None

    @property
    def is_scored(self) -> bool:
        """Whether a drop is bounded with confidence, by scores of the caller's measure."""
        return (
            self.has_samples and self._confidence is not None and isinstance(self._evaluate, Scored)
        )

    def measure(self, candidate: Candidate) -> Accuracy | None:
        """Returns the caller's figures, None where there is no measure; each session is measured once."""
        if self._evaluate is None:
            return None
        if id(candidate) not in self._known:
            self._measure_float()
            scores, value = self._ask(candidate.forms.session)
            if scores is not None:
                self._scores[id(candidate)] = scores
            assert self._float_value is not None
            self._known[id(candidate)] = (candidate, Accuracy(self._float_value, value))
        return self._known[id(candidate)][1]

    def recall(self, candidate: Candidate) -> Accuracy | None:
        """Returns the caller's figures where they were measured, None otherwise."""
        known = self._known.get(id(candidate))
        return None if known is None else known[1]

    def scores(self, candidate: Candidate) -> tuple[Scores, Scores] | None:
        """Returns the float model's scores and the candidate's, one a sample; None where the measure gives none."""
        self.measure(candidate)
        if self._float_scores is None:
            return None
        return self._float_scores, self._scores[id(candidate)]

    def promise(self, candidate: Candidate, confidence: float | None = None) -> DropPromise | None:
        """Returns what may be promised of ``candidate``, None where no confidence can be stated.

        Args:
            candidate: Of the model's.
            confidence: Of this test alone; by default the whole.

        Raises:
            EdgekitError: Scores make no sense.
        """
        wanted = self._confidence if confidence is None else confidence
        if self._max_drop is None or wanted is None or not isinstance(self._evaluate, Scored):
            return None
        self.measure(candidate)
        assert self._float_scores is not None
        return promise_drop(
            self._float_scores,
            self._scores[id(candidate)],
            self._max_drop,
            confidence=wanted,
            bounds=self._bounds,
        )

    def try_promise(self, candidate: Candidate) -> DropPromise | None:
        """Returns what may be promised of ``candidate`` beside those that were tried before it; None as `promise`."""
        if self._confidence is None:
            return None
        if id(candidate) not in self._tried:
            self._tried.append(id(candidate))
        turn = self._tried.index(id(candidate)) + 1
        return self.promise(candidate, self._share(turn))

    def is_met(self, candidate: Candidate) -> bool:
        """Returns whether ``candidate`` answers well enough."""
        if self._max_drop is None:
            few = candidate.expected is None or candidate.expected <= WANTED_CHANGED
            return few and to_decibels(candidate.plain_noise) >= WANTED_SNR_DB
        if self._evaluate is None:
            return self.at_most(candidate) <= self._max_drop
        promise = self.try_promise(candidate)
        if promise is not None:
            return promise.is_kept
        accuracy = self.measure(candidate)
        return accuracy is not None and accuracy.drop <= self._max_drop

    def is_sound(self, candidate: Candidate) -> bool:
        """Returns whether ``candidate`` may be kept where one that meets the goal would be much slower."""
        if self._max_drop is not None:
            return self.is_met(candidate)
        if to_decibels(candidate.plain_noise) < LEAST_SNR_DB or candidate.plain_worst > _MOST_NOISE:
            return False
        return candidate.changed is None or candidate.changed <= _MOST_CHANGED

    def is_worth(self, slowdown: float, candidate: Candidate) -> bool:
        """Returns whether ``candidate``, which is sound, is to be given up for one that meets the goal, so much slower.

        A tenth of the time is always worth it, and so is another tenth for each hundredth of the answers that changed,
        as far as these are worth asking about: where more change, what weighs least is looked for.
        """
        if self._max_drop is not None:
            return True
        return slowdown <= LITTLE + _WORTH_OF_ANSWERS * min(
            candidate.expected or 0.0, _MOST_CHANGED
        )

    def weigh(self, candidate: Candidate, slowdown: float) -> float:
        """Returns what a candidate costs in time and answers, that of the fastest in time being 1.

        A hundredth of the answers is worth a tenth of the time. Of answers that only decibels tell, time alone counts.
        """
        return slowdown + _WORTH_OF_ANSWERS * (candidate.expected or 0.0)

    def at_most(self, candidate: Candidate) -> float:
        """Returns the share of answers that may be others, at most with the confidence that is asked for."""
        return 1.0 if candidate.turned is None else candidate.turned.at_most(self._confidence)

    def check_answers(self, candidate: Candidate) -> None:
        """Checks that there are answers to count where nothing else says what a drop is of.

        Raises:
            AccuracyError: An output of ``candidate`` is neither logits nor distributions.
        """
        if self.counts_answers and candidate.turned is None:
            raise AccuracyError(
                "max_drop without evaluate is a share of answers, and an output of this model is neither logits nor "
                "distributions: give evaluate, a callable that measures a session"
            )

    def check(self, candidate: Candidate) -> None:
        """Checks the caller's bound.

        Raises:
            AccuracyError: The figure drops by more, or too few samples promise that it does not.
        """
        self.check_answers(candidate)
        if self.counts_answers and not self.is_met(candidate):
            raise AccuracyError(
                f"{100 * self.at_most(candidate):.3g} % of the answers may be others than float's, above "
                f"max_drop={self._max_drop:.4g}: allow more, or leave formats and precision open"
            )
        accuracy = self.measure(candidate)
        if accuracy is None or self._max_drop is None or self.is_met(candidate):
            return
        promise = self.try_promise(candidate)
        if promise is not None and promise.verdict is Verdict.UNDECIDED:
            raise AccuracyError(
                f"{promise}; give more samples, allow more, or compare figures alone with confidence=None"
            )
        raise AccuracyError(
            f"int8 brings the figure from {accuracy.float_value:.4g} to {accuracy.int8_value:.4g}, a drop above "
            f"max_drop={self._max_drop:.4g}: give more calibration samples, or such as the model meets in use, "
            "or allow more"
        )

    def check_samples(self) -> None:
        """Checks that the samples would promise what was asked of a network that answers as the float model does.

        That is known before any plan is made. One test at the whole confidence asks for the fewest samples, as where a
        search tests plans in an order that it knows.

        Raises:
            AccuracyError: There are too few.
        """
        if self.is_scored:
            self._measure_float()

    def _measure_float(self) -> None:
        if self._float_value is not None:
            return
        scores, value = self._ask(self._float_session)
        if scores is not None and self._max_drop is not None and self._confidence is not None:
            same = promise_drop(
                scores, scores, self._max_drop, confidence=self._confidence, bounds=self._bounds
            )
            if not same.is_kept:
                enough = (
                    "no number would be" if same.needed is None else f"about {same.needed} would be"
                )
                raise AccuracyError(
                    f"{same.samples} samples are too few to promise max_drop={self._max_drop:.4g} with "
                    f"{100 * self._confidence:g} % confidence, even of a network that answers all of them as float "
                    f"does: {enough} enough; give more, allow more, or compare figures alone with confidence=None"
                )
        self._float_scores, self._float_value = scores, value

    def _share(self, turn: int) -> float:
        """Returns the confidence with which the candidate of a turn, from 1 on, is tested."""
        assert self._confidence is not None
        return 1 - 3 * (1 - self._confidence) * 0.25**turn

    @property
    def _bounds(self) -> tuple[float, float]:
        assert isinstance(self._evaluate, Scored)
        return read_bounds(self._evaluate)

    def _ask(self, session: Session) -> tuple[Scores | None, float]:
        """Returns the scores of each sample, None where there are none, and the figure."""
        assert self._evaluate is not None
        if not isinstance(self._evaluate, Scored):
            return None, float(self._evaluate(session))
        scores = read_scores(self._evaluate, session)
        return scores, float(scores.mean())
