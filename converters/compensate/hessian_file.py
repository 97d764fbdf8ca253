"""The file that Hessians are kept in: a zip of arrays, of which one layer's are read at a time."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.converters.compensate.rounding import blend_hessians
from edgekit.converters.full_disk import name_full_disk
from edgekit.targets.errors import CalibrationError

FORMAT = "edgekit hessians 1"

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """Where the Hessian of some layers lies in the file, and mean and variance of their inputs, "" if not known."""

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
        matrices = self.matrices(name)
        if entry.moments:
            mean, variance = self._read(entry.moments, (2, entry.groups, entry.depth))
        else:  # There is still the diagonal.
            variance = np.einsum("gii->gi", matrices) / max(entry.patches, 1)
            mean = np.zeros_like(variance)
        return blend_hessians(matrices, entry.patches, entry.images, mean, variance)

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

    def merge(self, other: Hessians) -> Hessians:
        """Returns the sums of both in a file beside this one: those of all samples, exactly.

        Raises:
            CalibrationError: They are of other layers, or of inputs in other steps.
            EdgekitError: The disk is full.
        """

        def alike(entry: Entry) -> Entry:
            return replace(entry, patches=0, images=0)

        mine, theirs = self._entries, other._entries
        if {n: alike(e) for n, e in mine.items()} != {n: alike(e) for n, e in theirs.items()}:
            raise CalibrationError("the two files hold the Hessians of different layers")
        parts = sorted((self.digest, other.digest))
        digest = hashlib.sha256("".join(parts).encode()).hexdigest()
        entries = {
            name: replace(
                entry,
                patches=entry.patches + theirs[name].patches,
                images=entry.images + theirs[name].images,
            )
            for name, entry in mine.items()
        }
        path = file_name(self.path.parent, digest)
        with write_whole(path) as archive:
            for entry in {entry.member: entry for entry in entries.values()}.values():
                shape = (entry.groups, entry.depth * (entry.depth + 1) // 2)
                _write_array(
                    archive,
                    entry.member,
                    self._read(entry.member, shape) + other._read(entry.member, shape),
                )
                if entry.moments:
                    moments = self._read(entry.moments, (2, entry.groups, entry.depth))
                    _write_array(archive, entry.moments, moments)
            write_header(archive, digest, self.left_out, entries)
        return Hessians(path, digest, self.left_out, entries)

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


def file_name(folder: str | os.PathLike[str], digest: str) -> Path:
    """Returns where Hessians with a digest are kept."""
    return Path(folder) / f"hessians-{digest[:24]}.zip"


@contextmanager
def write_whole(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a file to write, which appears under its name when it is complete, or not at all.

    Raises:
        EdgekitError: The disk is full.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with name_full_disk(path, "free some space, or keep Hessians elsewhere"):
            partial.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(partial, "w") as archive:
                yield archive
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_header(
    archive: zipfile.ZipFile,
    digest: str,
    left_out: Mapping[str, str],
    entries: Mapping[str, Entry],
) -> None:
    """Writes what the file holds."""
    header = {
        "format": FORMAT,
        "digest": digest,
        "left_out": dict(left_out),
        "layers": {name: vars(entry) for name, entry in entries.items()},
    }
    archive.writestr(zipfile.ZipInfo("header.json"), json.dumps(header))


def write_entry(
    archive: zipfile.ZipFile, entry: Entry, sums: _native.Hessian, moments: Doubles | None
) -> None:
    """Writes a layer's sums, their lower triangles, and the mean and variance of a patch's elements."""
    lower = np.tril_indices(entry.depth)
    with archive.open(zipfile.ZipInfo(entry.member), "w", force_zip64=True) as stream:
        shape = (entry.groups, len(lower[0]))
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f8", "fortran_order": False, "shape": shape}
        )
        for group in range(entry.groups):
            stream.write(sums.matrix(group)[lower].astype("<f8").tobytes())
    if moments is not None:
        _write_array(archive, entry.moments, moments)


def _write_array(archive: zipfile.ZipFile, member: str, array: Doubles) -> None:
    with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, array)
