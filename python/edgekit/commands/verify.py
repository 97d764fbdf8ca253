"""`edgekit verify`: does a bundle compute what it did where it was made?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, err, out, print_json
from edgekit.commands.options import Threads

# Exit code where bytes differ.
DIFFERS = 3


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed the bundle.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="The device that has it: ssh://[user@]host[:port][/root].")
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Check a bundle and run it, on this CPU, its board's emulated one or a device: the same bytes layer by layer?"""
    from dataclasses import asdict

    from edgekit.bundles.verify import verify as run_verify
    from edgekit.delivery.verify_on import verify_on

    with err.status(f"running {bundle}"):
        if on is None:
            result = run_verify(bundle, threads=threads, key=key)
        else:
            result = verify_on(bundle, on, threads=threads, key=key)
    if as_json:
        print_json({"ok": result.ok, **asdict(result)})
    else:
        out.print(str(result), markup=False, highlight=False, soft_wrap=True)
    if not result.ok:
        raise typer.Exit(DIFFERS)
