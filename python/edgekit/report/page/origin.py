"""Where the figures come from: samples, machine, versions, and what a reader must know besides."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.report.account import Account
from edgekit.report.page.markup import Html, element, join, make_section
from edgekit.report.words import count_kinds


def make_notes(report: Account) -> Html:
    """Returns the notes."""
    notes = [element("li", note) for note in report.notes]
    return make_section("notes", "What a reader must know", element("ul", *notes, class_="notes"))


def make_origin(report: Account) -> Html:
    """Returns how everything was come by."""
    facts = join(
        join([element("dt", label), element("dd", text)]) for label, text in _list_facts(report)
    )
    return make_section(
        "origin", "How it was made and measured", element("dl", facts, class_="origin")
    )


def _list_facts(report: Account) -> Iterator[tuple[str, str]]:
    yield "source model", report.model
    yield "its SHA-256", element("code", report.source_digest)
    yield "target", f"{report.target}, instruction set {report.isa}, batch {report.batch}"
    yield "calibration", report.calibration
    yield "ranges", report.ranges or "none are chosen"
    if report.precision:
        yield f"precision of {' and '.join(report.precision.forms)}", str(report.precision)
    if report.fusion:
        fused = count_kinds(report.fusion.fused) or "nothing"
        yield f"integer in {report.fusion.runtime}", fused
        if report.fusion.left_float:
            yield "left float there", "; ".join(report.fusion.left_float)
    if report.tflite:
        total = sum(report.tflite.operators.values())
        yield "operators of the TFLite form", count_kinds(report.tflite.operators)
        words = f"{report.tflite.delegated} of {total}; left: {count_kinds(report.tflite.left) or 'none'}"
        yield f"in XNNPACK, {report.tflite.runtime}", words
        if report.tflite.left_float:
            yield "left float there", "; ".join(report.tflite.left_float)
    yield "measured on", f"{report.machine}, Python {report.machine.python}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())
