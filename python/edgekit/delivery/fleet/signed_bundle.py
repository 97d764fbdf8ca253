"""Bundles as devices take them: signed, and named by the digest of their manifest."""

import hashlib
from pathlib import Path

from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.manifest import MANIFEST, SIGNATURE
from edgekit.bundles.minisign import read_public_key
from edgekit.targets.errors import SignatureError


def read_signed(path: Path, key: Path | None) -> Bundle:
    """Reads a bundle that is for devices.

    Args:
        path: Its folder.
        key: The public key that must have signed it; any other's will do by default.

    Raises:
        PlanError: It is damaged.
        SignatureError: It is not signed, or not by `key`.
    """
    bundle = read_bundle(path, key=None if key is None else read_public_key(key))
    if not (path / SIGNATURE).exists():
        raise SignatureError(
            f"{path}: not signed, and devices take only what is signed: edgekit sign {path} --key TEAM.key"
        )
    return bundle


def digest_manifest(bundle: Path) -> str:
    """Returns the SHA-256 of a bundle's manifest, which holds those of all other files; edgekit-board tells it too."""
    return hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
