"""A bundle: one folder with all that a board needs, and the proof that it works there.

    manifest.json         what is in the folder, for which board, and how it was made
    model.plan            the network
    edgekit-run           the static program that runs it
    edgekit-board         the static program that keeps bundles on a device
    golden/digests.json   SHA-256 of each layer's output on the golden inputs
    golden/inputs/*.npy   numbered in the order of the plan's inputs
    golden/outputs/*.npy  numbered in the order of the plan's outputs
    certificate.json      what was measured of its answers (certificate.py)
    sbom.cdx.json         its bill of materials (sbom.py)
    labels.txt            names of the classes, where they are known (usage.py)
    preprocessing.json    how a picture becomes an input, where that is known
    manifest.json.minisig whose it is, where it was signed (minisign.py)
    golden/1, golden/2    the same three of the plan's further sizes, where it has some

Equal contents give equal bytes: no times, no machine names, keys sorted.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.bundles.golden import (
    DIGESTS,
    Golden,
    GoldenArrays,
    LayerDigest,
    read_sizes,
    write_golden,
)
from edgekit.bundles.manifest import (
    LOCKED_PLAN,
    MANIFEST,
    NO_LIMITS,
    SCHEMA,
    SIGNATURE,
    BundleTarget,
    Limits,
    check_name,
    check_release,
    describe_file,
    make_signature,
    parse_json,
    read_limits,
    read_manifest,
    read_release,
    read_target,
    refuse_locked,
    write_json,
)
from edgekit.bundles.minisign import PublicKey, SecretKey
from edgekit.bundles.usage import Usage, read_usage
from edgekit.converters.onnx_file import PRODUCER, data_path
from edgekit.engine_files import ENGINE_FILES
from edgekit.interpreter import read_facts
from edgekit.replace_folder import replace_file, replace_folder
from edgekit.targets.errors import EdgekitError, ModelError, PlanError

PLAN = "model.plan"
RUNNER = "edgekit-run"
BOARD_PROGRAM = "edgekit-board"
CERTIFICATE = "certificate.json"
ONNX_FILE = "model.onnx"
TFLITE_FILE = "model.tflite"
ONNX_DATA_FILE = data_path(Path(ONNX_FILE)).name


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were all checked against its manifest.

    Attributes:
        path: The folder.
        target: The board.
        release: Which one comes after which: a device takes none that is older than one it confirmed. 0 where the
            manifest says nothing, as older ones do.
        limits: What a device holds it to before it switches to it.
        versions: Version of each program that had a part in making it.
        origin: How it was made: source digest, calibration, quantization, compiler.
        files: SHA-256 of each file, by its path in the folder.
        sizes: Golden inputs and what comes of them, for each size of the plan.
    """

    path: Path
    target: BundleTarget
    release: int
    limits: Limits
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
    def usage(self) -> Usage:
        """What it tells applications.

        Raises:
            PlanError: A file of it is damaged.
        """
        return read_usage(self.path)

    @property
    def is_locked(self) -> bool:
        """Whether only devices of certain keys can read the plan."""
        return LOCKED_PLAN in self.files

    @property
    def certificate(self) -> Mapping[str, Any]:
        """What was measured of its answers; empty where it has no certificate.

        Raises:
            PlanError: The certificate is no table.
        """
        file = self.path / CERTIFICATE
        if not file.is_file():
            return {}
        table = parse_json(file, file.read_bytes())
        if not isinstance(table, dict):
            raise PlanError(f"{file}: must be a table")
        return table

    @property
    def plan(self) -> Path:
        """The plan's file.

        Raises:
            PlanError: It is locked.
        """
        refuse_locked(self.path)
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
    release: int = 1,
    limits: Limits = NO_LIMITS,
    sign_with: SecretKey | None = None,
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
        release: Which one comes after which, from 1 on.
        limits: What a device holds it to.
        sign_with: Who signs it; nobody by default.

    Raises:
        EdgekitError: `path` holds something else than a deployment, or the release is no count.
        OSError: The folder cannot be written.
        PlanError: The name of an extra file leaves the folder or is taken.
        ToolError: It is to be signed, and the package `cryptography` is missing.
    """
    check_release(release)
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
        golden: dict[str, Any] = write_golden(folder, 0, GoldenArrays(inputs, outputs, digests))
        if sizes:
            golden["sizes"] = [
                write_golden(folder, number, arrays) for number, arrays in enumerate(sizes, 1)
            ]
        for name, content in (extra or {}).items():
            _write_extra(folder, name, content)
        manifest = {
            "schema": SCHEMA,
            "files": {name: describe_file(folder / name) for name in _list_files(folder)},
            "golden": golden,
            "origin": dict(origin),
            "release": release,
            "target": target.to_dict(),
            "versions": dict(versions),
        }
        if limits:
            manifest["limits"] = limits.to_dict()
        write_json(folder / MANIFEST, manifest)
        if sign_with is not None:
            _sign(folder, target.name, sign_with)
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
    return _sign(path, target, key)


def _sign(path: Path, target: str, key: SecretKey) -> Path:
    """Signs the manifest in `path`."""
    file = path / SIGNATURE
    replace_file(file, make_signature((path / MANIFEST).read_bytes(), target, key))
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
            *read_manifest(path)["files"],
        }
    except (OSError, ModelError, PlanError):
        return False


def _is_ours(path: Path) -> bool:
    """Returns whether edgekit wrote a form."""
    if path.name == TFLITE_FILE:
        return bool(read_facts(path))
    # Who reads or checks a bundle does not need what these import.
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return False
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
        if path.exists():
            raise PlanError(
                f"{path}: no bundle: give its folder, which holds {MANIFEST}, or its one file"
            )
        raise PlanError(f"{path}: no such bundle folder")
    if not (path / MANIFEST).exists():
        raise PlanError(f"{path}: no bundle: the folder holds no {MANIFEST}")
    found = _list_files(path)
    manifest = read_manifest(path, key)
    files = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    for name in files:
        if name not in found:
            raise PlanError(f"{path / name}: missing, but listed in {MANIFEST}")
    for name in found:
        if name not in (MANIFEST, SIGNATURE) and name not in files:
            raise PlanError(f"{path / name}: not listed in {MANIFEST}")
    for name, facts in manifest["files"].items():
        if describe_file(path / name) != facts:
            raise PlanError(f"{path / name}: changed: size or SHA-256 differ from {MANIFEST}")
    if PLAN in files and LOCKED_PLAN in files:
        raise PlanError(f"{path / PLAN}: beside {LOCKED_PLAN}")
    for name in (PLAN, RUNNER, DIGESTS):
        if name not in files and not (name == PLAN and LOCKED_PLAN in files):
            raise PlanError(f"{path / name}: missing")
    return Bundle(
        path=path,
        target=read_target(path, manifest["target"]),
        release=read_release(path, manifest),
        limits=read_limits(path, manifest),
        versions=manifest["versions"],
        origin=manifest["origin"],
        files=files,
        sizes=read_sizes(path, manifest),
    )


def _write_extra(folder: Path, name: str, content: Path | bytes) -> None:
    check_name(folder, name)
    file = folder / name
    if file.exists() or name == MANIFEST:
        raise PlanError(f"{name}: the bundle has a file of that name already")
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        shutil.copyfile(content, file)


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
