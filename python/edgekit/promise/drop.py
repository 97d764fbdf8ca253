"""Promises of how much of a figure is lost: tested on samples that both networks answered."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.promise import betting, paired
from edgekit.promise.paired import Discordant, Reals
from edgekit.promise.scored import Scores
from edgekit.promise.verdict import CONFIDENCE, Verdict, check_confidence, check_drop, judge, widen
from edgekit.targets.errors import EdgekitError

EXACT = "exact unconditional test of paired proportions (Hsueh, Liu and Chen, 2001)"
BETTING = "betting on bounded paired differences (Waudby-Smith and Ramdas, 2023)"


@dataclass(frozen=True)
class DropPromise:
    """How much of a figure is lost, and whether that may be promised.

    Attributes:
        max_drop: The most that may be lost.
        confidence: That `upper` holds with, and `lower` as well; each by itself.
        samples: How many there are.
        unseen: How many others the promise is for; infinite for all that there are.
        reference, candidate: Both networks' figures: means of their scores.
        lower, upper: Bounds of the drop on unseen samples.
        verdict: Kept where `upper` is at most `max_drop`; broken where the figure itself dropped by more.
        needed: About how many samples like these, in all, would be enough to promise it; None where it is kept, or
            where no number would be.
        method: The test.
        discordant: Where scores are 0 or 1: on how many samples one network alone is right.
    """

    max_drop: float
    confidence: float
    samples: int
    unseen: float
    reference: float
    candidate: float
    lower: float
    upper: float
    verdict: Verdict
    needed: int | None
    method: str
    discordant: Discordant | None = None

    @property
    def drop(self) -> float:
        """How much lower the candidate's figure is on these samples."""
        return self.reference - self.candidate

    @property
    def is_kept(self) -> bool:
        """Whether the drop on unseen samples is at most `max_drop`, with the confidence."""
        return self.verdict is Verdict.KEPT

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        facts = {**asdict(self), "drop": self.drop, "verdict": self.verdict.value}
        facts["unseen"] = None if math.isinf(self.unseen) else self.unseen
        facts["discordant"] = None if self.discordant is None else self.discordant.to_dict()
        return facts

    def __str__(self) -> str:
        said = (
            f"drop {self.drop:.4g} on {self.samples} samples, at most {self.upper:.4g} with "
            f"{100 * self.confidence:g} % confidence (max_drop={self.max_drop:.4g}): {self.verdict}"
        )
        if self.verdict is not Verdict.UNDECIDED:
            return said
        if self.needed is None:
            return f"{said}: no number of samples like these would be enough"
        return f"{said}: too few samples, about {self.needed - self.samples} more would be needed"


def promise_drop(
    reference: Scores,
    candidate: Scores,
    max_drop: float,
    *,
    confidence: float = CONFIDENCE,
    unseen: float | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> DropPromise:
    """Tests whether at most ``max_drop`` of a figure is lost, on pairs of scores.

    What is promised is the drop on unseen samples, each drawn as these were and independently: that it is larger, and
    was promised not to be, has a chance of at most ``1 - confidence``. As many unseen ones as were tested have a chance
    of their own to be harder, which is counted in; the drop on all that there are is then bounded with 99 %, where 95 %
    are asked for.

    Args:
        reference: Scores of the network that is the measure; float64 [samples].
        candidate: Scores of the other one for the same samples, in the same order.
        max_drop: How much lower the candidate's mean may be.
        confidence: Of the promise.
        unseen: For how many samples the promise is; by default for as many as were tested, ``math.inf`` for all that
            there are.
        bounds: The least and the largest score that there can be.

    Raises:
        EdgekitError: Arguments make no sense.

    >>> import numpy as np
    >>> right, wrong = np.ones(400), np.r_[np.zeros(2), np.ones(398)]
    >>> print(promise_drop(right, wrong, 0.03))
    drop 0.005 on 400 samples, at most 0.02091 with 95 % confidence (max_drop=0.03): kept
    """
    if reference.shape != candidate.shape or reference.ndim != 1 or not reference.size:
        raise EdgekitError(
            f"scores of both networks must be for the same samples: {reference.size} and {candidate.size}"
        )
    check_drop(max_drop)
    unseen = reference.size if unseen is None else unseen
    if not unseen > 0:
        raise EdgekitError(f"unseen must be a number of samples, not {unseen}")
    alpha = widen(check_confidence(confidence), reference.size, unseen)
    if _is_binary(reference) and _is_binary(candidate):
        counts = Discordant.of(reference, candidate)
        upper = paired.bound_drop(counts, alpha)
        lower = paired.bound_drop_below(counts, alpha)
        verdict = judge(counts.drop, upper, max_drop)
        undecided = verdict is Verdict.UNDECIDED
        needed = paired.count_needed(counts, max_drop, alpha) if undecided else None
        method = EXACT
    else:
        counts, method = None, BETTING
        width = bounds[1] - bounds[0]
        differences = (reference - candidate) / width
        upper = width * betting.bound_mean(differences, alpha)
        lower = -width * betting.bound_mean(-differences, alpha)
        verdict = judge(width * float(differences.mean()), upper, max_drop)
        undecided = verdict is Verdict.UNDECIDED
        needed = betting.count_needed(differences, max_drop / width, alpha) if undecided else None
    return DropPromise(
        max_drop=float(max_drop),
        confidence=float(confidence),
        samples=reference.size,
        unseen=unseen,
        reference=float(reference.mean()),
        candidate=float(candidate.mean()),
        lower=lower,
        upper=upper,
        verdict=verdict,
        needed=needed,
        method=method,
        discordant=counts,
    )


def _is_binary(scores: Reals) -> bool:
    return bool(((scores == 0) | (scores == 1)).all())
