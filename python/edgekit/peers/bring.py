"""Holds the contest for a network that a user brings."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.benchmark import make_inputs
from edgekit.data import Preprocessing, Sample, read_samples
from edgekit.peers.contest import hold_contest
from edgekit.peers.contestant import Contestant
from edgekit.peers.contestants import CONTESTANTS
from edgekit.peers.result import Contest
from edgekit.progress import Progress
from edgekit.session import OnnxSession
from edgekit.targets.errors import EdgekitError

_MOST_SAMPLES = 128
_RANDOM_SAMPLES = 16


def contend(
    model: Path,
    *,
    calibration: Any = None,
    preprocessing: Preprocessing | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    threads: Sequence[int] = (1,),
    seconds: float = 10.0,
    contestants: Sequence[Contestant] = CONTESTANTS,
    progress: Progress | None = None,
) -> Contest:
    """Times edgekit against every other runtime that is importable, each with its own form of the network.

    Args:
        model: The float model, an ``.onnx`` file.
        calibration: As `edgekit.deploy` takes it, at most 128 samples are used; random numbers for None.
        preprocessing: How the pictures of a folder become inputs.
        shapes: Sizes of inputs that the model leaves open, where there is no calibration to take them from.
        threads: Numbers of threads to time with.
        seconds: About how long to measure for each number of threads.
        contestants: Who takes part.
        progress: Called with the name of a stage, how much is done and how much there is.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
        CalibrationError: The samples do not fit the model.
        EdgekitError: A dimension is open and nothing says its size.
    """
    if model.suffix != ".onnx":
        raise EdgekitError(f"{model}: the peers start from the float model: give an .onnx file")
    if not model.is_file():
        raise EdgekitError(f"{model}: no such file")
    inputs = OnnxSession(model, 1).inputs
    given = shapes or {}
    unknown = sorted(set(given) - {spec.name for spec in inputs})
    if unknown:
        raise EdgekitError(f"{model}: has no input {', '.join(unknown)} to give a shape to")
    inputs = [replace(spec, shape=tuple(given.get(spec.name, spec.shape))) for spec in inputs]
    if calibration is None:
        samples: list[Sample] = [make_inputs(inputs, seed=i) for i in range(_RANDOM_SAMPLES)]
        description = f"{len(samples)} samples of random numbers"
    else:
        source = read_samples(calibration, inputs, preprocessing)
        samples = [source[index] for index in range(min(len(source), _MOST_SAMPLES))]
        description = source.description
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        return hold_contest(
            model.name,
            model,
            samples,
            folder=Path(folder),
            threads=threads,
            seconds=seconds,
            contestants=contestants,
            description=description,
            random_samples=calibration is None,
            progress=progress,
        )
