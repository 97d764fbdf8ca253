"""Finds what Debian packages carry, whether they are installed or were only unpacked by ``.ci/get_data``."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_UNPACKED = Path(__file__).parent.parent / ".cache" / "debian"


def find_data(package: str, inside: str) -> Path:
    """Returns the path of a file or folder of a Debian package.

    Raises:
        FileNotFoundError: It is neither installed nor unpacked.
    """
    for root in (Path("/"), _UNPACKED / package):
        if (path := root / inside).exists():
            return path
    raise FileNotFoundError(f"{package} is not there: run .ci/get_data {package}")


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Returns the array of a gzipped IDX file of bytes (LeCun, "The MNIST database")."""
    with gzip.open(path) as file:
        data = file.read()
    count = data[3]
    shape = tuple(np.frombuffer(data, ">u4", count, 4).astype(int))
    return np.frombuffer(data, np.uint8, offset=4 + 4 * count).reshape(shape)
