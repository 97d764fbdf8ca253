"""The plans that a search tried, as a picture: latency against quality, discs as large as the files."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.report.asked import Front, Point
from edgekit.report.page.markup import (
    Column,
    Html,
    element,
    join,
    make_scrolling,
    make_section,
    make_table,
)
from edgekit.report.words import format_bytes, format_milliseconds

_WIDTH, _HEIGHT = 680, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 20, 52
_SMALL, _LARGE = 4.0, 14.0


def make_front(front: Front) -> Html:
    """Returns the section of the Pareto front."""
    shown = sorted(
        (point for point in front.points if point.on_front or point.chosen),
        key=lambda point: (point.latency_ms, point.bytes),
    )
    lead = (
        f"{len(front.points)} plans are shown; {sum(point.on_front for point in front.points)} of them are beaten by "
        f"none in latency, size and {front.quality} at once. Latency: {front.latency}."
    )
    columns = [
        Column("plan"),
        Column("latency", True),
        Column("size", True),
        Column(front.quality, True),
        Column("chosen"),
    ]
    rows = [
        [
            point.label,
            format_milliseconds(point.latency_ms),
            format_bytes(point.bytes),
            f"{point.quality:.4g}",
            "\u2713 chosen" if point.chosen else "",
        ]
        for point in shown
    ]
    picture = make_scrolling(_draw(front), "Plot of the plans that were tried")
    table = make_table("The front, the fastest plan first.", columns, rows)
    return make_section("front", "Plans to choose from", element("p", lead), picture, table)


def list_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns round numbers that cover [low, high].

    >>> list_ticks(0.13, 0.88)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = max(high - low, 1e-9 * max(abs(low), abs(high), 1e-3))
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(f for f in (1, 2, 5, 10, 20) if span / (f * step) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _draw(front: Front) -> Html:
    points = front.points
    across = list_ticks(*_ends([point.latency_ms for point in points]))
    up = list_ticks(*_ends([point.quality for point in points]))
    largest = max(point.bytes for point in points)

    def place(point: Point) -> tuple[float, float]:
        x = (point.latency_ms - across[0]) / (across[-1] - across[0])
        y = (point.quality - up[0]) / (up[-1] - up[0])
        return (
            _LEFT + x * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM),
        )

    def disc(point: Point) -> Html:
        x, y = place(point)
        kind = "chosen" if point.chosen else "" if point.on_front else "beaten"
        about = (
            f"{point.label}: {format_milliseconds(point.latency_ms)}, {format_bytes(point.bytes)}, "
            f"{front.quality} {point.quality:.4g}"
        )
        return element(
            "circle",
            element("title", about),
            cx=f"{x:.1f}",
            cy=f"{y:.1f}",
            r=f"{max(_SMALL, _LARGE * math.sqrt(point.bytes / max(largest, 1))):.1f}",
            class_=f"dot {kind}".strip(),
        )

    ordered = sorted(points, key=lambda point: (point.chosen, -point.bytes))
    labels = [_label(place(point), "chosen") for point in points if point.chosen]
    return element(
        "svg",
        element("title", f"{front.quality} against latency of {len(points)} plans"),
        *_draw_axes(across, up, front.quality),
        *map(disc, ordered),
        *labels,
        role="img",
        width=str(_WIDTH),
        height=str(_HEIGHT),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _label(place: tuple[float, float], words: str) -> Html:
    x, y = place
    is_right = x > _WIDTH - 110
    return element(
        "text",
        words,
        x=f"{x - 20 if is_right else x + 20:.1f}",
        y=f"{y + 4:.1f}",
        text_anchor="end" if is_right else "start",
    )


def _draw_axes(across: Sequence[float], up: Sequence[float], quality: str) -> list[Html]:
    parts = []
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for index, tick in enumerate(across):
        x = _LEFT + index / (len(across) - 1) * (right - _LEFT)
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": str(_TOP), "y2": str(bottom)}
        parts.append(element("line", **ends, class_="grid"))
        text = {"x": f"{x:.1f}", "y": str(bottom + 20), "text_anchor": "middle"}
        parts.append(element("text", f"{tick:g}", **text, class_="soft"))
    for index, tick in enumerate(up):
        y = bottom - index / (len(up) - 1) * (bottom - _TOP)
        ends = {"x1": str(_LEFT), "x2": str(right), "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts.append(element("line", **ends, class_="grid"))
        text = {"x": str(_LEFT - 8), "y": f"{y + 4:.1f}", "text_anchor": "end"}
        parts.append(element("text", f"{tick:g}", **text, class_="soft"))
    middle = {"x": f"{(_LEFT + right) / 2:.0f}", "text_anchor": "middle"}
    parts.append(element("text", "latency, ms", **middle, y=str(_HEIGHT - 8)))
    turned = f"rotate(-90 16 {(_TOP + bottom) / 2:.0f})"
    center = {"x": "16", "y": f"{(_TOP + bottom) / 2:.0f}", "text_anchor": "middle"}
    parts.append(element("text", quality, **center, transform=turned))
    return [join(parts)]
