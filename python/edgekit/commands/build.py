"""`edgekit build`: what a board needs besides a network."""

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, err, out, print_json


def build(
    target: Annotated[str, typer.Argument(help="A board, or your own .toml profile.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write; new or empty.")
    ],
    library: Annotated[
        bool, typer.Option("--library", help="libedgekit, its header and its CMake package.")
    ] = False,
    wheel: Annotated[
        bool, typer.Option("--wheel", help="edgekit's Python wheel, for 64 bit Arm boards.")
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(help="A runner with this plan's kernels and operators alone."),
    ] = None,
    source: Annotated[Path, typer.Option(help="edgekit's source tree, for --wheel.")] = Path(),
    python_headers: Annotated[
        Path | None, typer.Option(help="The board's Python headers, for --wheel.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile for a board: its programs, or what is asked for instead."""
    from edgekit.building.outputs import build_outputs

    with err.status(f"building for {target}"):
        files = build_outputs(
            target,
            output,
            library=library,
            wheel=wheel,
            plan=plan,
            source=source,
            headers=python_headers,
        )
    if as_json:
        print_json({"files": {name: path.stat().st_size for name, path in files.items()}})
        return
    for name, path in files.items():
        out.print(f"{output / name}: {path.stat().st_size:,} bytes", highlight=False, markup=False)
