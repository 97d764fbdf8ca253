"""`edgekit device`: what a device runs and what happened there, and what a person may tell it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgekit.commands.console import Json, out, print_json

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Ask a device what it runs and what happened there; confirm a bundle, or go back.",
)

Address = Annotated[
    str, typer.Argument(help="ssh://[user@]host[:port][/absolute/root], or dir:///absolute/root.")
]
Sudo = Annotated[
    bool, typer.Option("--sudo", help="Work as root there, by a sudo without a password.")
]


@app.command()
def status(address: Address, sudo: Sudo = False, as_json: Json = False) -> None:
    """Say which bundles a device has, and which runs."""
    from edgekit.delivery.device import Device

    with Device(address, sudo=sudo) as device:
        found = device.status()
    if as_json:
        print_json(asdict(found))
        return
    _print(f"{found.board}, edgekit-board {found.version}; takes releases from {found.floor} on")
    for name in ("a", "b"):
        slot = found.slots.get(name)
        words = "empty" if slot is None else f"release {slot.release}, {slot.manifest_sha256[:16]}"
        if name == found.active:
            words += ", confirmed"
        elif name == found.trial:
            words += f", on trial: {found.starts} starts left"
        _print(f"slot {name}: {words}")


@app.command()
def log(address: Address, sudo: Sudo = False, as_json: Json = False) -> None:
    """Say what happened on a device, oldest first; times are by its own clock."""
    from edgekit.delivery.device import Device

    with Device(address, sudo=sudo) as device:
        entries = device.log()
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        _print(f"{entry.time} {entry.change:4} {entry.what}")


@app.command()
def back(
    address: Address,
    why: Annotated[str, typer.Option(help="A reason, for the log.")] = "by hand",
    sudo: Sudo = False,
) -> None:
    """End a trial, or go to the bundle before: the next start runs it."""
    from edgekit.delivery.device import Device

    with Device(address, sudo=sudo) as device:
        device.back(why)
        _print(f"slot {device.status().active or '-'} runs from the next start on")


@app.command()
def confirm(address: Address, sudo: Sudo = False) -> None:
    """End a trial: its bundle stays."""
    from edgekit.delivery.device import Device

    with Device(address, sudo=sudo) as device:
        device.confirm()
        _print(f"slot {device.status().active} is confirmed")


def _print(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
