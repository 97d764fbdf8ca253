"""Commands that make keys and sign bundles with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import out
from edgekit.commands.keys import ask_secret_key


def keygen(
    name: Annotated[Path, typer.Argument(help="Writes NAME.key, the secret, and NAME.pub.")],
    password: Annotated[
        bool, typer.Option(help="Lock the secret key with a password that is asked for.")
    ] = True,
) -> None:
    """Make a key that signs bundles, in minisign's format."""
    from edgekit.bundles.minisign import make_key, write_key_files

    words = (
        typer.prompt("password", hide_input=True, confirmation_prompt=True) if password else None
    )
    key = make_key()
    secret, public = (name.with_name(name.name + ending) for ending in (".key", ".pub"))
    write_key_files(key, secret, public, words)
    out.print(f"key {key.public.name}: {secret}, to be kept secret, and {public}", highlight=False)


def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    key: Annotated[Path, typer.Option(help="The secret key.")],
) -> None:
    """Sign a bundle: whoever has the public key can tell that it is yours and unchanged."""
    from edgekit.bundles.bundle import sign_bundle
    from edgekit.bundles.bundle_file import rewritten

    secret = ask_secret_key(key)
    with rewritten(bundle) as folder:
        file = sign_bundle(folder, secret)
    shown = file if folder == bundle else bundle
    out.print(f"signed by {secret.public.name}: {shown}", highlight=False)
