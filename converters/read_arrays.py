"""Reads numpy's files without trusting them: whatever is wrong with one is a ValueError."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

_NPY = b"\x93NUMPY"
_ZIP = b"PK"


def read_npy(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Returns the array of a ``.npy`` file; never runs what it holds.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is something else, or damaged.
    """
    loaded = _load(path)
    if isinstance(loaded, dict):
        raise ValueError("it is an archive of arrays")
    return loaded


def read_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of an ``.npz`` file by name; never runs what it holds.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is something else, or damaged.
    """
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise ValueError("it is a single array")
    return loaded


def _load(path: str | os.PathLike[str]) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    with open(path, "rb") as file:
        if not file.read(len(_NPY)).startswith((_NPY, _ZIP)):
            raise ValueError("it begins neither as an .npy nor as an .npz does")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib, tokenize and numpy each raise classes of their own.
        if "allow_pickle" in str(error):
            raise ValueError(
                "it is damaged, or holds Python objects, which are not loaded"
            ) from error
        raise ValueError(str(error) or type(error).__name__) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"its member '{name}' is no array")
    return arrays
