"""A bundle: one folder with all that a board needs, and the proof that it works there.

    manifest.json         what is in the folder, for which board, and how it was made
    model.plan            the network
    edgekit-run           the static program that runs it
    edgekit-board         the static program that keeps bundles on a device
    golden/digests.json   SHA-256 of each layer's output on the golden inputs
    golden/inputs/*.npy   numbered in the order of the plan's inputs
    golden/outputs/*.npy  numbered in the order of the plan's outputs
    manifest.json.minisig whose it is, where it was signed (signing.py)
    golden/1, golden/2    the same three of the plan's further sizes, where it has some

Equal contents give equal bytes: no times, no machine names, keys sorted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgekit.converters.read_arrays import read_npy
from edgekit.converters.write_onnx import PRODUCER, data_path
from edgekit.engine import ENGINE_FILES
from edgekit.interpreter import read_facts
from edgekit.minisign import PublicKey, SecretKey, check, read_signature, sign
from edgekit.replace_folder import replace_folder
from edgekit.targets.errors import EdgekitError, ModelError, PlanError, SignatureError
from edgekit.targets.profile import Profile

SCHEMA = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.minisig"
PLAN = "model.plan"
RUNNER = "edgekit-run"
BOARD_PROGRAM = "edgekit-board"
ONNX_FILE = "model.onnx"
TFLITE_FILE = "model.tflite"
ONNX_DATA_FILE = data_path(Path(ONNX_FILE)).name
DIGESTS = "golden/digests.json"

# Every key of the manifest, with the type of its value.
_MANIFEST_KEYS: dict[str, type] = {
    "schema": int,
    "files": dict,
    "golden": dict,
    "origin": dict,
    "target": dict,
    "versions": dict,
}
_TARGET_KEYS = ("name", "title", "isa", "triple", "emulator_cpu")


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
class BundleTarget:
    """The board that a bundle was made for: what checking the bundle needs of its profile.

    Attributes:
        name, title: As in the profile.
        isa: Token of csrc/isa/isa.inc that the plan was made for.
        triple: GNU triple of the runner.
        emulator_cpu: What qemu takes as `-cpu`, or None.
    """

    name: str
    title: str
    isa: str
    triple: str
    emulator_cpu: str | None

    @property
    def architecture(self) -> str:
        """The triple's first part, as `uname -m` and qemu name it."""
        return self.triple.split("-", 1)[0]

    @classmethod
    def from_profile(cls, profile: Profile, isa: str) -> "BundleTarget":
        """Makes the target of `profile`, whose isa "auto" was resolved to `isa`."""
        return cls(profile.name, profile.title, isa, profile.triple, profile.emulator_cpu)


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


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all checked against its manifest.

    Attributes:
        path: The folder.
        target: The board.
        versions: Version of each program that had a part in making it.
        origin: How it was made: source digest, calibration, quantization, compiler.
        files: SHA-256 of each file, by its path in the folder.
        sizes: Golden inputs and what comes of them, for each size of the plan.
    """

    path: Path
    target: BundleTarget
    versions: Mapping[str, str]
    origin: Mapping[str, Any]
    files: Mapping[str, str]
    sizes: tuple[Golden, ...]

    @property
    def inputs(self) -> Mapping[str, Path]:
        """Golden inputs of the first size by name, with their file."""
        return self.sizes[0].inputs

    @property
    def outputs(self) -> Mapping[str, Path]:
        """Golden outputs of the first size by name, with their file."""
        return self.sizes[0].outputs

    @property
    def digests(self) -> tuple[LayerDigest, ...]:
        """Of each layer's output on the golden inputs of the first size, in order of execution."""
        return self.sizes[0].digests

    @property
    def plan(self) -> Path:
        """The plan's file."""
        return self.path / PLAN

    @property
    def runner(self) -> Path:
        """The runner's file."""
        return self.path / RUNNER


