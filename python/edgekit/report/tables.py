"""Tables in the house style, by rich, which is imported when the first one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.report.figures import Latency

if TYPE_CHECKING:
    from rich.table import Table


def make_latency_table(latencies: Sequence[Latency], batch: int) -> Table:
    """Returns the latencies with their ratio to the first one of the same number of threads."""
    table = make_table(
        f"latency of batch {batch}, runs in turns",
        *("form", "threads", "median", "10 to 90 %", "runs", "speed"),
    )
    first: dict[int, float] = {}
    for latency in latencies:
        t = latency.timing
        base = first.setdefault(t.threads, t.median_ms)
        table.add_row(
            latency.form,
            str(t.threads),
            f"{t.median_ms:.2f} ms",
            f"{t.low_ms:.2f} to {t.high_ms:.2f} ms",
            str(t.runs),
            f"{base / t.median_ms:.2f} x",
        )
    return table


def make_table(title: str, *columns: str) -> Table:
    """Returns an empty table in the house style."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in ("", "layer"))
    return table
