"""Deltas: what turns one bundle into the next one, small since only what differs is in it.

A delta is a recipe (csrc/delta/recipe.h) that makes the new bundle's one file of the old bundle's. Of each bundle there
is exactly one such file (archive.py), so whoever has the old bundle, as a folder or as a file, can follow it, and its
manifest's digests and signature say whether the right bundle came of it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit import _native
from edgekit.bundles.archive import SUFFIX, begins_as_bundle, unpacked
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.bundle_file import pack_bundle, unpack_bundle
from edgekit.bundles.minisign import PublicKey
from edgekit.replace_folder import replaced_file
from edgekit.targets.errors import EdgekitError, PlanError

MAGIC = b"EKDELTA1"
_HEADER = struct.Struct("<8sQQ32s")
# A delta whose result is so many times as long as what it is made of is a forgery: it would fill the memory.
_MOST_GROWTH = 16


@dataclass(frozen=True)
class DeltaSizes:
    """How much a delta saves.

    Attributes:
        delta: Its bytes.
        bundle: Bytes of the new bundle's one file.
    """

    delta: int
    bundle: int

    @property
    def share(self) -> float:
        """The delta's size by the bundle's."""
        return self.delta / self.bundle


def make_delta(old: Path, new: Path, file: Path) -> DeltaSizes:
    """Writes what turns the bundle `old` into the bundle `new`, each a folder or one file.

    Both are checked first. A delta that is there is replaced once the new one is whole.

    Raises:
        PlanError: A bundle is damaged.
        EdgekitError: `file` is something else already.
        OSError: The file cannot be written.
    """
    if (file.exists() or file.is_symlink()) and not is_delta(file):
        raise EdgekitError(f"{file}: not overwritten: it exists and is no delta")
    with _packed(old) as before, _packed(new) as after:
        result = after.read_bytes()
        recipe = _native.make_recipe(before.read_bytes(), result)
    with replaced_file(file) as stream:
        stream.write(recipe)
    return DeltaSizes(len(recipe), len(result))


def apply_delta(old: Path, delta: Path, output: Path, *, key: PublicKey | None = None) -> Path:
    """Makes the new bundle of the old one and a delta.

    Args:
        old: The bundle that the delta was made for, as a folder or as one file.
        delta: The delta.
        output: What to write: one file where its name ends in `.edgekit`, else a folder. What is there is replaced once
            the new bundle is whole, if it is one.
        key: Who must have signed the new bundle; by default a signature is not looked at.

    Raises:
        SignatureError: The new bundle is not signed by `key`.
        PlanError: A file is damaged, or the delta is for another bundle.
        EdgekitError: `output` is something else already.
    """
    if not is_delta(delta):
        raise PlanError(f"{delta}: no delta")
    recipe = delta.read_bytes()
    if len(recipe) < _HEADER.size:
        raise PlanError(f"{delta}: cut off")
    _, _, size, _ = _HEADER.unpack_from(recipe)
    with _packed(old) as before:
        base = before.read_bytes()
        if size > _MOST_GROWTH * (len(base) + len(recipe)):
            raise PlanError(f"{delta}: damaged: no bundle of {size} bytes can come of it")
        try:
            result = _native.follow_recipe(recipe, base, size)
        except PlanError as error:
            raise PlanError(f"{delta}: {error}; the old bundle is {old}") from error
    with tempfile.TemporaryDirectory(prefix="edgekit-delta-") as name:
        packed = Path(name, "new" + SUFFIX)
        packed.write_bytes(result)
        del result
        if output.suffix != SUFFIX:
            return unpack_bundle(packed, output, key=key)
        with unpacked(packed, key=key) as folder:
            return pack_bundle(folder, output)


def is_delta(path: Path) -> bool:
    """Returns whether a file begins as a delta does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def _packed(path: Path) -> Iterator[Path]:
    """Yields a bundle as one file: `path` itself, or one that is there until the block ends."""
    if begins_as_bundle(path):
        with unpacked(path) as folder:
            read_bundle(folder)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-delta-") as name:
        yield pack_bundle(path, Path(name, "bundle.edgekit"))
