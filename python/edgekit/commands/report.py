"""`edgekit report`: what a deployment is and what it was measured to be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.commands.console import Json, err, out, print_json
from edgekit.commands.options import Threads

# How the files that a report is written to end.
PAGE, TABLE = ".html", ".json"


def report(
    path: Annotated[
        Path,
        typer.Argument(help="A report's .json, as deploy --report writes it, or a bundle."),
    ],
    html: Annotated[
        Path | None, typer.Option(help="Write one page of HTML, which needs nothing else.")
    ] = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Show the report of a deployment; of a bundle alone, what its papers say and what can be timed here."""
    from edgekit.findings.of_bundle import report_bundle
    from edgekit.report import read_report

    if path.is_file() and path.suffix.lower() == TABLE:
        shown = read_report(path)
    else:
        with err.status(f"timing {path}"):
            shown = report_bundle(path, threads=threads)
    if html is not None:
        shown.save_html(html)
    if as_json:
        print_json(shown.to_dict())
    elif html is not None:
        out.print(f"written to {html}", markup=False, highlight=False)
    else:
        out.print(shown)
