"""Writing images to memory cards, with every check that keeps a person from erasing another disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekit.delivery.flash_script import SCRIPTS, run_script
from edgekit.targets.errors import EdgekitError


def write_card(
    image: Path,
    device: str,
    *,
    erase: str | None = None,
    partition: bool = False,
    fixed: bool = False,
) -> str:
    """Writes an image to a card, reads it back and compares; returns what was said of it.

    Without `erase`, the person at the terminal is shown the card and asked for its name.

    Args:
        image: The image; a map of its blocks beside it is used.
        device: As /dev/sdX or /dev/mmcblkX.
        erase: The device's name, sdX: that it may be erased was decided.
        partition: Whether it may be a partition of a card.
        fixed: Whether it may be fixed to this machine.

    Raises:
        EdgekitError: The device may be another disk than the one that is meant, or reads back other bytes.
        ToolError: A program is missing.
    """
    words: list[str | Path] = []
    words += [] if erase is None else ["--yes-erase", erase]
    words += ["--partition"] if partition else []
    words += ["--fixed"] if fixed else []
    if erase is not None or not sys.stdin.isatty():
        return run_script("write_card.sh", [*words, image, device])
    return _ask(words, image, device)


def _ask(words: Sequence[str | Path], image: Path, device: str) -> str:
    """Lets the script talk to the terminal."""
    done = subprocess.run(["sh", SCRIPTS / "write_card.sh", *words, image, device], check=False)
    if done.returncode != 0:
        raise EdgekitError(f"{device}: not written")
    return ""
