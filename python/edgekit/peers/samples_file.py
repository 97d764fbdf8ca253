"""Keeps samples in a file, for processes that share them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.data import Sample


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Writes samples, each with its own shape, as an ``.npz``."""
    arrays = {
        f"{index}/{name}": array
        for index, sample in enumerate(samples)
        for name, array in sample.items()
    }
    np.savez(path, allow_pickle=False, **arrays)


def read_samples_file(path: Path) -> list[Sample]:
    """Returns what `write_samples` wrote."""
    samples: dict[int, Sample] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition("/")
            samples.setdefault(int(index), {})[name] = arrays[key]
    return [samples[index] for index in sorted(samples)]
