"""A bar for each layer: what it computes in, its time, the noise that it leaves, and why it was left float."""

from __future__ import annotations

from edgekit.report.account import Account
from edgekit.report.layers import Layer
from edgekit.report.page.markup import (
    Column,
    Html,
    element,
    escape,
    join,
    make_section,
    make_table,
)
from edgekit.report.words import format_decibels, format_microseconds, format_share

_WIDTH, _HEIGHT = 140, 12
_REAL = ("float32", "float16")


def make_layers(report: Account) -> Html:
    """Returns the section of the native form's layers."""
    layers = report.layers
    modelled = all(layer.microseconds is None for layer in layers)
    times = [_time_of(layer, modelled) for layer in layers]
    timed = [time for time in times if time is not None]
    noisy = any(layer.noise_db is not None for layer in layers)
    columns = [Column("layer"), Column("format")]
    if timed:
        columns += [Column("time, modelled" if modelled else "time", True), Column("share of all")]
    if noisy:
        columns.append(Column("answers over its noise", True))
    columns.append(Column("why it is not int8" if any(_is_real(x) for x in layers) else "kernel"))
    rows = []
    for layer, time in zip(layers, times, strict=True):
        row: list[str] = [_make_name(layer), _make_tag(layer)]
        if timed:
            row += [format_microseconds(time), _draw(layer, time, max(timed), sum(timed))]
        if noisy:
            row.append("\u2013" if layer.noise_db is None else format_decibels(layer.noise_db))
        row.append(_tell(layer))
        rows.append(row)
    return make_section(
        "layers",
        f"{len(layers)} layers of the native form",
        _make_stripes(),
        *(element("p", words) for words in _describe(report, timed, modelled, noisy)),
        make_table("Layers in the order in which they are computed.", columns, rows),
    )


def _describe(report: Account, timed: list[float], modelled: bool, noisy: bool) -> list[str]:
    words = []
    if not timed:
        words.append("No layer was timed: the plan does not run on this machine.")
    elif modelled:
        words.append(
            f"Times are modelled from the profile of {report.target}, at 1 GHz: nothing was measured on a board."
        )
    else:
        words.append(
            f"Times are medians on {report.machine.cpu}, by the plan's own profile; they add up to "
            f"{format_microseconds(sum(timed))}."
        )
    if noisy and report.noise:
        words.append(report.noise)
    if report.precision:
        words.append(f"Precision: {report.precision}.")
    return words


def _time_of(layer: Layer, modelled: bool) -> float | None:
    if not modelled:
        return layer.microseconds
    return layer.float_microseconds if _is_real(layer) else layer.int8_microseconds


def _is_real(layer: Layer) -> bool:
    return layer.format in _REAL


def _make_name(layer: Layer) -> Html:
    shape = "\u00d7".join(map(str, layer.shape))
    about = element("span", f"{layer.kind} \u2192 {shape}", class_="fine")
    return join([layer.name, element("br"), about])


def _make_tag(layer: Layer) -> Html:
    if not layer.format:
        return escape("\u2013")
    return element("span", layer.format, class_="tag real" if _is_real(layer) else "tag int")


def _tell(layer: Layer) -> Html:
    """Returns why a layer is not int8, or else which kernel computes it."""
    if layer.reason:
        return escape(layer.reason)
    return element("code", layer.kernel) if layer.kernel else escape("\u2013")


def _draw(layer: Layer, time: float | None, longest: float, total: float) -> Html:
    """Returns the bar of a layer, which is as long as its time, and its share."""
    if time is None:
        return escape("\u2013")
    width = max(1.0, _WIDTH * time / max(longest, 1e-12))
    size = {"height": str(_HEIGHT), "rx": "2"}
    bar = element(
        "svg",
        element("rect", width=str(_WIDTH), **size, class_="track"),
        element(
            "rect", width=f"{width:.1f}", **size, class_="bar real" if _is_real(layer) else "bar"
        ),
        width=str(_WIDTH),
        height=str(_HEIGHT),
        aria_hidden="true",
    )
    share = element("span", format_share(time / max(total, 1e-12), 1), class_="fine")
    return join([bar, share])


def _make_stripes() -> Html:
    """Returns the pattern of float layers' bars, which are told from others without colour."""
    stripe = element("path", d="M0 6L6 0", class_="stripe")
    size = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
    pattern = element("pattern", stripe, id="stripes", **size)
    return element("svg", element("defs", pattern), width="0", height="0", aria_hidden="true")
