"""The top of the page: what came of it, what was asked and kept, and before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.report.account import Account
from edgekit.report.figures import Latency
from edgekit.report.page.markup import Column, Html, element, join, make_section, make_table
from edgekit.report.words import (
    format_bytes,
    format_decibels,
    format_interval,
    format_milliseconds,
    format_share,
)

# The sign of a verdict, and its class in the style sheet: colour alone says nothing.
_SIGNS = {
    "kept": ("\u2713", "kept"),
    "broken": ("\u2717", "broken"),
    "undecided": ("?", "undecided"),
}
_UNKNOWN = ("\u2013", "unknown")
_UNKNOWN_FIGURE = "not measured"


def make_header(report: Account) -> Html:
    """Returns the title, what the deployment is, and its four figures."""
    form = report.sizes[-1].form if report.sizes else "nothing"
    lead = f"{form}, for {report.target} ({report.isa}), made by edgekit {report.versions.get('edgekit', '')}"
    return element(
        "header",
        element("h1", f"{report.model} on {report.target}"),
        element("p", lead, class_="lead"),
        element("p", report.made_from, class_="fine") if report.made_from else "",
        element("dl", *(_make_tile(*tile) for tile in _list_tiles(report)), class_="figures"),
    )


def make_asked(report: Account) -> Html:
    """Returns which bounds were asked for, and which of them are kept."""
    if not report.asked:
        words = "No bound was asked for: max_drop, max_ms and max_mb set some."
        return make_section("asked", "What was asked, and what was kept", element("p", words))
    rows = [
        (element("code", asked.what), asked.asked, asked.found or "\u2013", verdict, asked.how)
        for asked in report.asked
        for verdict in [make_verdict(asked.verdict)]
    ]
    columns = [
        Column("bound"),
        Column("asked", True),
        Column("found", True),
        Column("verdict"),
        Column("how that was come by"),
    ]
    table = make_table("Bounds that were asked for.", columns, rows)
    return make_section("asked", "What was asked, and what was kept", table)


def make_verdict(verdict: str) -> Html:
    """Returns a verdict with its sign."""
    sign, name = _SIGNS.get(verdict, _UNKNOWN)
    mark = element("span", sign, aria_hidden="true")
    return element("span", mark, " ", verdict, class_=f"verdict {name}")


def make_comparison(report: Account) -> Html:
    """Returns size, latency, memory and accuracy before and after."""
    rows = [*_compare_sizes(report), *_compare_latencies(report)]
    rows += [*_compare_memory(report), *_compare_answers(report)]
    columns = [
        Column("figure"),
        Column("before", True),
        Column("after", True),
        Column("change", True),
        Column("how it was come by"),
    ]
    caption = (
        "Before is the model as it was given; after is each form that was made of it. Small: from the first to the "
        "last decile of the runs, or the 95 % interval."
    )
    return make_section("comparison", "Before and after", make_table(caption, columns, rows))


def _make_tile(label: str, figure: str, words: str) -> Html:
    return element(
        "div", element("dt", label), element("dd", figure), element("dd", words, class_="fine")
    )


def _list_tiles(report: Account) -> Iterator[tuple[str, str, str]]:
    if report.made_from:
        if report.sizes:
            yield "size", format_bytes(report.sizes[-1].bytes), report.sizes[-1].form
    elif len(report.sizes) > 1:
        before, after = report.sizes[0].bytes, report.sizes[-1].bytes
        words = f"{_ratio(before, after, 'smaller', 'larger')} than float"
        yield "size", format_bytes(after), words
    if report.made_from and report.latencies:
        latency = report.latencies[-1]
        figure = format_milliseconds(latency.timing.median_ms)
        yield "latency, measured here", figure, latency.form
    elif len(report.latencies) > 1:
        first, last = report.latencies[0].timing, report.latencies[-1].timing
        ratio = _ratio(first.median_ms, last.median_ms, "faster", "slower")
        yield (
            "latency, measured here",
            format_milliseconds(last.median_ms),
            f"{ratio} than float",
        )
    else:
        yield "latency", "not measured", f"on {report.target}"
    if report.memory:
        yield (
            "memory, one thread",
            format_bytes(report.memory.resident_bytes()),
            "beside the program",
        )
    if report.accuracy:
        a = report.accuracy
        if report.evaluation and report.evaluation.whole.reference_interval:
            yield (
                "accuracy",
                format_share(a.int8_value),
                f"float {format_share(a.float_value)}, drop {_points(a.drop)}",
            )
        else:
            yield "accuracy", f"{a.int8_value:.4g}", f"float {a.float_value:.4g}"
    elif report.agreement:
        yield (
            "same answer as float",
            format_share(report.agreement.share, 1),
            f"of {report.agreement.total} calibration samples",
        )


def _compare_sizes(report: Account) -> Iterator[Sequence[str]]:
    if not report.sizes:
        return
    if report.made_from:
        for size in report.sizes:
            words = "bytes of the file, counted"
            yield f"size, {size.form}", _UNKNOWN_FIGURE, format_bytes(size.bytes), "\u2013", words
        return
    first, *others = report.sizes
    for size in others:
        yield (
            f"size, {size.form}",
            format_bytes(first.bytes),
            format_bytes(size.bytes),
            _ratio(first.bytes, size.bytes, "smaller", "larger"),
            f"bytes of the file, counted; before: {first.form}",
        )


def _compare_latencies(report: Account) -> Iterator[Sequence[str]]:
    if not report.latencies:
        words = f"the target is {report.target}: nothing was timed here"
        yield "latency", "not measured", "not measured", "\u2013", words
        return
    first: dict[int, Latency] = {}
    for latency in report.latencies:
        threads = latency.timing.threads
        after = latency.timing
        words = (
            f"median of {after.runs} runs in turns with the others, batch {report.batch}, "
            f"{_count_threads(threads)}, on {report.machine.cpu}"
        )
        if report.made_from:
            figure = _spell_timing(latency)
            yield f"latency, {latency.form}", _UNKNOWN_FIGURE, figure, "\u2013", words
            continue
        if threads not in first:
            first[threads] = latency
            continue
        before = first[threads].timing
        words += f"; before: {first[threads].form}"
        yield (
            f"latency, {latency.form}",
            _spell_timing(first[threads]),
            _spell_timing(latency),
            _ratio(before.median_ms, after.median_ms, "faster", "slower"),
            words,
        )


def _compare_memory(report: Account) -> Iterator[Sequence[str]]:
    if not report.memory:
        return
    memory = report.memory
    before = report.float_memory
    words = (
        f"what the native form holds with one thread, counted: plan {format_bytes(memory.plan_bytes)}, activations "
        f"{format_bytes(memory.arena_bytes)}, working memory {format_bytes(memory.scratch_bytes)}, inputs and "
        f"outputs {format_bytes(memory.external_bytes)}"
    )
    if before:
        words += "; before: the same network in float32, in the native form"
    yield (
        "memory, native",
        format_bytes(before.resident_bytes()) if before else "not measured",
        format_bytes(memory.resident_bytes()),
        _ratio(before.resident_bytes(), memory.resident_bytes(), "smaller", "larger")
        if before
        else "\u2013",
        words,
    )


def _compare_answers(report: Account) -> Iterator[Sequence[str]]:
    whole = report.evaluation.whole if report.evaluation else None
    if report.accuracy and report.evaluation and whole and whole.reference_interval:
        yield (
            "accuracy",
            _spell_share(whole.reference, whole.reference_interval),
            _spell_share(whole.candidate, whole.candidate_interval),
            join(
                [f"{_points(-whole.drop)}", _small(f"drop {format_interval(whole.drop_interval)}")],
            ),
            f"{report.evaluation.measure}; {whole.samples} samples, 95 % intervals",
        )
    elif report.accuracy:
        a = report.accuracy
        words = "the caller's own measure, higher is better"
        change = f"{-a.drop:+.4g}"
        yield "figure", f"{a.float_value:.4g}", f"{a.int8_value:.4g}", change, words
    if report.agreement:
        low, high = report.agreement.interval
        yield (
            "same answer as float",
            "\u2013",
            _spell_share(report.agreement.share, (low, high)),
            "\u2013",
            f"largest output, {report.agreement.total} calibration samples, 95 % interval",
        )
    if report.snr_db is not None:
        yield (
            "answers over noise",
            "\u2013",
            format_decibels(report.snr_db),
            "\u2013",
            "power of float's answers over that of the differences, calibration samples, the output that suffers most",
        )


def _spell_share(share: float, interval: tuple[float, float] | None) -> Html:
    return join([format_share(share), _small(format_interval(interval))])


def _spell_timing(latency: Latency) -> Html:
    t = latency.timing
    words = f"{format_milliseconds(t.low_ms)} to {format_milliseconds(t.high_ms)}"
    return join([format_milliseconds(t.median_ms), _small(words)])


def _small(words: str) -> Html:
    return join([element("br"), element("span", words, class_="fine")])


def _points(value: float) -> str:
    """Returns a difference of shares.

    >>> _points(-0.0012)
    '-0.12 points'
    """
    return f"{100 * value:+.2f} points"


def _ratio(before: float, after: float, less: str, more: str) -> str:
    """Returns how many times smaller or larger.

    >>> _ratio(10, 4, "smaller", "larger"), _ratio(4, 10, "smaller", "larger")
    ('2.50 times smaller', '2.50 times larger')
    """
    if before <= 0 or after <= 0:
        return "\u2013"
    return (
        f"{before / after:.2f} times {less}"
        if after <= before
        else f"{after / before:.2f} times {more}"
    )


def _count_threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