def write_bundle(
    path: Path,
    *,
    plan: Path,
    runner: Path,
    board_program: Path,
    target: BundleTarget,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    digests: Sequence[LayerDigest],
    versions: Mapping[str, str],
    origin: Mapping[str, Any],
    extra: Mapping[str, Path | bytes] | None = None,
    sizes: Sequence[GoldenArrays] = (),
) -> Bundle:
    """Writes a bundle; an older bundle at `path` is replaced once the new one is whole.

    Args:
        path: The folder to make.
        plan: Plan file to copy.
        runner: Static edgekit-run to copy.
        board_program: Static edgekit-board to copy.
        target: The board.
        inputs: Golden inputs by name, in the plan's order.
        outputs: Golden outputs by name, in the plan's order.
        digests: Of each layer's output on the golden inputs, in order of execution.
        versions: Version of each program that had a part in making it.
        origin: How it was made; JSON values only, and nothing that differs from run to run.
        extra: More files to add (other forms, reports), by their path in the folder.
        sizes: Golden inputs, outputs and digests of the plan's further sizes.

    Raises:
        EdgekitError: `path` holds something else than a deployment.
        OSError: The folder cannot be written.
        PlanError: The name of an extra file leaves the folder or is taken.
    """
    if path.exists() and not is_replaceable(path):
        raise EdgekitError(
            f"{path}: not overwritten: it exists and is no deployment, or holds more than one. "
            "Choose another output folder or empty it."
        )
    with replace_folder(path) as folder:
        shutil.copyfile(plan, folder / PLAN)
        for program, name in ((runner, RUNNER), (board_program, BOARD_PROGRAM)):
            shutil.copyfile(program, folder / name)
            (folder / name).chmod(0o755)
        golden: dict[str, Any] = _write_golden(folder, 0, GoldenArrays(inputs, outputs, digests))
        if sizes:
            golden["sizes"] = [
                _write_golden(folder, number, arrays) for number, arrays in enumerate(sizes, 1)
            ]
        for name, content in (extra or {}).items():
            _write_extra(folder, name, content)
        manifest = {
            "schema": SCHEMA,
            "files": {name: describe_file(folder / name) for name in _list_files(folder)},
            "golden": golden,
            "origin": dict(origin),
            "target": {key: getattr(target, key) for key in _TARGET_KEYS},
            "versions": dict(versions),
        }
        _write_json(folder / MANIFEST, manifest)
    return read_bundle(path)


def sign_bundle(path: Path, key: SecretKey) -> Path:
    """Signs a bundle's manifest, and with it the digest of each file; returns the signature's file.

    The bundle is checked first: what was changed since it was made is not signed. The same bundle and key give the same
    bytes. `minisign -V -p KEY.pub -m manifest.json` accepts the signature too.

    Raises:
        PlanError: The bundle is damaged.
        ToolError: The package `cryptography` is missing.
    """
    target = read_bundle(path).target.name
    signature = sign((path / MANIFEST).read_bytes(), key, f"edgekit bundle for {target}")
    file = path / SIGNATURE
    file.write_text(signature.to_text(), encoding="utf-8")
    return file


def is_replaceable(path: Path) -> bool:
    """Returns whether nothing is lost with the folder `path`.

    That is, it is empty, or a bundle, or edgekit's ONNX or TFLite form alone, and holds no file besides.
    """
    if not path.is_dir():
        return False
    try:
        found = set(_list_files(path))
        if found and found <= {ONNX_FILE, ONNX_DATA_FILE, TFLITE_FILE, *ENGINE_FILES}:
            return all(_is_ours(file) for file in find_bare_forms(path)) and bool(
                found & {ONNX_FILE, TFLITE_FILE}
            )
        return not any(path.iterdir()) or found - {SIGNATURE} == {
            MANIFEST,
            *_read_manifest(path)["files"],
        }
    except (OSError, DecodeError, ModelError, PlanError):
        return False


def _is_ours(path: Path) -> bool:
    """Returns whether edgekit wrote a form."""
    if path.name == TFLITE_FILE:
        return bool(read_facts(path))
    model = onnx.load(path, load_external_data=False)
    return bool(model.producer_name == PRODUCER)


def find_bare_forms(path: Path) -> list[Path]:
    """Returns the forms in `path` where `deploy` wrote networks, but no bundle: without the native form."""
    if (path / MANIFEST).exists():
        return []
    return [file for name in (ONNX_FILE, TFLITE_FILE) if (file := path / name).is_file()]


def read_bundle(path: Path, *, key: PublicKey | None = None) -> Bundle:
    """Reads a bundle and checks every file of it against the manifest.

    Args:
        path: The folder.
        key: Who must have signed the manifest; by default a signature is not looked at.

    Raises:
        SignatureError: The bundle is not signed by `key`.
        PlanError: The folder or its manifest is missing or invalid; a file is missing, changed, not listed, a link,
            or listed under a path that leaves the folder. The message names the file.
    """
    if not path.is_dir():
        raise PlanError(f"{path}: no such bundle folder")
    if not (path / MANIFEST).exists():
        raise PlanError(f"{path}: no bundle: the folder holds no {MANIFEST}")
    found = _list_files(path)
    manifest = _read_manifest(path, key)
    files: dict[str, str] = {}
    for name, facts in manifest["files"].items():
        _check_name(path, name)
        files[name] = _check_facts(path, name, facts)
        if name not in found:
            raise PlanError(f"{path / name}: missing, but listed in {MANIFEST}")
    for name in found:
        if name not in (MANIFEST, SIGNATURE) and name not in files:
            raise PlanError(f"{path / name}: not listed in {MANIFEST}")
    for name, facts in manifest["files"].items():
        if describe_file(path / name) != facts:
            raise PlanError(f"{path / name}: changed: size or SHA-256 differ from {MANIFEST}")
    for name in (PLAN, RUNNER, DIGESTS):
        if name not in files:
            raise PlanError(f"{path / name}: missing")
    return Bundle(
        path=path,
        target=_read_target(path, manifest["target"]),
        versions=manifest["versions"],
        origin=manifest["origin"],
        files=files,
        sizes=_read_sizes(path, manifest),
    )


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


