"""Figures of a report in words, with their units: the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.report.evaluation import Interval

# Decibels from which on a ratio says no more than that nothing differs.
_EQUAL_DB = 300.0


def count_kinds(kinds: Mapping[str, int]) -> str:
    """Returns counts by kind in words.

    >>> count_kinds({"PAD": 1, "CONV_2D": 2})
    '2 CONV_2D, 1 PAD'
    """
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def format_bytes(count: int) -> str:
    """Returns a size in the larger of kB and MB that it has one of.

    >>> format_bytes(4_321), format_bytes(4_321_000)
    ('4.32 kB', '4.32 MB')
    """
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.2f} kB"


def format_decibels(value: float | None) -> str:
    """Returns decibels in words.

    >>> format_decibels(31.42), format_decibels(300.0), format_decibels(None)
    ('31.4 dB', 'equal', 'not measured')
    """
    if value is None:
        return "not measured"
    return "equal" if value >= _EQUAL_DB else f"{value:.1f} dB"


def format_share(value: float, places: int = 2) -> str:
    """Returns a share in percent.

    >>> format_share(0.9134)
    '91.34 %'
    """
    return f"{100 * value:.{places}f} %"


def format_interval(interval: Interval | None) -> str:
    """Returns an interval of shares in percent.

    >>> format_interval((-0.001, 0.0234))
    '-0.10 to 2.34 %'
    """
    if interval is None:
        return "not known"
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %"


def format_p(value: float | None) -> str:
    """Returns a p-value.

    >>> format_p(0.0391), format_p(0.00001), format_p(None)
    ('p = 0.039', 'p < 0.001', 'not known')
    """
    if value is None:
        return "not known"
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def format_milliseconds(value: float) -> str:
    """Returns a time in the larger of us and ms that it has one of.

    >>> format_milliseconds(0.0123), format_milliseconds(4.321)
    ('12.3 us', '4.32 ms')
    """
    return format_microseconds(1000 * value)


def format_microseconds(value: float | None) -> str:
    """Returns a time in the larger of us and ms that it has one of.

    >>> format_microseconds(12.3), format_microseconds(4321.0), format_microseconds(None)
    ('12.3 us', '4.32 ms', 'not measured')
    """
    if value is None:
        return "not measured"
    if value >= 1000:
        return f"{value / 1000:.3g} ms"
    return f"{value:.3g} us"
