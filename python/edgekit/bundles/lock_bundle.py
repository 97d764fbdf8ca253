"""Locks a bundle's plan, which holds the weights, so that only chosen devices can read it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from edgekit.bundles.age import lock
from edgekit.bundles.bundle import PLAN, Bundle, is_replaceable, read_bundle
from edgekit.bundles.manifest import (
    LOCKED_PLAN,
    MANIFEST,
    SIGNATURE,
    describe_file,
    format_json,
    make_signature,
    read_manifest,
)
from edgekit.bundles.minisign import SecretKey
from edgekit.bundles.release import read_key
from edgekit.replace_folder import replace_folder
from edgekit.targets.errors import EdgekitError, PlanError

# Endings of files that hold a network's weights.
_WEIGHTS = (".onnx", ".tflite", ".data", ".plan")


def lock_bundle(
    path: Path,
    recipients: Sequence[str],
    output: Path,
    *,
    sign_with: str | Path | SecretKey | None = None,
) -> Bundle:
    """Writes the bundle in `path` anew with its plan locked; all else stays, the release too.

    Golden inputs and outputs stay readable, and so do the names, shapes and digests of layers.

    Args:
        path: The bundle's folder.
        recipients: Public keys of devices, age1..., each of which can open the plan (`edgekit-board ROOT key`).
        output: The folder to write; an older bundle there is replaced once the new one is whole.
        sign_with: The secret key that signs it, or its file without a password; nobody signs by default.

    Raises:
        EdgekitError: A recipient is no public key, or `output` is something else already.
        SignatureError: `sign_with` is no secret key.
        PlanError: The bundle is damaged, locked already, or holds the weights in another form as well.
        ToolError: The package `cryptography` is missing.
    """
    key = read_key(sign_with)
    bundle = read_bundle(path)
    content = bundle.plan.read_bytes()
    others = [name for name in sorted(bundle.files) if name != PLAN and name.endswith(_WEIGHTS)]
    if others:
        raise PlanError(
            f"{path}: not locked: {', '.join(others)} holds the weights too: deploy the native form alone"
        )
    if output.exists() and not is_replaceable(output):
        raise EdgekitError(
            f"{output}: not overwritten: it exists and is no deployment, or holds more than one"
        )
    locked = lock(content, recipients)
    manifest = read_manifest(path)
    with replace_folder(output) as folder:
        for name in bundle.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name != PLAN:
                shutil.copy2(path / name, folder / name)
        (folder / LOCKED_PLAN).write_bytes(locked)
        manifest["files"] = {
            name: facts for name, facts in manifest["files"].items() if name != PLAN
        } | {LOCKED_PLAN: describe_file(folder / LOCKED_PLAN)}
        text = format_json(manifest)
        (folder / MANIFEST).write_bytes(text)
        if key is not None:
            (folder / SIGNATURE).write_bytes(make_signature(text, bundle.target.name, key))
    return read_bundle(output)
