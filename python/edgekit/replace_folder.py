"""Replaces a folder or a file by a new one, so that at every moment one of the two is there or can be found."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its place when the block ends without an error.

    Where the last step fails, the former folder is put back. A process that is killed between the two renames leaves
    it under a hidden name beside `path`.

    Raises:
        OSError: The folder's parent cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    former, new = workplace / "former", workplace / "new"
    try:
        new.mkdir()
        yield new
        if path.exists():
            os.replace(path, former)
        os.replace(new, path)
    finally:
        if former.exists() and not path.exists():
            os.replace(former, path)
        shutil.rmtree(workplace, ignore_errors=True)


def replace_file(path: Path, content: bytes) -> None:
    """Writes `content` beside `path`, and puts it there in one step.

    Raises:
        OSError: The folder cannot be written.
    """
    with replaced_file(path) as file:
        file.write(content)


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file beside `path`, which takes its place when the block ends without an error.

    Raises:
        OSError: The folder cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
