"""The manifest of a bundle: what its files are, for which board, which release, and what a run may take there.

Whatever a manifest says is checked before it is used, by the rules of csrc/board/manifest.cc, which reads it on a
device; what the two take can be told apart by nothing but keys that are unknown here and passed over there.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.bundles.minisign import PublicKey, SecretKey, check, parse_signature, sign
from edgekit.targets.errors import EdgekitError, PlanError, SignatureError
from edgekit.targets.profile import Profile

SCHEMA = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.minisig"
# The plan where it is locked for the keys of devices.
LOCKED_PLAN = "model.plan.age"
# No manifest or signature is longer than this many bytes.
MOST_MANIFEST = 1 << 20

_LONGEST_PATH = 1024
_LONGEST_PART = 255
_MOST_PARTS = 16
# What a signed 64 bit integer holds, as on the board.
_MOST_COUNT = (1 << 63) - 1

# Every key of the manifest, with the type of its value.
_KEYS: dict[str, type] = {
    "schema": int,
    "files": dict,
    "golden": dict,
    "origin": dict,
    "target": dict,
    "versions": dict,
}
# The same of those that may be missing.
_OPTIONAL_KEYS: dict[str, type] = {"release": int, "limits": dict}
_TARGET_KEYS = ("name", "title", "isa", "triple", "emulator_cpu")
_LIMIT_KEYS = ("latency_us", "memory_bytes")


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

    def to_dict(self) -> dict[str, str | None]:
        """Returns the manifest's table."""
        return {key: getattr(self, key) for key in _TARGET_KEYS}


@dataclass(frozen=True)
class Limits:
    """What a device holds a bundle to before it switches to it; 0 is no limit.

    Attributes:
        latency_us: The median time of a run on the golden inputs, in microseconds.
        memory_bytes: The most memory that the program held, pages of the plan included.
    """

    latency_us: int = 0
    memory_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.latency_us or self.memory_bytes)

    @classmethod
    def from_units(cls, max_ms: float | None, max_mb: float | None) -> "Limits":
        """Makes limits of milliseconds and megabytes (10^6 bytes); None is no limit.

        Raises:
            EdgekitError: One of them is no number above 0 or too large.
        """
        return cls(_scale("max_ms", max_ms, 10**3), _scale("max_mb", max_mb, 10**6))

    def to_dict(self) -> dict[str, int]:
        """Returns the manifest's table, without what is not limited."""
        return {key: value for key in _LIMIT_KEYS if (value := getattr(self, key))}


NO_LIMITS = Limits()


def check_release(release: int) -> None:
    """Checks the number of a release that is to be made.

    Raises:
        EdgekitError: It is no whole number of at least 1, or more than 64 bits hold.
    """
    if type(release) is not int or not 1 <= release <= _MOST_COUNT:
        raise EdgekitError(
            f"release must be a whole number from 1 to {_MOST_COUNT}, not {release!r}"
        )


def refuse_locked(folder: Path) -> None:
    """Checks that the plan in the folder of a bundle can be read here.

    Raises:
        PlanError: It is locked.
    """
    if (folder / LOCKED_PLAN).exists():
        raise PlanError(
            f"{folder / LOCKED_PLAN}: locked for the keys of devices: it can be run and checked on these alone"
        )


