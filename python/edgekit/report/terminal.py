"""A report in the terminal, by rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekit.report.account import Account
from edgekit.report.asked import Front
from edgekit.report.evaluation import ChangedSample, Compared, Evaluation
from edgekit.report.pruning import PruningAccount, spell_pruned
from edgekit.report.tables import make_latency_table, make_table
from edgekit.report.words import (
    count_kinds,
    format_bytes,
    format_decibels,
    format_interval,
    format_p,
    format_share,
)

# Pruned layers that are shown; the page and the JSON have all.
_SHOWN_LAYERS = 40
# Classes, subgroups and samples that are shown; the page and the JSON have all.
_SHOWN = 5


def present(report: Account) -> Group:
    """Returns what the terminal shows of a report."""
    parts: list[Table | Text] = [_summarize(report)]
    if report.evaluation:
        parts.extend(_list_parts(report.evaluation))
    if report.changed:
        parts.append(_list_changed(report.changed))
    if report.front:
        parts.append(_list_points(report.front))
    if report.latencies:
        parts.append(make_latency_table(report.latencies, report.batch))
    if report.layers:
        parts.append(_list_layers(report))
    if report.pruning and report.pruning.layers:
        parts.append(_list_pruned(report.pruning))
    if report.made_from:
        parts.append(Text(f"note: {report.made_from}"))
    parts.extend(Text(f"note: {note}") for note in report.notes)
    return Group(*parts)


def _list_pruned(pruning: PruningAccount) -> Table:
    columns = ("layer", "zeros", "left", "multiplications", "bytes", "break-even", "faster")
    table = make_table("pruned", *columns)
    for layer in pruning.layers[:_SHOWN_LAYERS]:
        table.add_row(*map(Text, spell_pruned(layer)))
    if len(pruning.layers) > _SHOWN_LAYERS:
        table.add_row(f"and {len(pruning.layers) - _SHOWN_LAYERS} more")
    return table


def _summarize(report: Account) -> Table:
    table = make_table("", "", "")
    table.title = Text(f"{report.model} on {report.target} ({report.isa})")
    for label, text in _list_facts(report):
        # Names of layers are anyone's: what looks like markup in them is not.
        table.add_row(Text(label), Text(text))
    return table


def _list_facts(report: Account) -> Iterator[tuple[str, str]]:
    """Yields the lines of the summary."""
    for asked in report.asked:
        found = f", found {asked.found}" if asked.found else ""
        yield f"asked, {asked.what} {asked.asked}", f"{asked.verdict}{found}; {asked.how}"
    for size in report.sizes:
        yield f"size, {size.form}", format_bytes(size.bytes)
    if report.memory:
        arena, bound = report.memory.arena_bytes, report.memory.lower_bound_bytes
        times = f"{arena / max(bound, 1):.3f} times the lower bound"
        yield "activations, native", f"{format_bytes(arena)}, {times}"
        held = format_bytes(report.memory.resident_bytes())
        yield "memory, native, 1 thread", f"{held} beside the program"
    if report.accuracy:
        a = report.accuracy
        figures = f"float {a.float_value:.4g}, int8 {a.int8_value:.4g}, drop {a.drop:.4g}"
        yield "accuracy, evaluated", figures
    if report.evaluation:
        whole = report.evaluation.whole
        if whole.drop_interval:
            yield "drop, 95 % interval", format_interval(whole.drop_interval)
        if whole.changed:
            yield "answers that changed", str(whole.changed)
        if whole.discordant and whole.mcnemar is not None:
            lost, gained = whole.discordant.more, whole.discordant.less
            words = f"float alone is right on {lost}, int8 alone on {gained}"
            yield "McNemar's exact test", f"{format_p(whole.mcnemar)}: {words}"
    if report.snr_db is not None:
        yield "answers over noise, worst output", f"{report.snr_db:.1f} dB"
    if report.agreement:
        yield "same answer as float", str(report.agreement)
    if report.precision:
        yield f"precision, {' and '.join(report.precision.forms)}", str(report.precision)
        if report.precision.float_layers:
            yield "float32 there", "; ".join(report.precision.float_layers)
    if report.fusion:
        yield f"integer in {report.fusion.runtime}", count_kinds(report.fusion.fused) or "nothing"
        if report.fusion.left_float:
            yield "left float there", "; ".join(report.fusion.left_float)
    if report.tflite:
        yield "operators, TFLite", count_kinds(report.tflite.operators)
        yield "transposes, TFLite", str(report.tflite.transposes)
        total = sum(report.tflite.operators.values())
        yield "in XNNPACK, TFLite", f"{report.tflite.delegated} of {total}"
        if report.tflite.left:
            yield "left to plain kernels there", count_kinds(report.tflite.left)
        if report.tflite.left_float:
            yield "left float there", "; ".join(report.tflite.left_float)
    chosen = f"ranges by {report.ranges}" if report.ranges else "no ranges are chosen"
    yield "calibration", f"{report.calibration}; {chosen}"
    yield "measured on", str(report.machine)
    yield "versions", ", ".join(f"{k} {v}" for k, v in report.versions.items())


def _list_parts(evaluation: Evaluation) -> Iterator[Table]:
    """Yields a table of the worst classes, and one of each grouping's worst subgroups."""
    for title, parts in (("classes", evaluation.classes), *evaluation.groups.items()):
        if not parts:
            continue
        table = make_table(
            "", *("", "samples", "float", "int8", "drop", "95 % of the drop", "McNemar")
        )
        table.title = Text(f"{title}: the worst {min(_SHOWN, len(parts))} of {len(parts)}")
        for part in parts[:_SHOWN]:
            table.add_row(*map(Text, _spell(part)))
        yield table


