"""Runs a script of targets/flash that writes an artefact, and tells its errors in edgekit's words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgekit import targets
from edgekit.building.programs import find_installed
from edgekit.targets.errors import EdgekitError, ToolError
from edgekit.targets.toolchain import find_program

SCRIPTS = Path(targets.__file__).parent / "flash"

# Exit statuses that the scripts' --help lists.
_LACKS_A_PROGRAM = 3


def run_script(name: str, words: Sequence[str | Path]) -> str:
    """Runs a script; returns what it printed.

    Args:
        name: Its file in targets/flash.
        words: What follows.

    Raises:
        ToolError: It lacks a program; the message says how to get it.
        EdgekitError: It refused or failed; the message is its last line.
    """
    shell = find_program("sh")
    if shell is None:
        raise ToolError(
            f"{name} needs a POSIX shell, sh: on Windows, run edgekit in WSL or a container"
        )
    done = subprocess.run(
        [shell, SCRIPTS / name, *words], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1].strip() if lines else f"it ended with status {done.returncode}"
    if done.returncode == _LACKS_A_PROGRAM:
        raise ToolError(reason)
    raise EdgekitError(reason)


def find_board_program() -> Path:
    """Returns edgekit-board of this machine.

    Raises:
        ToolError: This installation of edgekit has none.
    """
    program = find_installed("bin/edgekit-board")
    if program is None:
        raise ToolError("edgekit-board is missing from this installation of edgekit: reinstall it")
    return program
