"""`edgekit inspect`: what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, print_facts, print_json


def inspect(
    path: Annotated[Path, typer.Argument(help="An .onnx, a .tflite, a .plan or a bundle.")],
    as_json: Json = False,
) -> None:
    """Check a file and say what is in it."""
    from edgekit.inspection import inspect as run_inspect

    facts = run_inspect(path)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