def _spell(part: Compared) -> list[str]:
    return [
        part.name,
        str(part.samples),
        format_share(part.reference),
        format_share(part.candidate),
        format_share(part.drop),
        format_interval(part.drop_interval),
        format_p(part.mcnemar),
    ]


def _list_changed(samples: Sequence[ChangedSample]) -> Table:
    table = make_table(
        f"samples that changed most, {min(_SHOWN, len(samples))} of {len(samples)}",
        *("sample", "of", "float says", "int8 says", "right is", "over noise"),
    )
    for sample in samples[:_SHOWN]:
        cells = [
            str(sample.index),
            sample.source,
            sample.float_answer or "-",
            sample.answer or "-",
            sample.right_answer or "-",
            format_decibels(sample.snr_db),
        ]
        table.add_row(*map(Text, cells))
    return table


def _list_points(front: Front) -> Table:
    """Returns the plans that no other one beats, the fastest first, and the chosen one."""
    table = make_table("", "", "latency", "size", front.quality, "")
    points = sorted(
        (point for point in front.points if point.on_front or point.chosen),
        key=lambda point: point.latency_ms,
    )
    table.title = Text(f"{len(points)} of {len(front.points)} plans; latency {front.latency}")
    for point in points:
        cells = [
            point.label,
            f"{point.latency_ms:.3g} ms",
            format_bytes(point.bytes),
            f"{point.quality:.4g}",
            "chosen" if point.chosen else "",
        ]
        table.add_row(*map(Text, cells))
    return table


def _list_layers(report: Account) -> Table:
    timed = any(layer.microseconds is not None for layer in report.layers)
    noisy = any(layer.noise_db is not None for layer in report.layers)
    columns = ["layer", "operator", "kernel", "output"]
    columns += (["time"] if timed else []) + (["dB"] if noisy else [])
    title = f"{len(report.layers)} layers of the native form"
    title += "; dB: answers over the noise of that layer alone" if noisy else ""
    table = make_table(title, *columns)
    for layer in report.layers:
        cells = [layer.name, layer.kind, layer.kernel or "-", "x".join(map(str, layer.shape))]
        if timed:
            cells.append("-" if layer.microseconds is None else f"{layer.microseconds:.0f} us")
        if noisy:
            cells.append("-" if layer.noise_db is None else f"{layer.noise_db:.0f}")
        table.add_row(*map(Text, cells))
    return table
