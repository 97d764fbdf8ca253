"""Releases: which bundle comes after which, what a device holds it to, and whose it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.manifest import (
    MANIFEST,
    NO_LIMITS,
    SIGNATURE,
    Limits,
    check_release,
    format_json,
    make_signature,
    read_manifest,
)
from edgekit.bundles.minisign import SecretKey, is_locked, read_secret_key
from edgekit.replace_folder import replace_file
from edgekit.targets.errors import EdgekitError, SignatureError


@dataclass(frozen=True)
class Release:
    """What a bundle says of itself besides what it holds.

    Attributes:
        number: Which one comes after which: a device takes none that is older than one it confirmed.
        limits: What a device holds the bundle to before it switches to it.
        key: Who signs, or None.
    """

    number: int = 1
    limits: Limits = NO_LIMITS
    key: SecretKey | None = None


def read_key(source: str | Path | SecretKey | None) -> SecretKey | None:
    """Returns the key that signs, before anything else takes long.

    Args:
        source: A secret key, or its file, which no password locks.

    Raises:
        SignatureError: The file is no secret key, or locked.
        ToolError: The package `cryptography` is missing.
        EdgekitError: It is neither.
    """
    if source is None:
        return None
    if isinstance(source, SecretKey):
        # Whether it can sign here shows now rather than at the end.
        _ = source.public
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise EdgekitError(f"sign_with must be a key's file or a SecretKey, not {source!r}")
    path = Path(source)
    if is_locked(path):
        raise SignatureError(
            f"{path}: locked with a password: give edgekit.bundles.minisign.read_secret_key(path, password) instead"
        )
    return read_secret_key(path)


def release_bundle(
    path: Path,
    *,
    release: int | None = None,
    limits: Limits | None = None,
    sign_with: str | Path | SecretKey | None = None,
) -> Bundle:
    """Makes a new release of a bundle: nothing but its manifest changes.

    A former signature, which fits no more, goes.

    Args:
        path: The bundle's folder.
        release: Its number; by default the next one.
        limits: What a device holds it to; by default what it did.
        sign_with: The secret key that signs it, or its file without a password; nobody signs by default.

    Raises:
        EdgekitError: The release is no count.
        SignatureError: `sign_with` is no secret key.
        PlanError: The bundle is damaged.
        ToolError: It is to be signed, and the package `cryptography` is missing.
    """
    key = read_key(sign_with)
    bundle = read_bundle(path)
    release = bundle.release + 1 if release is None else release
    check_release(release)
    manifest = read_manifest(path) | {"release": release}
    if limits is not None:
        manifest.pop("limits", None)
        if limits:
            manifest["limits"] = limits.to_dict()
    content = format_json(manifest)
    signature = None if key is None else make_signature(content, bundle.target.name, key)
    # At any moment there is a whole manifest, and no signature but its own.
    (path / SIGNATURE).unlink(missing_ok=True)
    replace_file(path / MANIFEST, content)
    if signature is not None:
        replace_file(path / SIGNATURE, signature)
    return read_bundle(path)
