"""Compares the answers of a session with the float model's on whatever it is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.session import Session
from intervals import Figure, share

Outputs = dict[str, npt.NDArray[Any]]
# From a sample's outputs to the answers that are read off them, one number each.
ReadAnswers = Callable[[Outputs], npt.NDArray[Any]]

_HIGHEST_DB = 300.0


def read_largest(outputs: Outputs) -> npt.NDArray[Any]:
    """Returns where the largest score of the first output is, along its last axis."""
    return next(iter(outputs.values())).argmax(axis=-1).reshape(-1)


class ComparedSession(Session):
    """A session that has the float model answer everything too.

    Attributes:
        same: How many answers were the float model's.
        answers: Of how many.
    """

    def __init__(self, session: Session, reference: Session, read: ReadAnswers | None) -> None:
        self.path, self.threads = session.path, session.threads
        self.inputs, self.outputs = session.inputs, session.outputs
        self.same = self.answers = 0
        self._session, self._reference, self._read = session, reference, read
        self._power: dict[str, float] = {}
        self._error: dict[str, float] = {}

    @property
    def agreement(self) -> Figure | None:
        """The share of answers that are the float model's; None where outputs are no answers."""
        return share("agreement", self.same, self.answers, "answers") if self._read else None

    @property
    def snr_db(self) -> float:
        """The power of the float model's outputs over that of the differences, of the output that suffers most."""
        worst = max((self._error[n] / max(p, 1e-300) for n, p in self._power.items()), default=0.0)
        if not math.isfinite(worst):
            return -_HIGHEST_DB
        return -10 * math.log10(max(worst, 10 ** (-_HIGHEST_DB / 10)))

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> Outputs:
        given, wanted = self._session.run(inputs), self._reference.run(inputs)
        for name, array in wanted.items():
            if array.dtype.kind != "f":
                continue
            real = array.astype(np.float64)
            error = np.square(given[name].astype(np.float64) - real).sum()
            self._power[name] = self._power.get(name, 0.0) + float(np.square(real).sum())
            self._error[name] = self._error.get(name, 0.0) + float(error)
        if self._read:
            same = self._read(given) == self._read(wanted)
            self.same += int(same.sum())
            self.answers += same.size
        return given
