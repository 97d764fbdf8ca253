"""Secret keys of commands: the option that names one, and the question for its password."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgekit.bundles.minisign import SecretKey

SignWith = Annotated[Path | None, typer.Option(help="The secret key that signs the bundle.")]


def ask_secret_key(path: Path) -> SecretKey:
    """Reads a secret key, and asks for the password of one that is locked.

    Raises:
        SignatureError: The file is no secret key, or the password is wrong.
    """
    from edgekit.bundles.minisign import is_locked, read_secret_key

    words = typer.prompt("password", hide_input=True) if is_locked(path) else None
    return read_secret_key(path, words)
