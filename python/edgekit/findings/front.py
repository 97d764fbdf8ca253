"""Puts the plans that a search tried into a report."""

from __future__ import annotations

from edgekit.choosing.closest import to_decibels
from edgekit.report import Front, Point
from edgekit.search.front import Front as Found
from edgekit.search.front import Point as Tried


def show_front(found: Found) -> Front | None:
    """Returns the front for a report, None where no plan's time is known.

    What is good is the caller's figure where each plan has one, or else the share of answers that stay float's where
    outputs are distributions, or else decibels of answers over noise.
    """
    timed = [point for point in found.points if point.milliseconds is not None]
    if not timed:
        return None
    has_figures = all(point.figure is not None for point in timed)
    has_shares = all(point.moved is not None for point in timed)
    kind = "answers as float's" if has_shares else "answers over noise, dB"

    def rate(point: Tried) -> float:
        if has_figures:
            return point.figure or 0.0
        return to_decibels(point.noise) if point.moved is None else 1 - point.moved

    return Front(
        quality="figure" if has_figures else kind,
        latency=found.latency,
        points=[
            Point(
                label=point.name,
                latency_ms=point.milliseconds or 0.0,
                bytes=point.plan_bytes,
                quality=rate(point),
                chosen=point.name == found.chosen,
            )
            for point in timed
        ],
    )
