"""Shows what `accuracy.py` measured, on a screen and as Markdown: a row for each contestant and measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from intervals import Loss

COLUMNS = (
    "network",
    "measure",
    "contestant",
    "value with its 95 % interval",
    "points lost",
    "answers as float's",
    "dB",
)


def list_rows(records: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yields the table's rows; what is told of a network once, such as agreement, stands beside its first measure."""
    for record in records:
        measured = {n: r for n, r in record["contestants"].items() if "figures" in r}
        for index, figure in enumerate(record["contestants"]["float"]["figures"]):
            title = f"{figure['name']}, {figure['count']} {figure['unit']}"
            for name, result in measured.items():
                found = result["figures"][index]
                value = f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
                loss = (result.get("losses") or [None] * (index + 1))[index]
                agreement = result.get("agreement")
                yield (
                    record["network"],
                    title,
                    name,
                    value,
                    str(Loss(**loss)) if loss else "",
                    f"{agreement['value']:.4f}" if agreement and not index else "",
                    f"{result['snr_db']:.1f}" if "snr_db" in result and not index else "",
                )


def make_table(records: list[dict[str, Any]]) -> Table:
    """Returns the table for a terminal; names are shown once, losses that are more than chance are bold."""
    table = Table(*COLUMNS, title="accuracy; a loss whose interval leaves 0 out is bold")
    before: tuple[str, ...] = ()
    for row in list_rows(records):
        known = [a if a != b else "" for a, b in zip(row[:2], before or ("", ""), strict=False)]
        lost = f"[bold red]{row[4]}[/]" if "[+" in row[4] and "[+0.00" not in row[4] else row[4]
        table.add_row(*known, *row[2:4], lost.replace(" [", " \\["), *row[5:])
        before = row
    return table


def write_markdown(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes the table as docs/benchmarks.md holds it."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *list_rows(records)]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    path.write_text(text, encoding="utf-8")
