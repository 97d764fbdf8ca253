"""Makes the recipe by which a device makes a file of the one that it has: `python -m edgekit.delivery.recipe`.

The scripts of targets/flash call it for each large file that a device lacks (option --recipe-maker).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from edgekit import _native
from edgekit.targets.errors import EdgekitError, PlanError

_DIGEST_BYTES = 16


def make_file_recipe(chunks: str, file: Path, old: Path | None = None) -> bytes:
    """Returns what makes `file` of the file on a device.

    Args:
        chunks: What `edgekit-board ROOT chunks PATH` printed there.
        file: The file to make.
        old: The file that may be the one on the device: differences to it are smaller than new chunks.

    Raises:
        PlanError: `chunks` is something else.
        OSError: A file cannot be read.
    """
    size, sha256, rows = _parse_chunks(chunks)
    content = file.read_bytes()
    if old is not None and old.is_file() and old.stat().st_size == size:
        base = old.read_bytes()
        if hashlib.sha256(base).digest() == sha256:
            return _native.make_recipe(base, content)
    return _native.make_recipe_of_chunks(size, sha256, rows, content)


def _parse_chunks(text: str) -> tuple[int, bytes, list[tuple[int, int, bytes]]]:
    """Returns size and digest of a file, and offset, size and digest of its chunks."""
    try:
        (size, digest), *rows = (line.split(" ") for line in text.splitlines())
        whole, sha256 = int(size), bytes.fromhex(digest)
        chunks = []
        offset = 0
        for length, digest in rows:
            chunks.append((offset, int(length), bytes.fromhex(digest)))
            offset += int(length)
    except ValueError as error:
        raise PlanError(f"a device told what are no chunks: {error}") from error
    fits = all(length > 0 and len(name) == _DIGEST_BYTES for _, length, name in chunks)
    if offset != whole or len(sha256) != hashlib.sha256().digest_size or not fits:
        raise PlanError("a device told chunks that are no file's")
    return whole, sha256, chunks


def main() -> int:
    """Writes a recipe to standard output."""
    parser = argparse.ArgumentParser(prog="python -m edgekit.delivery.recipe", description=__doc__)
    parser.add_argument("chunks", type=Path, help="what edgekit-board ROOT chunks PATH printed")
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("path", help="of the file in it")
    parser.add_argument("--old", type=Path, help="the folder of the bundle that may be there")
    words = parser.parse_args()
    old = None if words.old is None else words.old / words.path
    try:
        recipe = make_file_recipe(words.chunks.read_text("utf-8"), words.bundle / words.path, old)
    except (EdgekitError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(recipe)
    return 0


if __name__ == "__main__":
    sys.exit(main())
