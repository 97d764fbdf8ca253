"""Puts the sections of the page together."""

from __future__ import annotations

import re

from edgekit.report.account import Account
from edgekit.report.page.answers import make_answers, make_parts
from edgekit.report.page.front import make_front
from edgekit.report.page.layers import make_layers
from edgekit.report.page.markup import Html, element, join
from edgekit.report.page.origin import make_notes, make_origin
from edgekit.report.page.pruning import make_pruning
from edgekit.report.page.samples import make_samples
from edgekit.report.page.style import STYLE
from edgekit.report.page.summary import make_asked, make_comparison, make_header

# What the page may load: pictures that are in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def make_page(report: Account) -> str:
    """Returns the page of ``report``."""
    sections = [make_asked(report), make_comparison(report), make_answers(report)]
    if report.evaluation:
        sections += make_parts(report.evaluation)
    if report.front and report.front.points:
        sections.append(make_front(report.front))
    if report.changed:
        sections.append(make_samples(report.changed))
    if report.layers:
        sections.append(make_layers(report))
    if report.pruning:
        sections.append(make_pruning(report.pruning))
    if report.notes:
        sections.append(make_notes(report))
    sections.append(make_origin(report))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        # Or a browser asks for one.
        element("link", rel="icon", href="data:,"),
        element("title", f"{report.model} on {report.target}"),
        element("style", STYLE),
    )
    footer = "Made by edgekit. Everything on this page is in the report's JSON, too."
    body = element(
        "body",
        make_header(report),
        _make_contents(sections),
        element("main", *sections),
        element("footer", element("p", footer, class_="fine")),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _make_contents(sections: list[Html]) -> Html:
    """Returns links to the sections, by the headings that they begin with."""
    links = []
    for section in sections:
        found = re.search(r'<h2 id="([a-z0-9-]+)">(.*?)</h2>', section, re.DOTALL)
        assert found is not None
        name, title = found.group(1), Html(found.group(2))
        links.append(element("li", element("a", title, href=f"#{name}")))
    return element("nav", element("ul", join(links)), aria_label="Contents")
