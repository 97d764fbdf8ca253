"""`edgekit flash`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, bars, err, out, print_json


def flash(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder or file.")],
    to: Annotated[
        str,
        typer.Option(
            help="ssh://[user@]host[:port][/absolute/root], dir:///absolute/root, image://FILE, card:///dev/sdX, "
            "deb://FILE or rauc://FILE."
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            help="The public key that must have signed the bundle; a device that has none yet trusts it."
        ),
    ] = None,
    own_key: Annotated[
        bool,
        typer.Option("--own-key", help="Sign with a key of your own, made for you at first."),
    ] = False,
    start: Annotated[
        bool,
        typer.Option(
            help="--no-start leaves the bundle on trial: what starts it there confirms it."
        ),
    ] = True,
    service: Annotated[
        bool,
        typer.Option(
            "--service", help="Make the device run its model as a service of systemd; takes root."
        ),
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(help="Where that serves: unix:/run/edgekit/socket, tcp:*:7070, ..."),
    ] = None,
    sudo: Annotated[
        bool, typer.Option("--sudo", help="Work as root there, by a sudo without a password.")
    ] = False,
    tries: Annotated[int, typer.Option(min=1, help="How often to go on after a broken link.")] = 3,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Of an image, a card or a package: base=raspios.img, say (docs/images.md).",
        ),
    ] = None,
    old: Annotated[
        Path | None,
        typer.Option(help="The bundle that the device may have: less travels where it is at hand."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring a bundle to a device, prove it there, and switch to it; what it runs stays where that fails."""
    from edgekit.delivery.artefact import is_artefact
    from edgekit.delivery.flash import flash as run_flash
    from edgekit.delivery.own_key import find_own_public_key

    had_key = find_own_public_key() is not None
    # A bar would write over the question whether a card may be erased.
    with nullcontext() if is_artefact(to) else bars() as progress:
        result = run_flash(
            bundle,
            to,
            key=key,
            own_key=own_key,
            confirm=start,
            service=service,
            listen=listen,
            sudo=sudo,
            tries=tries,
            options=options or (),
            old=old,
            progress=progress,
        )
    if not had_key and (made := find_own_public_key()) is not None:
        err.print(
            f"made a key of your own: {made.with_suffix('.key')}, to be kept secret and safe, and {made}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        out.print(str(result), markup=False, highlight=False, soft_wrap=True)
