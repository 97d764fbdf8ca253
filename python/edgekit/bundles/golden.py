"""Golden inputs and outputs of a bundle, and the digest of each layer's output between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundles.manifest import MANIFEST, parse_json, write_json
from edgekit.converters.read_arrays import read_npy
from edgekit.targets.errors import PlanError

DIGESTS = "golden/digests.json"


@dataclass(frozen=True)
class LayerDigest:
    """SHA-256 of one op's output, in hexadecimal.

    Attributes:
        op: Name of the op.
        tensor: Name of its output.
        sha256: Over the int8 codes in the plan's order; for other types over the little-endian bytes.
    """

    op: str
    tensor: str
    sha256: str


@dataclass(frozen=True)
class GoldenArrays:
    """What one size of a network computes.

    Attributes:
        inputs: By name, in the plan's order.
        outputs: Likewise.
        digests: Of each layer's output on the inputs, in order of execution.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    digests: Sequence[LayerDigest]


@dataclass(frozen=True)
class Golden:
    """The same as files of a bundle.

    Attributes:
        inputs: By name, with their file.
        outputs: Likewise.
        digests: Of each layer's output on the inputs, in order of execution.
    """

    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    digests: tuple[LayerDigest, ...]


def read_array(path: Path) -> NDArray[Any]:
    """Reads a .npy file; never runs what it holds.

    Raises:
        PlanError: It is no valid .npy file.
    """
    try:
        return read_npy(path)
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: not a valid .npy file: {error}") from error


def _golden_path(size: int) -> str:
    """Returns the folder of a size's golden files."""
    return f"golden/{size}" if size else "golden"


def write_golden(folder: Path, size: int, golden: GoldenArrays) -> dict[str, Any]:
    """Writes the golden files of one size; returns the manifest's table."""
    path = _golden_path(size)
    rows = [{"op": d.op, "tensor": d.tensor, "sha256": d.sha256} for d in golden.digests]
    table = {
        "inputs": _write_arrays(folder, f"{path}/inputs", golden.inputs),
        "outputs": _write_arrays(folder, f"{path}/outputs", golden.outputs),
    }
    write_json(folder / path / "digests.json", rows)
    return table


def _write_arrays(
    folder: Path, prefix: str, arrays: Mapping[str, NDArray[Any]]
) -> list[dict[str, str]]:
    """Writes each array; returns the manifest's rows. Tensor names are no file names: they may hold slashes."""
    rows = []
    (folder / prefix).mkdir(parents=True)
    for index, (name, array) in enumerate(arrays.items()):
        file = f"{prefix}/{index}.npy"
        np.save(folder / file, np.ascontiguousarray(array), allow_pickle=False)
        rows.append({"name": name, "file": file})
    return rows


def read_sizes(folder: Path, manifest: dict[str, Any]) -> tuple[Golden, ...]:
    """Reads the golden files of all sizes of the bundle in `folder`.

    Raises:
        PlanError: The manifest does not list them, or digests are no rows.
    """
    path = folder / MANIFEST
    first = dict(manifest["golden"])
    others = first.pop("sizes", [])
    if not isinstance(others, list) or not all(isinstance(table, dict) for table in others):
        raise PlanError(f"{path}: 'golden.sizes' must be an array of tables")
    sizes = []
    for size, table in enumerate([first, *others]):
        where = f"golden.sizes[{size - 1}]" if size else "golden"
        arrays = (table.get("inputs"), table.get("outputs"))
        if len(table) != 2 or not all(isinstance(rows, list) and rows for rows in arrays):
            raise PlanError(f"{path}: '{where}' must have the arrays 'inputs' and 'outputs' alone")
        digests = f"{_golden_path(size)}/digests.json"
        if digests not in manifest["files"]:
            raise PlanError(f"{folder / digests}: missing")
        sizes.append(
            Golden(
                _read_golden(folder, manifest, table["inputs"], f"{where}.inputs"),
                _read_golden(folder, manifest, table["outputs"], f"{where}.outputs"),
                _read_digests(folder / digests),
            )
        )
    return tuple(sizes)


def _read_golden(
    folder: Path, manifest: dict[str, Any], rows: list[Any], where: str
) -> dict[str, Path]:
    """Reads the names and files of the golden inputs or outputs of one size."""
    path = folder / MANIFEST
    arrays: dict[str, Path] = {}
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"name", "file"}:
            raise PlanError(f"{path}: each of '{where}' must have 'name' and 'file' alone")
        name, file = row["name"], row["file"]
        if not isinstance(name, str) or name in arrays:
            raise PlanError(f"{path}: '{where}' has a name twice, or one that is no string")
        if not isinstance(file, str) or file not in manifest["files"]:
            raise PlanError(f"{path}: '{where}' names {file!r}, which 'files' does not list")
        arrays[name] = folder / file
    return arrays


def _read_digests(path: Path) -> tuple[LayerDigest, ...]:
    rows = parse_json(path, path.read_bytes())
    if not isinstance(rows, list):
        raise PlanError(f"{path}: must be an array")
    for row in rows:
        if (
            not isinstance(row, dict)
            or set(row) != {"op", "tensor", "sha256"}
            or not all(isinstance(value, str) for value in row.values())
        ):
            raise PlanError(f"{path}: each row must have 'op', 'tensor' and 'sha256' alone")
    return tuple(LayerDigest(**row) for row in rows)
