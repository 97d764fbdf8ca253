"""The page of a report: its structure, and that names of anyone's making are text in it."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_reports import HOSTILE, make_report

from edgekit.report.page.front import list_ticks
from edgekit.report.page.markup import element, escape

VOID = {"br", "hr", "img", "link", "meta"}


class Page(HTMLParser):
    """Elements of a page: opened and closed in order, or an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.text = [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"{tag}: {names}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        self.text[inside] = self.text.get(inside, "") + data

    def list(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_structure(report):
    text = report.to_html()
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert page.list("html") == [{"lang": "en"}]
    assert len(page.list("h1")) == len(page.list("main")) == len(page.list("head")) == 1
    headings = [tag for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * (len(headings) - 1)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.list("a"):
        assert link["href"].removeprefix("#") in ids
    for section in page.list("section"):
        assert section["aria-labelledby"] in ids
    assert all(cell["scope"] in ("col", "row") for cell in page.list("th"))
    assert len(page.list("caption")) == len(page.list("table")) > 5
    assert all(image["alt"] for image in page.list("img"))
    assert len(page.list("img")) == len(report.changed)
    assert all("role" in svg or svg["aria-hidden"] == "true" for svg in page.list("svg"))


def test_everything_is_on_it(report):
    text = report.to_html()
    for words in ("kept", "broken", "undecided", "not measured", "4.00 MB", "1.10 MB", "2.5 ms"):
        assert words in text
    whole = report.evaluation.whole
    assert f"{100 * whole.candidate:.2f} %" in text
    assert f"p = {whole.mcnemar:.2g}" in text
    assert text.count("left float32 for accuracy") == 3
    assert "31.4 dB" in text
    assert "\u2713 chosen" in text


def test_nothing_is_loaded_and_nothing_runs(report):
    text = report.to_html()
    page = Page(text)
    (policy,) = [m["content"] for m in page.list("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert not page.list("script")
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "url(" not in text.replace("url(#stripes)", "")
    assert "http:" not in text
    assert "https:" not in text


def test_names_are_text(hostile):
    page = Page(hostile.to_html())
    harmless = Page(make_report("layer").to_html())
    # As many elements of each kind: no name made one.
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert not page.list("script")
    shown = HOSTILE.replace("\x00", "\ufffd")
    assert page.text["title"].startswith(shown)
    assert shown in page.text["h1"]
    assert shown in page.text["li"]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]


@settings(deadline=None, max_examples=25)
@given(st.text(min_size=1, max_size=40))
@example("\n")
def test_any_name_is_text(name):
    page = Page(make_report(name).to_html())
    harmless = Page(make_report("layer").to_html())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]


@given(st.text())
def test_escaped_text_is_read_as_it_was(text):
    read = Page(element("p", text, title=text))
    ((_, attributes),) = read.elements
    safe = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)
    assert read.text.get("p", "") == safe
    assert attributes["title"] == safe
    assert escape(escape(text)) == escape(text)


def test_a_forged_picture_is_not_shown(report):
    for uri in ("https://example.org/x.png", "data:text/html;base64,AAAA", "javascript:alert(1)"):
        forged = [replace(report.changed[0], picture=uri, values="x [1]: 1")]
        page = Page(replace(report, changed=forged).to_html())
        assert not page.list("img")
        assert "x [1]: 1" in page.text["td"]


def test_what_is_not_there_is_said(report):
    bare = replace(
        report,
        latencies=[],
        memory=None,
        layers=[],
        precision=None,
        fusion=None,
        tflite=None,
        accuracy=None,
        snr_db=None,
        agreement=None,
        notes=[],
        asked=[],
        evaluation=None,
        changed=[],
        front=None,
    )
    text = bare.to_html()
    Page(text)
    assert "No bound was asked for" in text
    assert "nothing was timed here" in text
    assert "Accuracy by class and subgroup is not measured" in text
    assert "<svg" not in text


def test_a_model_of_times_is_called_one(report):
    layers = [replace(layer, microseconds=None) for layer in report.layers]
    text = replace(report, layers=layers, latencies=[]).to_html()
    assert "time, modelled" in text
    assert "nothing was measured on a board" in text


def test_many_classes_are_folded(report):
    classes = [replace(report.evaluation.classes[0], name=f"class {i}") for i in range(50)]
    page = Page(replace(report, evaluation=replace(report.evaluation, classes=classes)).to_html())
    assert len(page.list("details")) == 1
    assert "the other 30" in page.text["summary"]


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_cover_what_they_are_for(low, span):
    ticks = list_ticks(low, low + span)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(ticks)
    slack = 1e-6 * max(1.0, abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


@pytest.mark.parametrize("count", [1, 2])
def test_a_front_of_equal_points(report, count):
    points = [report.front.points[0]] * count
    Page(replace(report, front=replace(report.front, points=points)).to_html())
