"""What commands print with: both streams, progress, JSON and nested facts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from edgekit.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]

# A pipe has no width; what is written there should not be cut.
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)


@contextmanager
def bars() -> Iterator[Progress]:
    """Shows a bar for each stage on a terminal, on the error stream."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=err, disable=not err.is_terminal) as shown:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done, total=total)

        yield tell


def print_json(value: Any) -> None:
    """Prints JSON for a program to read."""
    print(json.dumps(value, indent=2, default=str))


def print_facts(facts: dict[str, Any], indent: int = 0) -> None:
    """Prints nested facts a line each."""
    space = "  " * indent
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            out.print(f"{space}{key}:", markup=False, highlight=False)
            print_facts(value, indent + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            out.print(f"{space}{key}:", markup=False, highlight=False)
            for item in value:
                line = ", ".join(f"{k} {v}" for k, v in item.items())
                out.print(f"{space}  {line}", markup=False, highlight=False, soft_wrap=True)
        elif value not in (None, [], {}, ()):
            out.print(f"{space}{key}: {value}", markup=False, highlight=False, soft_wrap=True)
