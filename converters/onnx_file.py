"""What is known of the files of an ONNX form without reading them: nothing here imports onnx, which takes long."""

from __future__ import annotations

from pathlib import Path

# Of the files that this package writes.
PRODUCER = "edgekit"


def data_path(path: Path) -> Path:
    """Returns where `write_onnx` puts what is too large for the file ``path``."""
    return path.with_name(path.name + ".data")


def size_of_onnx(path: Path) -> int:
    """Returns the bytes of ``path`` and, where there is one, of its `data_path`."""
    return sum(file.stat().st_size for file in (path, data_path(path)) if file.exists())
