"""Measures how often networks name the right class: an `evaluate` for `deploy`, of which a certificate can say more."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.agreement import Difference, Proportion
from edgekit.data import Preprocessing, Samples, list_images, read_samples
from edgekit.promise import Scores
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError

Classes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassResult:
    """What both networks make of the samples of one class.

    Attributes:
        number: The class.
        reference, candidate: On how many of its samples each is right.
    """

    number: int
    reference: Proportion
    candidate: Proportion


@dataclass(frozen=True)
class Comparison:
    """What two networks make of the same samples.

    Attributes:
        reference, candidate: On how many samples each is right.
        difference: How much larger the reference's share is.
        changed: On how many samples they name another class.
        worst: The class of which the candidate gets the smallest share right.
    """

    reference: Proportion
    candidate: Proportion
    difference: Difference
    changed: Proportion
    worst: ClassResult


class Classification:
    """The share of samples whose largest output is that of the right class.

    Args:
        samples: What `deploy` takes as ``calibration``: a folder of pictures, an ``.npz``, an array, a mapping of
            arrays, or dicts; the same for every network.
        answers: The right class of each sample, from 0 on; of a folder's pictures in the order of their paths.
        preprocessing: How the pictures of a folder become inputs.
        groups: A name for each sample, of the subgroup that it belongs to, or several such groupings by their names:
            the report compares both networks in each.

    Raises:
        EdgekitError: Answers are missing, or no counts.
    """

    def __init__(
        self,
        samples: Any,
        answers: Sequence[int] | npt.NDArray[np.integer[Any]],
        *,
        preprocessing: Preprocessing | None = None,
        groups: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        right = np.asarray(answers)
        if right.ndim != 1 or right.size == 0 or right.dtype.kind not in "iu" or right.min() < 0:
            raise EdgekitError("answers must be the number of a class for each sample, from 0 on")
        self.answers: Classes = right.astype(np.int64)
        self.groups = groups
        self._samples = samples
        self._preprocessing = preprocessing
        self._named: weakref.WeakKeyDictionary[Session, Classes] = weakref.WeakKeyDictionary()
        self._digest = ""

    @classmethod
    def from_folder(
        cls, folder: str | Path, labels: Sequence[str], preprocessing: Preprocessing
    ) -> Classification:
        """Takes pictures that lie in a folder for each class, which has the class's name.

        Args:
            folder: Of the folders.
            labels: Names of the classes, in the order of the network's outputs.
            preprocessing: How pictures become inputs.

        Raises:
            EdgekitError: A picture lies in no class's folder.
        """
        folder = Path(folder)
        numbers = {label: number for number, label in enumerate(labels)}
        answers = []
        for path in list_images(folder):
            name = path.relative_to(folder).parts[0]
            if name not in numbers or path.parent == folder:
                raise EdgekitError(
                    f"{path}: lies in no folder that has the name of a class: there are {len(numbers)} labels"
                )
            answers.append(numbers[name])
        return cls(folder, answers, preprocessing=preprocessing)

    @property
    def digest(self) -> str:
        """SHA-256 of the samples that were run, in any order; "" before any network was run."""
        return self._digest

    def __call__(self, session: Session) -> float:
        """Returns the share of samples of which ``session`` names the right class."""
        return float(self.scores(session).mean())

    def scores(self, session: Session) -> Scores:
        """Returns 1 for each sample of which ``session`` names the right class and 0 for the others."""
        return np.asarray(self.name_classes(session) == self.answers, np.float64)

    def name_classes(self, session: Session) -> Classes:
        """Returns the class that ``session`` names for each sample: of equal outputs the first.

        Raises:
            CalibrationError: The samples do not fit the network.
            EdgekitError: There is not an answer for each sample, or no output that has a number for each class.
        """
        if session not in self._named:
            self._named[session] = self._run(session)
        return self._named[session]

    def compare(self, reference: Session, candidate: Session) -> Comparison:
        """Compares two networks, each of which is run once."""
        given = self.name_classes(candidate)
        wanted = self.name_classes(reference)
        right, reference_right = given == self.answers, wanted == self.answers
        return Comparison(
            _count(reference_right),
            _count(right),
            Difference.of(reference_right, right),
            _count(given != wanted),
            min(
                (
                    ClassResult(int(number), _count(reference_right[of]), _count(right[of]))
                    for number in np.unique(self.answers)
                    if (of := self.answers == number).any()
                ),
                # Of equal shares the one with more samples says more.
                key=lambda row: (row.candidate.share, -row.candidate.total, row.number),
            ),
        )

    def read_samples(self, session: Session) -> Samples:
        """Returns the samples as ``session`` takes them."""
        return read_samples(self._samples, session.inputs, self._preprocessing)

    def _run(self, session: Session) -> Classes:
        samples = self.read_samples(session)
        if len(samples) != len(self.answers):
            raise EdgekitError(
                f"there are {len(self.answers)} answers for {samples.description}: give one for each"
            )
        named = []
        for sample in samples:
            session.reset()
            outputs = session.run(sample).values()
            numbers = next((array for array in outputs if array.dtype.kind in "fiu"), None)
            if numbers is None or numbers.size <= self.answers.max():
                size = 0 if numbers is None else numbers.size
                raise EdgekitError(
                    f"{session.path}: its output has {size} numbers for a sample, and the answers "
                    f"name class {self.answers.max()}"
                )
            named.append(int(numbers.reshape(-1).argmax()))
        self._digest = samples.digest
        return np.asarray(named, np.int64)


def _count(which: npt.NDArray[np.bool_]) -> Proportion:
    return Proportion(int(which.sum()), which.size)
