"""Draws contests as an SVG: a bar for each contestant, as long as it is fast against the fastest peer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from edgekit.peers.result import Contest, Entry

_WIDTH = 900
_LEFT, _RIGHT = 190, 150
_ROW, _BAR = 20, 14
_TITLE = 34
_COLOURS = {"ours": "#c2410c", "int8": "#1d4ed8", "float": "#94a3b8"}


def write_plot(
    path: Path, contests: Sequence[Contest], threads: Sequence[int], caption: str
) -> None:
    """Writes the speeds of all contestants, one panel for each network and number of threads.

    Args:
        path: The ``.svg`` to write.
        contests: What was measured.
        threads: The numbers of threads to show.
        caption: What is written below, a line for each part between semicolons: the machine.
    """
    panels = [(contest, count) for contest in contests for count in threads]
    longest = max((speed for panel in panels for _, speed in _list_speeds(*panel)), default=1.0)
    unit = (_WIDTH - _LEFT - _RIGHT) / max(longest, 1.0)
    parts: list[str] = []
    top = 10
    for contest, count in panels:
        rows = list(_list_speeds(contest, count))
        words = "1 thread" if count == 1 else f"{count} threads"
        parts.append(_text(10, top + 22, f"{contest.network}, {words}", "font-weight='bold'"))
        top += _TITLE
        bottom = top + _ROW * len(rows)
        parts.append(
            f"<line x1='{_LEFT + unit:.1f}' x2='{_LEFT + unit:.1f}' y1='{top - 4}' y2='{bottom}' "
            "stroke='#334155' stroke-dasharray='3 3'/>"
        )
        for place, (entry, speed) in enumerate(rows):
            middle = top + _ROW * place + _BAR - 3
            colour = _COLOURS["ours" if entry.ours else entry.form]
            parts.append(_text(_LEFT - 8, middle, entry.name, "text-anchor='end'"))
            parts.append(
                f"<rect x='{_LEFT}' y='{top + _ROW * place}' width='{speed * unit:.1f}' "
                f"height='{_BAR}' fill='{colour}'/>"
            )
            label = f"{speed:.2f} x, {entry.timings[count].median_ms:.3f} ms"
            parts.append(_text(_LEFT + speed * unit + 6, middle, label))
        top = bottom + 12
    for line in ("speed against the fastest peer (dashed line)", *caption.split("; ")):
        parts.append(_text(10, top + 14, line))
        top += _ROW
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{top + 10}' "
        "font-family='sans-serif' font-size='12'>"
        "<rect width='100%' height='100%' fill='white'/>" + "\n".join(parts) + "</svg>\n",
        encoding="utf-8",
    )


def _list_speeds(contest: Contest, threads: int) -> Iterator[tuple[Entry, float]]:
    """Yields the entries that were timed, with the fastest peer's median over theirs."""
    fastest = contest.find_fastest_peer(threads)
    if fastest is None:
        return
    base = fastest.timings[threads].median_ms
    for entry in contest.entries:
        if threads in entry.timings:
            yield entry, base / entry.timings[threads].median_ms


def _text(x: float, y: float, text: str, style: str = "") -> str:
    edge = "paint-order='stroke' stroke='white' stroke-width='4'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {edge} {style}>{escape(text)}</text>"
