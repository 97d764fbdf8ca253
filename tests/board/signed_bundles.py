"""Small signed bundles for edgekit-board: their programs are scripts, which answer as edgekit-run does."""

import hashlib
import json
import platform
import shutil
from pathlib import Path
from typing import Any

from edgekit.bundles.minisign import SecretKey, sign

KEY = SecretKey(b"12345678", bytes(range(32)))
BOARD = "rpi4"
LAYERS = [{"op": "conv", "tensor": "y", "sha256": "ab" * 32}]

# Behaves as edgekit-run: writes the outputs and prints what it did.
PROGRAM = """#!/bin/sh
{beginning}
plan=$1
while [ $# -gt 0 ]; do
  [ "$1" = --output-dir ] && out=$2
  shift
done
cp "$(dirname "$0")/golden/outputs/0.npy" "$out/0.npy"
cat <<END
{answer}
END
{ending}
"""


def make_bundle(
    folder: Path,
    *,
    release: int = 0,
    board: str = BOARD,
    layers: list[dict[str, str]] | None = None,
    answer: dict[str, Any] | None = None,
    beginning: str = "",
    ending: str = "",
    key: SecretKey = KEY,
    plan: bytes = b"plan" * 64,
    plan_name: str = "model.plan",
    limits: dict[str, int] | None = None,
    board_program: Path | None = None,
    edit: Any = None,
) -> Path:
    """Writes a bundle.

    Args:
        folder: Where; replaced.
        release, board, limits: As the manifest says them.
        layers: Golden digests; by default those that the program prints.
        answer: What the program prints besides layers and outputs.
        beginning, ending: Shell commands at the program's begin and end.
        key: Who signs.
        plan: Content of the plan, to tell bundles apart.
        plan_name: Its file.
        board_program: edgekit-board, for a bundle that brings it.
        edit: Called with the manifest before it is signed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "golden/inputs").mkdir(parents=True)
    (folder / "golden/outputs").mkdir()
    said = {
        "median_ms": 1.5,
        "peak_resident_bytes": 4096,
        "digests": LAYERS,
        "outputs": [{"name": "y", "file": "0.npy"}],
    }
    program = PROGRAM.replace("{answer}", json.dumps(said | (answer or {})))
    program = program.replace("{beginning}", beginning)
    contents = {
        plan_name: plan,
        "edgekit-run": program.replace("{ending}", ending).encode(),
        "edgekit-board": board_program.read_bytes() if board_program else b"#!/bin/sh\n",
        "golden/digests.json": json.dumps(LAYERS if layers is None else layers).encode(),
        "golden/inputs/0.npy": b"in",
        "golden/outputs/0.npy": b"out",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest: dict[str, Any] = {
        "schema": 1,
        "release": release,
        "origin": {},
        "versions": {},
        "target": {
            "name": board,
            "title": board,
            "isa": "generic",
            "triple": f"{platform.machine()}-linux-gnu",
            "emulator_cpu": None,
        },
        "golden": {
            "inputs": [{"name": "x", "file": "golden/inputs/0.npy"}],
            "outputs": [{"name": "y", "file": "golden/outputs/0.npy"}],
        },
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    if limits is not None:
        manifest["limits"] = limits
    if edit is not None:
        edit(manifest)
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.json.minisig").write_text(sign(text, key, "test").to_text())
    return folder
