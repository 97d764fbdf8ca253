"""Packs bundles into one file, and unpacks them: `edgekit pack`, `edgekit unpack`. The format is archive.py's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgekit.bundles.archive import (
    END,
    begins_as_bundle,
    copy_checked,
    make_header,
    pad,
    unpack,
    unpacked,
)
from edgekit.bundles.bundle import is_replaceable, read_bundle
from edgekit.bundles.manifest import MANIFEST, SIGNATURE, read_manifest
from edgekit.bundles.minisign import PublicKey
from edgekit.replace_folder import replace_folder, replaced_file
from edgekit.targets.errors import EdgekitError


def pack_bundle(folder: Path, file: Path) -> Path:
    """Writes the bundle in `folder` as one file; a bundle's file that is there is replaced once the new one is whole.

    Raises:
        EdgekitError: `file` is something else already, or a path or a size exceeds what ustar holds.
        PlanError: The bundle is damaged.
        OSError: The file cannot be written.
    """
    if (file.exists() or file.is_symlink()) and not begins_as_bundle(file):
        raise EdgekitError(f"{file}: not overwritten: it exists and is no bundle's file")
    if file.resolve().is_relative_to(folder.resolve()):
        raise EdgekitError(f"{file}: not written: it would lie in the bundle itself")
    read_bundle(folder)
    manifest = (folder / MANIFEST).read_bytes()
    facts = read_manifest(folder, content=manifest)["files"]
    with replaced_file(file) as stream:
        _write_member(stream, MANIFEST, manifest)
        if (folder / SIGNATURE).is_file():
            _write_member(stream, SIGNATURE, (folder / SIGNATURE).read_bytes())
        for name in sorted(facts):
            stream.write(make_header(name, facts[name]["size"]))
            with (folder / name).open("rb") as source:
                copy_checked(source, stream, facts[name], f"{folder / name}")
            stream.write(pad(facts[name]["size"]))
        stream.write(END)
    return file


def unpack_bundle(file: Path, folder: Path, *, key: PublicKey | None = None) -> Path:
    """Writes the bundle in `file` as a folder; an older bundle there is replaced once the new one is whole.

    Args:
        file: The bundle's file.
        folder: The folder to make.
        key: Who must have signed it; by default a signature is not looked at.

    Raises:
        EdgekitError: `folder` holds something else than a deployment.
        SignatureError: It is not signed by `key`.
        PlanError: The file is damaged, or was not written by `pack_bundle`.
    """
    if folder.exists() and not is_replaceable(folder):
        raise EdgekitError(
            f"{folder}: not overwritten: it exists and is no deployment, or holds more than one. "
            "Choose another output folder or empty it."
        )
    with replace_folder(folder) as new:
        unpack(file, new, key)
    return folder


@contextmanager
def rewritten(path: Path) -> Iterator[Path]:
    """Yields the folder of a bundle to be changed; where `path` is a bundle's file, it is written anew in the end.

    Raises:
        PlanError: The file is damaged, or was not written by `pack_bundle`.
    """
    with unpacked(path) as folder:
        yield folder
        if folder != path:
            pack_bundle(folder, path)


def _write_member(stream: BinaryIO, name: str, content: bytes) -> None:
    stream.write(make_header(name, len(content)) + content + pad(len(content)))