def _write_golden(folder: Path, size: int, golden: GoldenArrays) -> dict[str, Any]:
    """Writes the golden files of one size; returns the manifest's table."""
    path = _golden_path(size)
    rows = [{"op": d.op, "tensor": d.tensor, "sha256": d.sha256} for d in golden.digests]
    table = {
        "inputs": _write_arrays(folder, f"{path}/inputs", golden.inputs),
        "outputs": _write_arrays(folder, f"{path}/outputs", golden.outputs),
    }
    _write_json(folder / path / "digests.json", rows)
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


def _write_extra(folder: Path, name: str, content: Path | bytes) -> None:
    _check_name(folder, name)
    file = folder / name
    if file.exists() or name == MANIFEST:
        raise PlanError(f"{name}: the bundle has a file of that name already")
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        shutil.copyfile(content, file)


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def describe_file(path: Path) -> dict[str, Any]:
    """Returns what the manifest says of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def _list_files(folder: Path) -> list[str]:
    """Lists every file under `folder` with forward slashes, sorted; refuses links and devices."""
    names = []
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(root, name)
            if path.is_symlink():
                raise PlanError(f"{path}: a symbolic link, which a bundle may not hold")
            if name in files:
                if not path.is_file():
                    raise PlanError(f"{path}: not a regular file")
                names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def _check_name(folder: Path, name: str) -> None:
    """Refuses names that leave the folder or have several spellings."""
    pure = PurePosixPath(name)
    plain = pure.parts and not pure.is_absolute() and ".." not in pure.parts
    if (
        not plain
        or pure.as_posix() != name
        or "\\" in name
        or "\0" in name
        or name in (MANIFEST, SIGNATURE)
    ):
        raise PlanError(f"{folder / MANIFEST}: '{name}' is not a plain path inside the bundle")


def _check_facts(folder: Path, name: str, facts: Any) -> str:
    """Checks the manifest's entry of one file; returns its SHA-256."""
    if (
        not isinstance(facts, dict)
        or set(facts) != {"sha256", "size"}
        or not isinstance(facts["sha256"], str)
        or type(facts["size"]) is not int
    ):
        raise PlanError(f"{folder / MANIFEST}: 'files.{name}' must have 'sha256' and 'size' alone")
    return facts["sha256"]


def _parse_json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: not valid JSON: {error}") from error


def _check_signature(path: Path, content: bytes, key: PublicKey) -> None:
    if not path.exists():
        raise SignatureError(f"{path}: missing: the bundle is not signed")
    signature = read_signature(path)
    try:
        check(content, signature, key)
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from error


def _read_manifest(folder: Path, key: PublicKey | None = None) -> dict[str, Any]:
    """Reads the manifest and checks who signed it, its keys and their types."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error}") from error
    if key is not None:
        _check_signature(folder / SIGNATURE, content, key)
    manifest = _parse_json(path, content)
    if not isinstance(manifest, dict):
        raise PlanError(f"{path}: must be a table")
    if (schema := manifest.get("schema")) != SCHEMA:
        raise PlanError(f"{path}: 'schema' is {schema!r}, but this edgekit reads {SCHEMA}")
    for word, kind in _MANIFEST_KEYS.items():
        if type(manifest.get(word)) is not kind:
            raise PlanError(f"{path}: '{word}' is missing or not of type {kind.__name__}")
    for word in manifest:
        if word not in _MANIFEST_KEYS:
            raise PlanError(f"{path}: unknown key '{word}'")
    if not all(isinstance(version, str) for version in manifest["versions"].values()):
        raise PlanError(f"{path}: 'versions' must be a table of strings")
    return manifest


def _read_target(folder: Path, table: dict[str, Any]) -> BundleTarget:
    path = folder / MANIFEST
    if set(table) != set(_TARGET_KEYS):
        raise PlanError(f"{path}: 'target' must have the keys {', '.join(_TARGET_KEYS)} alone")
    for key, value in table.items():
        if not isinstance(value, str) and not (key == "emulator_cpu" and value is None):
            raise PlanError(f"{path}: 'target.{key}' must be a string")
    return BundleTarget(**table)


def _read_sizes(folder: Path, manifest: dict[str, Any]) -> tuple[Golden, ...]:
    """Reads the golden files of all sizes."""
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
    rows = _parse_json(path, path.read_bytes())
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
