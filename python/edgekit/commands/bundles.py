"""Commands that make a bundle of a bundle: a new release, one file, a folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, out, print_json
from edgekit.commands.keys import SignWith, ask_secret_key


def release(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    number: Annotated[
        int | None, typer.Option("--release", min=1, help="Its number; default: the next one.")
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="The most milliseconds a run may take on the board.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="The most memory, in MB, the program may hold there.")
    ] = None,
    no_limits: Annotated[
        bool, typer.Option("--no-limits", help="Drop the limits that the bundle has.")
    ] = False,
    sign_with: SignWith = None,
    as_json: Json = False,
) -> None:
    """Make a new release of a bundle, which devices take in place of older ones."""
    from edgekit.bundles.bundle_file import rewritten
    from edgekit.bundles.manifest import NO_LIMITS, Limits
    from edgekit.bundles.release import release_bundle

    given = Limits.from_units(max_ms, max_mb)
    if no_limits and given:
        raise typer.BadParameter("--no-limits goes without --max-ms and --max-mb")
    limits = NO_LIMITS if no_limits else given or None
    key = ask_secret_key(sign_with) if sign_with else None
    with rewritten(bundle) as folder:
        made = release_bundle(folder, release=number, limits=limits, sign_with=key)
    signer = None if key is None else key.public.name
    if as_json:
        print_json({"release": made.release, "limits": made.limits.to_dict(), "signer": signer})
        return
    words = f"signed by {signer}" if signer else "not signed"
    out.print(f"{bundle}: release {made.release}, {words}", markup=False, highlight=False)


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; default: BUNDLE.edgekit.")
    ] = None,
) -> None:
    """Write a bundle as one file, which every command takes in its place."""
    from edgekit.bundles.archive import SUFFIX
    from edgekit.bundles.bundle_file import pack_bundle

    folder = bundle.resolve()
    file = output or bundle.with_name(folder.name + SUFFIX)
    pack_bundle(bundle, file)
    size = file.stat().st_size
    out.print(f"{file}: {size} bytes", markup=False, highlight=False)


def unpack(
    file: Annotated[Path, typer.Argument(help="A bundle's one file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    key: Annotated[
        Path | None, typer.Option(help="The public key that must have signed the bundle.")
    ] = None,
) -> None:
    """Write a bundle's file as a folder again."""
    from edgekit.bundles.bundle_file import unpack_bundle
    from edgekit.bundles.minisign import read_public_key

    unpack_bundle(file, output, key=None if key is None else read_public_key(key))
    out.print(f"written to {output}", markup=False, highlight=False)


def lock(
    bundle: Annotated[Path, typer.Argument(help="A bundle: its folder or its one file.")],
    keys: Annotated[
        list[str],
        typer.Option("--for", help="A device's public key, age1...; may be given often."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    sign_with: SignWith = None,
) -> None:
    """Lock a bundle's weights: only devices of these keys can read them (edgekit-board ROOT key)."""
    from edgekit.bundles.archive import unpacked
    from edgekit.bundles.lock_bundle import lock_bundle

    secret = ask_secret_key(sign_with) if sign_with else None
    with unpacked(bundle) as folder:
        lock_bundle(folder, keys, output, sign_with=secret)
    words = "signed" if secret else "not signed"
    devices = "1 device" if len(keys) == 1 else f"{len(keys)} devices"
    out.print(f"{output}: locked for {devices}, {words}", markup=False, highlight=False)
