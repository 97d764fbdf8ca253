"""What a quantizer is: a tool with one setting, that makes a file of a float model, and what runs that file."""

from __future__ import annotations

import abc
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekit.data import InputSpec
from edgekit.peers.contestant import Package, Prepared, Problem, Run, Signature
from edgekit.session import Session


@dataclass(frozen=True)
class Quantizer(abc.ABC):
    """A tool that quantizes after training, with one setting.

    Attributes:
        setting: What it is told, in a word: part of its name.
        weights: Bits of the weights; activations have 8.
    """

    setting: str
    weights: int = 8

    @property
    @abc.abstractmethod
    def tool(self) -> str:
        """The tool's name for people."""

    @property
    @abc.abstractmethod
    def packages(self) -> tuple[Package, ...]:
        """What must be importable."""

    @property
    def name(self) -> str:
        """The name in tables and of its process, as "ONNX Runtime entropy" or "NNCF w4"."""
        bits = "" if self.weights == 8 else f"w{self.weights}"
        return " ".join(word for word in (self.tool, self.setting, bits) if word)

    def find_missing(self) -> str | None:
        """Returns why it can't be used here, None where it can."""
        missing = [
            package.distribution
            for package in self.packages
            if importlib.util.find_spec(package.module) is None
        ]
        return f"not installed: pip install {' '.join(missing)}" if missing else None

    def get_version(self) -> str:
        """Returns the versions of the packages, in one line."""
        return ", ".join(
            f"{package.distribution} {importlib.metadata.version(package.distribution)}"
            for package in self.packages
        )

    @abc.abstractmethod
    def quantize(self, problem: Problem) -> Prepared:
        """Quantizes as the tool's own documentation advises; called in a process of its own.

        Raises:
            Exception: Whatever the tool raises; the benchmark says so and goes on without it.
        """

    @abc.abstractmethod
    def open(self, file: Path, signature: Signature) -> Run:
        """Loads what `quantize` wrote, for one thread."""


class QuantizedSession(Session):
    """A quantizer's file behind the interface that measures take."""

    def __init__(self, quantizer: Quantizer, file: Path, signature: Signature) -> None:
        self.path = file
        self.threads = 1
        self.inputs = [InputSpec(spec.name, spec.shape, spec.dtype) for spec in signature.inputs]
        self.outputs = [spec.name for spec in signature.outputs]
        self._answer = quantizer.open(file, signature)

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self.outputs, self._answer(inputs), strict=True))
