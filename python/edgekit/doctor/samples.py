"""Inputs to run an examined file on: the user's, or random ones that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data import InputSpec, Preprocessing, Sample, read_samples
from edgekit.targets.errors import EdgekitError

# So many samples tell a fault from none.
_SAMPLES = 8
_RANDOM_SAMPLES = 4
# What open sizes become in random inputs: the first is a batch; of pictures, height and width.
_OPEN_SIDE, _OPEN_SIZE = 64, 16


def take_samples(
    source: Any, inputs: Sequence[InputSpec], preprocessing: Preprocessing | None
) -> list[Sample]:
    """Returns the first of the user's samples.

    Raises:
        CalibrationError: They cannot be read or do not fit.
    """
    path = Path(source) if isinstance(source, str) else source
    samples = read_samples(path, list(inputs), preprocessing)
    return [samples[index] for index in range(min(len(samples), _SAMPLES))]


def make_random_samples(
    inputs: Sequence[InputSpec],
    limits: Mapping[str, tuple[float, float]],
    shapes: Mapping[str, Sequence[int | None]],
    seed: int = 0,
) -> list[Sample]:
    """Returns random inputs; none where an input is of a type that random numbers say nothing of.

    Args:
        inputs: What the file takes.
        limits: Least and largest number for inputs whose range is known; others are normally distributed.
        shapes: Sizes for inputs whose own are open.
        seed: Of the random numbers.

    Raises:
        EdgekitError: ``shapes`` name no input, or do not fit it, or memory.
    """
    _check(shapes, inputs)
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(_RANDOM_SAMPLES):
        sample: Sample = {}
        for spec in inputs:
            try:
                array = _make(random, spec, limits.get(spec.name), shapes.get(spec.name))
            except (MemoryError, ValueError) as error:
                raise EdgekitError(
                    f"input '{spec.name}' of shape {list(shapes.get(spec.name, spec.shape))} does not fit into memory"
                ) from error
            if array is None:
                return []
            sample[spec.name] = array
        samples.append(sample)
    return samples


def _check(shapes: Mapping[str, Sequence[int | None]], inputs: Sequence[InputSpec]) -> None:
    known = {spec.name: spec.shape for spec in inputs}
    for name, given in shapes.items():
        if name not in known:
            raise EdgekitError(
                f"there is no input '{name}' to give a shape to: the model has {', '.join(sorted(known))}"
            )
        own = known[name]
        if not own:
            continue  # A scalar, or a file that leaves even the rank open.
        if len(given) != len(own):
            raise EdgekitError(
                f"input '{name}' has {len(own)} dimensions, not {len(given)} as in {list(given)}"
            )
        if any(wanted is not None and wanted < 1 for wanted in given):
            raise EdgekitError(f"input '{name}' cannot have the empty shape {list(given)}")
        for axis, (size, wanted) in enumerate(zip(own, given, strict=True)):
            if size is not None and wanted is not None and size != wanted:
                raise EdgekitError(
                    f"dimension {axis} of input '{name}' is {size} in the model and cannot be {wanted}"
                )


def _make(
    random: np.random.Generator,
    spec: InputSpec,
    limits: tuple[float, float] | None,
    given: Sequence[int | None] | None,
) -> npt.NDArray[Any] | None:
    wanted = spec.shape if given is None else tuple(given)
    shape = tuple(_size(size, axis, len(wanted)) for axis, size in enumerate(wanted))
    if spec.dtype in ("float16", "float32", "float64"):
        if limits is not None:
            return random.uniform(*limits, shape).astype(spec.dtype)
        return random.normal(0, 1, shape).astype(spec.dtype)
    if spec.dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype in ("int8", "uint8"):
        info = np.iinfo(spec.dtype)
        return random.integers(info.min, info.max + 1, shape).astype(spec.dtype)
    if spec.dtype in ("int32", "int64"):
        return random.integers(0, 2, shape).astype(spec.dtype)
    return None


def _size(size: int | None, axis: int, rank: int) -> int:
    if size is not None:
        return size
    if axis == 0:
        return 1
    return _OPEN_SIDE if rank == 4 else _OPEN_SIZE