def describe_file(path: Path) -> dict[str, Any]:
    """Returns what the manifest says of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size": path.stat().st_size}


def write_json(path: Path, value: Any) -> None:
    """Writes JSON of which equal values have equal bytes."""
    path.write_bytes(format_json(value))


def format_json(value: Any) -> bytes:
    """Returns JSON of which equal values have equal bytes: keys sorted, UTF-8."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def parse_json(path: Path, content: bytes) -> Any:
    """Returns what `content` holds, as strictly as the board reads it: a key stands once, and numbers are finite.

    Raises:
        PlanError: It is no such JSON; names `path`.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_make_table,
            parse_constant=_refuse_constant,
            parse_int=_parse_whole,
        )
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: not valid JSON: {error}") from error


def read_manifest(
    folder: Path, key: PublicKey | None = None, *, content: bytes | None = None
) -> dict[str, Any]:
    """Reads a bundle's manifest and checks who signed it, its keys, their types, and each entry of `files`.

    Args:
        folder: The bundle.
        key: Who must have signed the manifest; by default a signature is not looked at.
        content: The manifest's bytes; by default its file is read.

    Raises:
        SignatureError: It is not signed by `key`.
        PlanError: It is missing or invalid.
    """
    path = folder / MANIFEST
    if content is None:
        content = _read(path)
    if key is not None:
        signature = folder / SIGNATURE
        check_signature(folder, content, _read(signature) if signature.exists() else None, key)
    manifest = parse_json(path, content)
    if not isinstance(manifest, dict):
        raise PlanError(f"{path}: must be a table")
    if (schema := manifest.get("schema")) != SCHEMA:
        raise PlanError(f"{path}: 'schema' is {schema!r}, but this edgekit reads {SCHEMA}")
    for word, kind in _KEYS.items():
        if type(manifest.get(word)) is not kind:
            raise PlanError(f"{path}: '{word}' is missing or not of type {kind.__name__}")
    for word in manifest:
        if word not in _KEYS and word not in _OPTIONAL_KEYS:
            raise PlanError(f"{path}: unknown key '{word}'")
    if not all(isinstance(version, str) for version in manifest["versions"].values()):
        raise PlanError(f"{path}: 'versions' must be a table of strings")
    for name, facts in manifest["files"].items():
        check_name(folder, name)
        _check_facts(folder, name, facts)
        for parent in PurePosixPath(name).parents:
            if parent.as_posix() in manifest["files"]:
                raise PlanError(f"{path}: '{name}' lies in a file")
    return manifest


def read_release(folder: Path, manifest: dict[str, Any]) -> int:
    """Returns the number of the release, 0 where the manifest has none.

    Raises:
        PlanError: It is no count.
    """
    return _read_count(folder, "release", manifest.get("release", 0))


def read_limits(folder: Path, manifest: dict[str, Any]) -> Limits:
    """Returns the limits that the manifest sets.

    Raises:
        PlanError: It is no table of counts, or limits something unknown.
    """
    table = manifest.get("limits", {})
    if not isinstance(table, dict) or set(table) - set(_LIMIT_KEYS):
        raise PlanError(
            f"{folder / MANIFEST}: 'limits' may have the keys {', '.join(_LIMIT_KEYS)} alone"
        )
    return Limits(**{key: _read_count(folder, f"limits.{key}", n) for key, n in table.items()})


def read_target(folder: Path, table: dict[str, Any]) -> BundleTarget:
    """Returns the board that the manifest's `target` says.

    Raises:
        PlanError: A key is missing, unknown or of another type.
    """
    path = folder / MANIFEST
    if set(table) != set(_TARGET_KEYS):
        raise PlanError(f"{path}: 'target' must have the keys {', '.join(_TARGET_KEYS)} alone")
    for key, value in table.items():
        if not isinstance(value, str) and not (key == "emulator_cpu" and value is None):
            raise PlanError(f"{path}: 'target.{key}' must be a string")
    return BundleTarget(**table)


def check_name(folder: Path, name: str) -> None:
    """Refuses names that leave the folder, have several spellings, or are not to be had on every file system.

    Raises:
        PlanError: It is such a name.
    """
    pure = PurePosixPath(name)
    plain = pure.parts and not pure.is_absolute() and ".." not in pure.parts
    if (
        not plain
        or pure.as_posix() != name
        or "\\" in name
        or any(ord(c) < 0x20 or ord(c) == 0x7F or 0xD800 <= ord(c) < 0xE000 for c in name)
        or len(name.encode()) > _LONGEST_PATH
        or len(pure.parts) > _MOST_PARTS
        or any(len(part.encode()) > _LONGEST_PART for part in pure.parts)
        or name in (MANIFEST, SIGNATURE)
    ):
        raise PlanError(f"{folder / MANIFEST}: {name!r} is not a plain path inside the bundle")


def make_signature(manifest: bytes, target: str, key: SecretKey) -> bytes:
    """Returns the signature's file for a manifest; the same manifest and key give the same bytes.

    Raises:
        ToolError: The package `cryptography` is missing.
    """
    return sign(manifest, key, f"edgekit bundle for {target}").to_text().encode()


def check_signature(bundle: Path, manifest: bytes, signature: bytes | None, key: PublicKey) -> None:
    """Checks that `key` signed a manifest.

    Args:
        bundle: What errors name.
        manifest: Its bytes.
        signature: The signature's file, None where there is none.
        key: Who must have signed.

    Raises:
        SignatureError: The signature is missing, of another key, or of something else.
    """
    path = bundle / SIGNATURE
    if signature is None:
        raise SignatureError(f"{path}: missing: the bundle is not signed")
    parsed = parse_signature(path, signature)
    try:
        check(manifest, parsed, key)
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from error


def _check_facts(folder: Path, name: str, facts: Any) -> None:
    """Checks the manifest's entry of one file."""
    if (
        not isinstance(facts, dict)
        or set(facts) != {"sha256", "size"}
        or not isinstance(facts["sha256"], str)
        or type(facts["size"]) is not int
        or not 0 <= facts["size"] <= _MOST_COUNT
    ):
        raise PlanError(f"{folder / MANIFEST}: 'files.{name}' must have 'sha256' and 'size' alone")


def _read_count(folder: Path, where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_COUNT:
        raise PlanError(f"{folder / MANIFEST}: '{where}' is no count from 0 to {_MOST_COUNT}")
    return value


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_MANIFEST + 1)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error}") from error
    if len(content) > MOST_MANIFEST:
        raise PlanError(f"{path}: longer than {MOST_MANIFEST} bytes, which no manifest is")
    return content


def _make_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table


def _parse_whole(word: str) -> int | float:
    # The board takes no sign for a count, and a whole number of Python's none for 0.
    return -0.0 if word == "-0" else int(word)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _scale(name: str, value: float | None, unit: int) -> int:
    """Returns `value` in whole units, no fewer than one."""
    if value is None:
        return 0
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0 < value * unit <= _MOST_COUNT
    ):
        raise EdgekitError(f"{name} must be a number above 0, not {value!r}")
    return max(round(value * unit), 1)
