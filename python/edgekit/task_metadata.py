"""Gathers what the TFLite form tells LiteRT's task tools: names of classes, and how pictures become inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgekit.data import Preprocessing
from edgekit.targets.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.converters.tflite import About


def describe_for_tasks(
    name: str,
    labels: str | Path | Sequence[str] | None,
    preprocessing: Preprocessing | None,
) -> About:
    """Returns what the file says of itself.

    Task tools divide by a deviation where a `Preprocessing` multiplies by a scale.

    Raises:
        EdgekitError: The labels cannot be read, or are not names.
        ToolError: The package ai-edge-litert is not installed.
    """
    from edgekit.converters.tflite import About

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels = ""
    if preprocessing is not None:
        scale = np.atleast_1d(np.asarray(preprocessing.scale, np.float64))
        if np.all(scale != 0):
            mean = tuple(float(value) for value in np.atleast_1d(preprocessing.mean))
            std = tuple(float(1 / value) for value in scale)
            channels = preprocessing.channels
    return About(Path(name).stem, read_labels(labels), mean, std, channels)


def check_labels(labels: Sequence[str], output: ir.Value) -> None:
    """Checks that names of classes fit the ``output`` that they are for.

    Args:
        labels: None at all fit any output.
        output: Nothing is said of one whose sizes besides the first are not all known.

    Raises:
        EdgekitError: No dimension is as long as there are names.
    """
    if not labels or output.shape is None:
        return
    sizes = [size for size in output.shape if isinstance(size, int)]
    if len(sizes) < len(output.shape[1:]) or len(labels) in sizes:
        return
    shape = ", ".join(str(size) if isinstance(size, int) else "any" for size in output.shape)
    raise EdgekitError(
        f"labels: {len(labels)} names, but no dimension of output '{output.name}' ({shape}) is that long"
    )


def read_labels(labels: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    """Returns names of classes from a file with one a line, or from a sequence.

    Raises:
        EdgekitError: The file cannot be read or is empty, or a name is empty or no text.
    """
    if labels is None:
        return ()
    if isinstance(labels, (str, os.PathLike)):
        try:
            names: list[str] = Path(labels).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise EdgekitError(f"{labels}: labels cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise EdgekitError(f"{labels}: labels cannot be read: {error}") from error
        if not names:
            raise EdgekitError(f"{labels}: labels cannot be read: the file is empty")
    else:
        names = list(labels)
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or name.splitlines() != [name]:
            raise EdgekitError(f"labels: number {number} is no name: {name!r}")
    return tuple(names)
