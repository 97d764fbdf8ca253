"""The samples whose answers changed most: as pictures where inputs are pictures, else as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekit.report.evaluation import ChangedSample
from edgekit.report.page.markup import Column, Html, element, escape, make_section, make_table
from edgekit.report.words import format_decibels

_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")


def make_samples(samples: Sequence[ChangedSample]) -> Html:
    """Returns the section of the samples that changed most."""
    lead = (
        "Those whose answer is another one come first, then by the noise in their outputs: the power of float's "
        "outputs over that of the differences, the least first."
    )
    if all(_PICTURE.fullmatch(sample.picture) for sample in samples):
        content = element("ul", *map(_make_card, samples), class_="samples")
    else:
        content = _make_table(samples)
    return make_section("samples", "Samples that changed most", element("p", lead), content)


def _make_card(sample: ChangedSample) -> Html:
    name = f"{sample.source} sample {sample.index}"
    words = [
        ("float says", sample.float_answer),
        ("deployed says", sample.answer),
        ("right is", sample.right_answer),
        ("over noise", format_decibels(sample.snr_db)),
    ]
    facts = [escape("")]
    for label, text in [(name, ""), *words]:
        if text or label == name:
            facts.append(element("dt", label))
            facts.append(element("dd", text) if text else element("dd", hidden="hidden"))
    alt = f"Picture of {name}"
    return element(
        "li",
        element("img", src=sample.picture, alt=alt, width="96", height="96"),
        element("dl", *facts),
    )


def _make_table(samples: Sequence[ChangedSample]) -> Html:
    columns = [
        Column("sample"),
        Column("float says"),
        Column("deployed says"),
        Column("right is"),
        Column("over noise", True),
        Column("input"),
    ]
    rows = [
        [
            f"{sample.source} {sample.index}",
            sample.float_answer or "\u2013",
            sample.answer or "\u2013",
            sample.right_answer or "\u2013",
            format_decibels(sample.snr_db),
            sample.values or "\u2013",
        ]
        for sample in samples
    ]
    return make_table("Samples by their place, from 0 on.", columns, rows)
