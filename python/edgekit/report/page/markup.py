"""Makes HTML of text that may be anything: what is not made here is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_VOID = {"br", "hr", "img", "link", "meta"}
# What a browser would read as an error, or not at all.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is HTML already. Made by `element` and `join` alone, and of the style sheet."""


def escape(text: str) -> Html:
    """Returns ``text`` so that it is read as text, also in an attribute.

    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    if isinstance(text, Html):
        return text
    return Html(html.escape(_CONTROLS.sub("\ufffd", str(text)), quote=True))


def element(tag: str, *content: str, **attributes: str | None) -> Html:
    """Returns an element; its content and attributes are escaped where they are no `Html`.

    Attributes end in an underscore where Python has the word; other underscores become hyphens. None leaves one out.

    >>> element("td", "a < b", class_="number")
    '<td class="number">a &lt; b</td>'
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{words}>")
    return Html(f"<{tag}{words}>{join(content)}</{tag}>")


def join(parts: Iterable[str], between: str = "") -> Html:
    """Returns ``parts`` one after another, escaped where they are no `Html`."""
    return Html(escape(between).join(map(escape, parts)))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its header.
        is_number: Whether cells are set to the right.
    """

    title: str
    is_number: bool = False


def make_table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Html:
    """Returns a table that scrolls by itself where it is too wide; the first cell of a row is its header.

    Args:
        caption: What is in it, and how it was come by.
        columns: With their titles.
        rows: A cell for each column.
    """
    head = join(
        element("th", column.title, scope="col", class_=_class_of(column)) for column in columns
    )
    body = []
    for first, *others in rows:
        cells = [element("th", first, scope="row")]
        cells += [
            element("td", cell, class_=_class_of(column))
            for cell, column in zip(others, columns[1:], strict=True)
        ]
        body.append(element("tr", *cells))
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", head)),
        element("tbody", *body),
    )
    return make_scrolling(table, caption)


def make_scrolling(content: Html, label: str) -> Html:
    """Returns a box that scrolls sideways, by keys too."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def make_section(name: str, title: str, *content: str) -> Html:
    """Returns a section with its heading, which links can lead to by ``name``."""
    return element(
        "section",
        element("h2", title, id=name),
        *content,
        aria_labelledby=name,
    )


def _class_of(column: Column) -> str | None:
    return "number" if column.is_number else None
