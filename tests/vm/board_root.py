"""edgekit-board on an emulated board, by ssh: each of its steps by itself, as no installer would have to do them."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emulated_board import EmulatedBoard
from signed_bundles import KEY

from edgekit.delivery.ssh import DEFAULT_ROOT

PROGRAM = f"{DEFAULT_ROOT}/bin/edgekit-board"


def do(board: EmulatedBoard, *words: str, stdin: bytes = b"") -> str:
    """Runs a command of edgekit-board that must succeed; returns what it printed."""
    return board.run(shlex.join([PROGRAM, DEFAULT_ROOT, *words]), stdin=stdin).text


def read_status(board: EmulatedBoard) -> dict[str, Any]:
    """Returns what `status` prints."""
    found: dict[str, Any] = json.loads(do(board, "status"))
    return found


def make_root(board: EmulatedBoard, bundle: Path) -> None:
    """Makes the root folder, with the bundle's edgekit-board and the tests' key."""
    program = (bundle / "edgekit-board").read_bytes()
    board.run(
        f"mkdir -p {DEFAULT_ROOT}/bin; cat > {PROGRAM}; chmod 755 {PROGRAM}; sync", stdin=program
    )
    board.run("cat > /tmp/key.pub", stdin=KEY.public.to_text().encode())
    target = json.loads((bundle / "manifest.json").read_text())["target"]["name"]
    do(board, "init", target, "/tmp/key.pub")


def take(board: EmulatedBoard, bundle: Path) -> Iterator[str]:
    """Takes a bundle up to its confirmation; yields the name of each step after it was done."""
    signature = (bundle / "manifest.json.minisig").read_bytes()
    manifest = (bundle / "manifest.json").read_bytes()
    missing = do(board, "begin", str(len(signature)), stdin=signature + manifest)
    yield "begin"
    for line in missing.splitlines():
        offset, _, path = line.split(" ", 2)
        do(board, "put", path, offset, stdin=(bundle / path).read_bytes()[int(offset) :])
        yield "put"
    for step in ("switch", "start", "confirm"):
        do(board, step)
        yield step
