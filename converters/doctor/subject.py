"""What the doctor examines: a file, inputs to run it on, and where it is to run."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from edgekit.converters.doctor.processor import Processor

Sample = Mapping[str, npt.NDArray[np.generic]]
Answer = Mapping[str, npt.NDArray[np.generic]]


class Subject(abc.ABC):
    """A file under examination.

    Attributes:
        path: The file.
        processor: Where it is to run.
        samples: Inputs that it can be run on; empty where none could be made.
        samples_are_real: Whether they are the user's, and not random.
        times: Median milliseconds of a run as it is and of the float network behind it; None where not measured.
    """

    def __init__(self, path: Path, processor: Processor) -> None:
        self.path = path
        self.processor = processor
        self.samples: Sequence[Sample] = ()
        self.samples_are_real = False
        self.times: tuple[float, float] | None = None

    @property
    def samples_kind(self) -> str:
        """What the samples are, for reports."""
        kind = "calibration samples" if self.samples_are_real else "random inputs"
        return f"{len(self.samples)} {kind}"

    @abc.abstractmethod
    def copy(self) -> Self:
        """Returns a subject that can be changed without touching this one."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Brings what follows from the graph, such as shapes, up to date after a fix."""

    @abc.abstractmethod
    def save(self, path: Path) -> None:
        """Writes the file as it now is to ``path``."""

    @property
    @abc.abstractmethod
    def load_problem(self) -> str:
        """Why the runtime cannot load the file; '' where it can."""

    @property
    @abc.abstractmethod
    def answers(self) -> list[Answer]:
        """What the file answers to the samples, every rounding in it made.

        Raises:
            ModelError: The runtime cannot load or run it.
        """

    @property
    @abc.abstractmethod
    def reference_answers(self) -> list[Answer]:
        """What the float network behind a quantized file answers to the samples; of a float file, what it answers.

        Raises:
            ModelError: The runtime cannot run it.
        """

    def save_float(self, path: Path) -> bool:
        """Writes the float network behind a quantized file to ``path``; returns whether there is one."""
        del path
        return False

    @abc.abstractmethod
    def open(self, path: Path) -> Callable[[], object]:
        """Returns one run of the file at ``path`` as users run it, on one thread and the first sample.

        Raises:
            ModelError: The runtime cannot load it.
        """
