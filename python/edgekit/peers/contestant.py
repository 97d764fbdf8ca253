"""What a contestant is: one runtime with one form of a network, int8 or float."""

from __future__ import annotations

import abc
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from edgekit.data import Sample

Form = Literal["int8", "float"]
Outputs = list[npt.NDArray[Any]]
Run = Callable[[Sample], Outputs]


@dataclass(frozen=True)
class Value:
    """An input or an output: its name, its shape, its dtype's name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of the float model: what every contestant takes and gives, in this order and layout."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Problem:
    """What a contestant prepares its own file from.

    Attributes:
        model: The float model, an ONNX file in which every shape is fixed.
        signature: What it takes and gives.
        samples: Calibration samples, the same for everyone.
        folder: Where to write; empty.
    """

    model: Path
    signature: Signature
    samples: Sequence[Sample]
    folder: Path


@dataclass(frozen=True)
class Prepared:
    """A contestant's own file.

    Attributes:
        file: What `Contestant.open` takes.
        how: How it was made, in words: the peer's tools and their settings.
    """

    file: Path
    how: str


@dataclass(frozen=True)
class Package:
    """A package that a contestant needs: the module that shows that it is there, and what pip calls it."""

    module: str
    distribution: str


class Contestant(abc.ABC):
    """A runtime with one form of a network.

    Attributes:
        runtime: The runtime's name for people.
        form: "int8" or "float".
        packages: What must be importable.
    """

    runtime: str
    packages: tuple[Package, ...]

    def __init__(self, form: Form) -> None:
        self.form = form

    @property
    def name(self) -> str:
        """The name in tables and files, as "ONNX Runtime int8"."""
        return f"{self.runtime} {self.form}"

    def list_missing(self) -> list[str]:
        """Returns what pip would have to install."""
        return [
            package.distribution
            for package in self.packages
            if importlib.util.find_spec(package.module) is None
        ]

    def get_version(self) -> str:
        """Returns the versions of the packages, in one line."""
        return ", ".join(
            f"{package.distribution} {importlib.metadata.version(package.distribution)}"
            for package in self.packages
        )

    def load_library(self) -> None:
        """Imports what `open` needs, so that importing is no part of the time to the first inference."""
        for package in self.packages:
            importlib.import_module(package.module)

    @abc.abstractmethod
    def prepare(self, problem: Problem) -> Prepared:
        """Converts and, for int8, quantizes the model in the way that the runtime's own documentation advises.

        Raises:
            Exception: Whatever the runtime's tools raise; the contest says so and goes on without this contestant.
        """

    @abc.abstractmethod
    def open(self, file: Path, signature: Signature, threads: int) -> Run:
        """Loads what `prepare` wrote.

        Args:
            file: What `Prepared.file` named.
            signature: What the network takes and gives.
            threads: Threads that one run may use.

        Returns:
            A callable from the inputs by name to the outputs, float32 in the float model's order and layout.
        """

    def count_integer(self, file: Path) -> tuple[int, int] | None:
        """Returns how many of the operators that run compute on integers, and how many run; None if unknown."""
        return None
