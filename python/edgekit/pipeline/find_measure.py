"""What a gate measures by, as words of a command line or a project's settings name it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundles.archive import unpacked
from edgekit.bundles.golden import read_array
from edgekit.bundles.usage import Usage, read_usage
from edgekit.classification import Classification
from edgekit.data import Preprocessing
from edgekit.pipeline.measure_pair import Measure
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from edgekit.task_metadata import read_labels


@dataclass(frozen=True)
class Chosen:
    """What a gate is given.

    Attributes:
        measure: Measures sessions, None where there is none.
        samples: Inputs without labels, in place of it.
        preprocessing: How pictures become inputs.
    """

    measure: Measure | None
    samples: Path | None
    preprocessing: Preprocessing | None


def choose_measure(
    bundle: Path,
    *,
    evaluate: str | None,
    samples: Path | None,
    labels: Path | None,
    preprocessing: Preprocessing | None,
) -> Chosen:
    """Returns what answers are measured by.

    Args:
        bundle: That is to pass; its names of classes and its preprocessing are taken where none are given.
        evaluate: As `find_measure` takes it.
        samples: As `read_labelled` takes them; without classes, answers are compared with the baseline's.
        labels: As `read_labelled` takes them.
        preprocessing: How pictures become inputs.

    Raises:
        EdgekitError: Something is missing, or does not fit.
    """
    if evaluate is not None and (samples is not None or labels is not None):
        raise EdgekitError("evaluate goes in place of samples and labels: give one of the two")
    if labels is not None and samples is None:
        raise EdgekitError("labels go with samples")
    if evaluate is not None:
        return Chosen(find_measure(evaluate), None, None)
    with unpacked(bundle) as place:
        usage = read_usage(place) if place.is_dir() else Usage()
    preprocessing = preprocessing or usage.preprocessing
    if samples is None:
        return Chosen(None, None, preprocessing)
    if labels is None and not _has_classes(samples, usage.labels):
        return Chosen(None, samples, preprocessing)
    return Chosen(read_labelled(samples, labels, usage.labels, preprocessing), None, preprocessing)


def _has_classes(samples: Path, names: Sequence[str]) -> bool:
    """Returns whether pictures lie in folders that have the names of classes."""
    return samples.is_dir() and any((samples / name).is_dir() for name in names)


def find_measure(name: str, folder: Path | None = None) -> Measure:
    """Returns the callable that is named ``module:attribute``; modules are also looked for in the current folder.

    Args:
        name: Of a callable that takes a session, or of an object with ``scores`` as `Scored` says.
        folder: Where modules are looked for first; by default the current one.

    Raises:
        EdgekitError: There is none of that name, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise EdgekitError(f"{name}: name a measure as module:function, such as checks:accuracy")
    place = str((folder or Path.cwd()).resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise EdgekitError(
            f"{name}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise EdgekitError(f"{name}: {module_name} has no {attribute}")
        found = getattr(found, part)
    if isinstance(found, Classification):
        return found
    if not callable(found) and not hasattr(found, "scores"):
        raise EdgekitError(
            f"{name}: must be callable with a session, and is {type(found).__name__}"
        )
    return _Named(name, found)


class _Named:
    """A measure whose own errors are told by its name."""

    def __init__(self, name: str, measure: Any) -> None:
        self._name = name
        self._measure = measure
        if hasattr(measure, "bounds"):
            self.bounds = measure.bounds

    def __call__(self, session: Session) -> Any:
        """Returns what the measure does, or its scores where it has them."""
        ask = getattr(self._measure, "scores", self._measure)
        try:
            return ask(session)
        except EdgekitError:
            raise
        except Exception as error:
            raise EdgekitError(f"{self._name} failed: {type(error).__name__}: {error}") from error


def read_labelled(
    samples: Path, labels: Path | None, names: Sequence[str], preprocessing: Preprocessing | None
) -> Classification:
    """Returns the measure of samples whose classes are known.

    Args:
        samples: A folder with pictures in a folder for each class, or an ``.npz``.
        labels: Of pictures, the names of the classes, one a line. Of an ``.npz``, the number of each sample's class,
            from 0 on: an ``.npy``, or one a line.
        names: Names of the classes where ``labels`` is None: the bundle's.
        preprocessing: How pictures become inputs.

    Raises:
        EdgekitError: Something is missing, or does not fit.
    """
    if not samples.exists():
        raise EdgekitError(f"{samples}: no such file or folder")
    if samples.is_dir():
        known = read_labels(labels) if labels is not None else tuple(names)
        if not known:
            raise EdgekitError(
                f"{samples}: name its classes by a file of labels: the bundle names none"
            )
        if preprocessing is None:
            raise EdgekitError(
                f"{samples}: say how pictures become inputs: the bundle does not say it"
            )
        return Classification.from_folder(samples, known, preprocessing)
    if labels is None:
        raise EdgekitError(f"{samples}: give a file with the number of each sample's class")
    return Classification(samples, _read_numbers(labels), preprocessing=preprocessing)


def _read_numbers(path: Path) -> Any:
    if not path.is_file():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() == ".npy":
        return read_array(path)
    try:
        return np.array([int(line) for line in path.read_text(encoding="utf-8").split()], np.int64)
    except ValueError as error:
        raise EdgekitError(
            f"{path}: must hold the number of each sample's class, one a line: {error}"
        ) from error
