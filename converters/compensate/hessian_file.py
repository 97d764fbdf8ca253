"""The file that Hessians are kept in: a zip of arrays, of which one layer's are read at a time."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.compensate.rounding import blend_hessians
from edgekit.targets.errors import CalibrationError

FORMAT = "edgekit hessians 1"

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """Where the Hessian of some layers lies in the file, and what their inputs' mean and variance are."""

    member: str
    moments: str
    groups: int
    depth: int
    step: float
    patches: int
    images: int


@dataclass(frozen=True)
class Hessians:
    """The Hessians of a model's layers, read from a file when they are asked for.

    Attributes:
        path: The file.
        digest: Of the model, the samples and what was taken of them.
        left_out: Names of layers whose Hessian memory does not hold, with the reason.
    """

    path: Path
    digest: str
    left_out: Mapping[str, str]
    _entries: Mapping[str, Entry]

    def __contains__(self, name: object) -> bool:
        """Returns whether the node of that name has a Hessian."""
        return name in self._entries

    def count(self, name: str) -> int:
        """Returns how many patches the Hessian of a node has seen, of each group."""
        return self._entries[name].patches

    def count_images(self, name: str) -> int:
        """Returns in how many images these were; the rows of a sample count as one."""
        return self._entries[name].images

    def blended(self, name: str) -> Doubles:
        """Returns the Hessians that a node's weights are decided by, see `blend_hessians`.

        Raises:
            CalibrationError: The file is gone or damaged.
        """
        entry = self._entries[name]
        mean, variance = self._read(entry.moments, (2, entry.groups, entry.depth))
        return blend_hessians(self.matrices(name), entry.patches, entry.images, mean, variance)

    def matrices(self, name: str) -> Doubles:
        """Returns X^T X of a node's input, ``[groups, depth, depth]``.

        Raises:
            CalibrationError: The file is gone or damaged.
        """
        entry = self._entries[name]
        rows, columns = np.tril_indices(entry.depth)
        lower = self._read(entry.member, (entry.groups, len(rows)))
        whole = np.empty((entry.groups, entry.depth, entry.depth))
        whole[:, rows, columns] = lower
        whole[:, columns, rows] = lower
        return whole * entry.step**2

    def _read(self, member: str, shape: tuple[int, ...]) -> Doubles:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as stream:
                found = np.lib.format.read_array(stream, allow_pickle=False)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CalibrationError(f"{self.path}: not readable: {error}") from error
        if found.shape != shape or found.dtype != np.float64:
            raise CalibrationError(f"{self.path}: '{member}' has shape {found.shape}")
        array: Doubles = found
        return array

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Hessians:
        """Opens a file that `gather_hessians` wrote.

        Raises:
            CalibrationError: The file is missing, damaged or something else.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                header = json.loads(archive.read("header.json"))
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']!r} is not {FORMAT!r}")
            entries = {name: Entry(**entry) for name, entry in header["layers"].items()}
            return cls(path, header["digest"], dict(header["left_out"]), entries)
        except FileNotFoundError as error:
            raise CalibrationError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise CalibrationError(f"{path}: no file of Hessians, or damaged: {error}") from error


def write_entry(
    archive: zipfile.ZipFile, entry: Entry, sums: _native.Hessian, moments: Doubles | None
) -> None:
    """Writes a layer's sums, their lower triangles, and the mean and variance of a patch's elements."""
    lower = np.tril_indices(entry.depth)
    known = np.zeros((2, entry.groups, entry.depth))
    with archive.open(entry.member, "w", force_zip64=True) as stream:
        shape = (entry.groups, len(lower[0]))
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f8", "fortran_order": False, "shape": shape}
        )
        for group in range(entry.groups):
            matrix = sums.matrix(group)
            # Without moments there is still the diagonal.
            known[1, group] = matrix.diagonal() * entry.step**2 / max(entry.patches, 1)
            stream.write(matrix[lower].astype("<f8").tobytes())
    with archive.open(entry.moments, "w") as stream:
        np.lib.format.write_array(stream, known if moments is None else moments)
