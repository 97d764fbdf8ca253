"""Commands for deltas: `edgekit delta`, `edgekit patch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import out


def delta(
    old: Annotated[Path, typer.Argument(help="The bundle that is there: its folder or one file.")],
    new: Annotated[Path, typer.Argument(help="The bundle to come.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The delta to write.")],
) -> None:
    """Write what turns one bundle into the next one."""
    from edgekit.delivery.delta import make_delta

    sizes = make_delta(old, new, output)
    out.print(
        f"{output}: {sizes.delta} bytes, {sizes.share:.1%} of the bundle's {sizes.bundle}",
        markup=False,
        highlight=False,
    )


def patch(
    old: Annotated[Path, typer.Argument(help="The bundle that the delta was made for.")],
    delta: Annotated[Path, typer.Argument(help="The delta.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The new bundle: NAME.edgekit, one file, or a folder."),
    ],
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed the new bundle.")
    ] = None,
) -> None:
    """Make the new bundle of the old one and a delta."""
    from edgekit.bundles.minisign import read_public_key
    from edgekit.delivery.delta import apply_delta

    signer = None if key is None else read_public_key(key)
    written = apply_delta(old, delta, output, key=signer)
    out.print(f"written to {written}", markup=False, highlight=False)
