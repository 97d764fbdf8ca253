"""Labelled samples that `deploy` may choose plans by: others than those that figures are measured on.

They are of the same kind, as a user's own would be: other files, other drawn lines, the training images, and the same
voices with other sentences or at other speeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekit import Classification
from edgekit.promise import Scores
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from filetypes import score_other_files
from find_data import find_data, read_idx
from hearing import measure_other_voice, measure_other_wake_word, score_other_wake_word
from networks import normalize_clothes
from reading import score_other_lines

# Of Fashion-MNIST's training images, from the last on: the first ones calibrate.
_CLOTHES = 10_000


@dataclass(frozen=True)
class Mean:
    """A measure with a score for each sample, of which `deploy` can promise something.

    Attributes:
        score: Takes a session and the most samples; returns scores in [0, 1].
        limit: The most samples, None for all.
    """

    score: Callable[[Session, int | None], Scores]
    limit: int | None

    def scores(self, session: Session, /) -> Scores:
        return self.score(session, self.limit)

    def __call__(self, session: Session, /) -> float:
        return float(self.scores(session).mean())


@dataclass(frozen=True)
class Area:
    """A measure that gives a figure alone, of which nothing can be promised.

    Attributes:
        measure: Takes a session and the most samples; returns the figure.
        limit: The most samples, None for all.
    """

    measure: Callable[[Session, int | None], float]
    limit: int | None

    def __call__(self, session: Session, /) -> float:
        return self.measure(session, self.limit)


def score_clothes(session: Session, limit: int | None) -> Scores:
    """Returns 1 for each of Fashion-MNIST's last training images whose class is found, and 0 for the others."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    count = min(limit or _CLOTHES, _CLOTHES)
    images = normalize_clothes(read_idx(folder / "train-images-idx3-ubyte.gz")[-count:])
    answers = read_idx(folder / "train-labels-idx1-ubyte.gz")[-count:].astype(np.int64)
    return Classification([{"image": image} for image in images], answers).scores(session)


SCORES, FIGURE = "scores", "figure"
# By network and kind: scores, of which a confidence can be stated, and a figure that is no mean of any.
_MEASURES: dict[tuple[str, str], Callable[[int | None], Mean | Area]] = {
    ("DS-CNN", SCORES): lambda limit: Mean(score_clothes, limit),
    ("CNN", SCORES): lambda limit: Mean(score_clothes, limit),
    ("magika", SCORES): lambda limit: Mean(score_other_files, limit),
    ("PP-OCRv4 recognition", SCORES): lambda limit: Mean(score_other_lines, limit),
    ("openWakeWord embedding", SCORES): lambda limit: Mean(score_other_wake_word, limit),
    ("openWakeWord embedding", FIGURE): lambda limit: Area(measure_other_wake_word, limit),
    ("silero-vad", FIGURE): lambda limit: Area(measure_other_voice, limit),
}


@dataclass(frozen=True)
class Labels:
    """How many labelled samples there are to choose by.

    Attributes:
        count: None for all, 0 for none.
        kind: Scores or a figure.
    """

    count: int | None = 0
    kind: str = SCORES

    @classmethod
    def read(cls, text: str) -> Labels:
        """Returns what ``[kind:]count`` says.

        >>> print(Labels.read("figure:all"), Labels.read("250"), Labels.read("0"), sep=";")
         by all, figure; by 250, scores;
        """
        kind, _, count = text.rpartition(":")
        if (kind or SCORES) not in (SCORES, FIGURE):
            raise ValueError(f"{kind} is neither {SCORES} nor {FIGURE}")
        return cls(None if count == "all" else int(count), kind or SCORES)

    def __str__(self) -> str:
        if self.count == 0:
            return ""
        return f" by {'all' if self.count is None else self.count}, {self.kind}"


def find_measure(network: str, labels: Labels) -> Callable[[Session], float]:
    """Returns an `evaluate` for `deploy`.

    Raises:
        EdgekitError: The network has no such labels.
    """
    make = _MEASURES.get((network, labels.kind))
    if make is None:
        raise EdgekitError(f"there are no labels of kind {labels.kind} to choose by")
    return make(labels.count)
