"""A bundle as Mender's artifact, for devices whose updates Mender brings.

The payload is the bundle's one file, of type `edgekit`: the update module of that name, which must be on the device
(targets/fleet/mender/edgekit.sh), hands it to edgekit-board. A state script has it checked again before the commit.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekit import targets
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.delivery.fleet.signed_bundle import digest_manifest, read_signed
from edgekit.targets.errors import EdgekitError, ToolError
from edgekit.targets.toolchain import find_program

TYPE = "edgekit"
SCRIPTS = Path(targets.__file__).parent / "fleet" / "mender"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,254}")


def write_mender_artifact(
    bundle: Path,
    output: Path,
    *,
    device_types: Sequence[str],
    name: str | None = None,
    key: Path | None = None,
    mender_key: Path | None = None,
) -> str:
    """Writes a `.mender` file; returns what `mender-artifact read` tells of it.

    Args:
        bundle: The bundle's folder, signed.
        output: The file to write; replaced.
        device_types: Mender's names of the devices that may get it.
        name: The artifact's name; by default it is made of board, release and digest.
        key: The public key that must have signed the bundle.
        mender_key: The private key with which Mender's artifact is signed too.

    Raises:
        ToolError: `mender-artifact` is missing or failed.
        PlanError: The bundle is damaged.
        SignatureError: The bundle is not signed, or not by `key`.
        EdgekitError: A name is none.
    """
    program = find_program("mender-artifact")
    if program is None:
        raise ToolError(
            "a Mender artifact is written by mender-artifact: install it (Debian, Ubuntu: apt install mender-artifact)"
        )
    read = read_signed(bundle, key)
    name = name or f"{TYPE}-{read.target.name}-{read.release}-{digest_manifest(bundle)[:12]}"
    for word in (name, *device_types):
        if not _NAME.fullmatch(word):
            raise EdgekitError(f"'{word}' is no name of an artifact or a type of device")
    if not device_types:
        raise EdgekitError("which devices may get it? --device-type names them as Mender does")
    with tempfile.TemporaryDirectory(prefix="edgekit-mender-") as folder:
        payload, facts = Path(folder, "model.edgekit"), Path(folder, "meta-data.json")
        pack_bundle(bundle, payload)
        facts.write_text(json.dumps(_describe(read), sort_keys=True), encoding="utf-8")
        words = ["write", "module-image", "--type", TYPE, "--artifact-name", name]
        words += [word for kind in device_types for word in ("--device-type", kind)]
        words += ["--software-name", "model", "--software-version", str(read.release)]
        words += ["--file", str(payload), "--meta-data", str(facts)]
        words += [word for script in _state_scripts() for word in ("--script", str(script))]
        made = Path(folder, "made.mender")
        _run(program, [*words, "--output-path", str(made)])
        # Read back before it takes its place.
        _run(program, ["validate", str(made)])
        if mender_key is not None:
            _run(program, ["sign", str(made), "--key", str(mender_key)])
        output.write_bytes(made.read_bytes())
    return _run(program, ["read", str(output)])


def _describe(bundle: Bundle) -> dict[str, object]:
    """Returns what the artifact says of the bundle, for people and for Mender's server."""
    return {
        "board": bundle.target.name,
        "release": bundle.release,
        "manifest_sha256": digest_manifest(bundle.path),
    }


def _state_scripts() -> list[Path]:
    return sorted(SCRIPTS.glob("Artifact*"))


def _run(program: Path, words: Sequence[str]) -> str:
    done = subprocess.run(
        [str(program), *words], capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no word of why").splitlines()
        raise ToolError(f"mender-artifact {words[0]}: {said[-1]}")
    return done.stdout
