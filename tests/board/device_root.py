"""A device's root folder in a temporary place, and edgekit-board on it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signed_bundles import BOARD, KEY

from edgekit.building.programs import find_installed


@dataclass(frozen=True)
class Device:
    """A root folder.

    Attributes:
        root: The folder.
        program: edgekit-board.
    """

    root: Path
    program: Path

    def words(self, *words: str) -> list[str]:
        """Returns a command of edgekit-board on this root."""
        return [str(self.program), str(self.root), *words]

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs a command."""
        return subprocess.run(self.words(*words), input=stdin, capture_output=True, check=False)

    def do(self, *words: str, stdin: bytes = b"") -> str:
        """Runs a command that must succeed; returns what it printed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def refuse(self, *words: str, stdin: bytes = b"") -> str:
        """Runs a command that must fail; returns its one line of error."""
        done = self.run(*words, stdin=stdin)
        error = done.stderr.decode()
        assert done.returncode == 1, (done.returncode, error)
        assert error.startswith("edgekit-board: ")
        assert error.count("\n") == 1
        return error

    @property
    def status(self) -> dict[str, Any]:
        """What `status` prints."""
        found: dict[str, Any] = json.loads(self.do("status"))
        return found

    @property
    def log(self) -> str:
        """The log's lines."""
        return (self.root / "log").read_text()

    def steps(self, bundle: Path) -> list[tuple[list[str], bytes]]:
        """Returns `begin` with what goes into it, as a list of one command."""
        signature = (bundle / "manifest.json.minisig").read_bytes()
        manifest = (bundle / "manifest.json").read_bytes()
        return [(self.words("begin", str(len(signature))), signature + manifest)]

    def begin(self, bundle: Path) -> list[tuple[int, int, str]]:
        """Begins to take a bundle; returns offset, size and path of what is missing."""
        (command, stdin), *_ = self.steps(bundle)
        lines = self.do(*command[2:], stdin=stdin).splitlines()
        rows = [line.split(" ", 2) for line in lines]
        return [(int(offset), int(size), path) for offset, size, path in rows]

    def send(self, bundle: Path) -> None:
        """Brings all files of a bundle, without switching."""
        for offset, _, path in self.begin(bundle):
            self.do("put", path, str(offset), stdin=(bundle / path).read_bytes()[offset:])

    def install(self, bundle: Path) -> None:
        """Brings a bundle, switches, starts and confirms it; one that runs already stays."""
        ((words, stdin),) = self.steps(bundle)
        if self.run(*words[2:], stdin=stdin).returncode == 4:
            return
        self.send(bundle)
        self.do("switch")
        self.do("start")
        self.do("confirm")


def find_program() -> Path:
    """Returns edgekit-board; EDGEKIT_BOARD names another build of it, with sanitizers say."""
    program = os.environ.get("EDGEKIT_BOARD") or find_installed("bin/edgekit-board")
    assert program is not None
    return Path(program)


def make_device(root: Path, board: str = BOARD) -> Device:
    """Makes a root folder for a board and the tests' key."""
    device = Device(root, find_program())
    key = root.parent / "key.pub"
    key.write_text(KEY.public.to_text())
    device.do("init", board, str(key))
    return device
