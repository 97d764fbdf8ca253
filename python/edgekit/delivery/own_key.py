"""A signing key of one's own, for devices of one's own: made once, kept like an ssh key without a password.

A device trusts it only where it was named when the device got its root folder, which takes a login that could change
all there anyway.
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.bundles.bundle import sign_bundle
from edgekit.bundles.manifest import SIGNATURE
from edgekit.bundles.minisign import make_key, read_secret_key, read_signature, write_key_files
from edgekit.targets.errors import SignatureError

_SECRET, _PUBLIC = "own.key", "own.pub"


def config_dir() -> Path:
    """Returns the folder for what belongs to the user: EDGEKIT_CONFIG, or `edgekit` in the user's settings."""
    if own := os.environ.get("EDGEKIT_CONFIG"):
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgekit"


def find_own_public_key() -> Path | None:
    """Returns the file of the user's own public key, None where none was made."""
    path = config_dir() / _PUBLIC
    return path if path.is_file() else None


def sign_as_own(bundle: Path) -> Path:
    """Signs a bundle with the user's own key, which is made where there is none; returns the public key's file.

    Raises:
        SignatureError: Somebody else has signed the bundle.
        PlanError: The bundle is damaged.
        ToolError: The package `cryptography` is missing.
    """
    secret, public = (config_dir() / name for name in (_SECRET, _PUBLIC))
    if not secret.exists():
        secret.parent.mkdir(parents=True, exist_ok=True)
        write_key_files(make_key(), secret, public, None)
    key = read_secret_key(secret)
    signature = bundle / SIGNATURE
    if signature.exists():
        if read_signature(signature).key_id != key.key_id:
            raise SignatureError(
                f"{bundle} is signed by somebody else: flash it with --key and that one's public key"
            )
    else:
        sign_bundle(bundle, key)
    return public
