"""Where training goes on from after a kill: one file, always whole."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from edgekit.targets.errors import EdgekitError

_FORMAT = "edgekit distillation 1"


def save_checkpoint(path: Path, key: str, state: dict[str, Any]) -> None:
    """Writes ``state``, tensors and plain numbers, in place of what the file held; a kill leaves one or the other.

    Args:
        path: The file.
        key: Names the networks, samples and settings that it belongs to.
        state: What to go on from.

    Raises:
        EdgekitError: The file cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            torch.save({"format": _FORMAT, "key": key, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, RuntimeError) as error:
        draft.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise EdgekitError(f"{path}: cannot be written: {reason}") from error


def load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Returns what was saved, None where there is no file.

    Raises:
        EdgekitError: The file is no checkpoint, or that of other networks, samples or settings.
    """
    if not path.exists():
        return None
    try:
        # Tensors and plain numbers alone: a file cannot run code.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise EdgekitError(f"{path}: is no checkpoint of distillation, or is damaged") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise EdgekitError(f"{path}: is no checkpoint of distillation")
    if found.get("key") != key:
        raise EdgekitError(
            f"{path}: belongs to another network, other samples or other settings: remove it, or name another file"
        )
    state = found["state"]
    assert isinstance(state, dict)
    return state
