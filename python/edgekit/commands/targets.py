"""`edgekit targets`: list the boards, say what one is, and make a profile of a real device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edgekit.commands.console import Json, err, out, print_facts, print_json

if TYPE_CHECKING:
    from edgekit.targets.profile import Profile


class _NamesBoards(TyperGroup):
    """Takes `targets NAME` for `targets facts NAME`, as it always was."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["facts", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_NamesBoards,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the boards, say what one is, or make a profile of a real device.",
)


@app.callback()
def targets(context: typer.Context, as_json: Json = False) -> None:
    """List the boards, say what one is (targets NAME), or make a profile of a real device."""
    if context.invoked_subcommand is not None:
        return
    from edgekit.targets.profile import list_profiles, load_profile

    profiles = [load_profile(item) for item in list_profiles()]
    if as_json:
        print_json([asdict(profile) for profile in profiles])
        return
    from edgekit.report import make_table

    table = make_table("", "target", "board", "instruction set", "forms")
    for profile in profiles:
        table.add_row(profile.name, profile.title, profile.isa, ", ".join(profile.forms))
    out.print(table)


@app.command(hidden=True)
def facts(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A board, or your own .toml profile.")],
    as_json: Json = False,
) -> None:
    """Show all of one board, key by key."""
    from edgekit.targets.profile import load_profile

    found = asdict(load_profile(name))
    before = context.parent.params.get("as_json") if context.parent else None
    if as_json or before:
        print_json(found)
    else:
        print_facts(found)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A board, or your own .toml profile.")],
    as_json: Json = False,
) -> None:
    """Say what a board is in words: each figure, what it decides, and its source."""
    from edgekit.targets.explain import explain
    from edgekit.targets.profile import load_profile

    profile = load_profile(name)
    if as_json:
        print_json(
            {
                "name": profile.name,
                "title": profile.title,
                "says": [asdict(s) for s in explain(profile)],
            }
        )
    else:
        _print_profile(profile)


@app.command()
def probe(
    address: Annotated[
        str | None, typer.Argument(help="local, or ssh://[user@]host[:port].")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="NAME.toml to write; deploy --target takes its path."),
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(help="What probe.sh printed on a device, to be read instead of an address."),
    ] = None,
    save_dump: Annotated[
        Path | None, typer.Option(help="A file to write what the device told to.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Files that are there may be replaced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a real device and make its profile; nothing is written on the device."""
    from edgekit.delivery.probe import probe as run_probe

    with err.status("reading the device"):
        probed = run_probe(
            address, dump=dump, output=output, save_dump=save_dump, overwrite=overwrite
        )
    if as_json:
        print_json(
            {
                "profile": asdict(probed.profile),
                "like": probed.like,
                "emulation": probed.device.emulation,
                "virtual": probed.device.virtual,
                "missing": probed.missing,
            }
        )
        return
    _print_profile(probed.profile)
    if probed.like:
        out.print(
            f"Its device tree names the board {probed.like}: what it does not tell is taken from that profile.",
            markup=False,
            highlight=False,
        )
    for line in probed.missing:
        out.print(f"not known: {line}", markup=False, highlight=False, soft_wrap=True)
    if output is not None:
        out.print(
            f"written to {output}: deploy takes --target {_spell(output)}",
            markup=False,
            highlight=False,
        )


def _spell(path: Path) -> str:
    return str(path) if path.is_absolute() else f"./{path}"


def _print_profile(profile: Profile) -> None:
    from edgekit.targets.explain import explain

    out.print(f"{profile.name}: {profile.title}", markup=False, highlight=False)
    section = ""
    for statement in explain(profile):
        name = statement.key.split(".")[0]
        if name != section:
            section = name
            out.print(f"\n{section}", markup=False, highlight=False)
        line = f"  {statement.text}"
        if statement.decides:
            line += f"\n      decides {statement.decides}"
        if statement.source:
            line += f"\n      source: {statement.source}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print()
