"""Says which of the bounds that were asked for are kept."""

from __future__ import annotations

from edgekit.bundles.manifest import Limits
from edgekit.converters.turned_answers import Turned
from edgekit.promise import DropPromise, Verdict
from edgekit.promise.size import promise_size
from edgekit.report import NOT_MEASURED, Accuracy, Asked, Report
from edgekit.report.words import format_milliseconds

NATIVE_FORM = "int8, native"


def judge_drop(max_drop: float, accuracy: Accuracy, promise: DropPromise | None) -> Asked:
    """Returns what was kept of ``max_drop``.

    Args:
        max_drop: How much of the figure may be lost.
        accuracy: Both figures.
        promise: What is promised of the samples' scores, None where the measure gives none.
    """
    if promise is None:
        kept = accuracy.drop <= max_drop
        return Asked(
            "max_drop",
            f"{max_drop:.4g}",
            f"{accuracy.drop:.4g}",
            (Verdict.KEPT if kept else Verdict.BROKEN).value,
            "figures compared as they are: no confidence can be stated without a score for each sample",
        )
    return Asked(
        "max_drop",
        f"{max_drop:.4g}",
        f"{promise.drop:.4g}, at most {promise.upper:.4g}",
        promise.verdict.value,
        f"with {100 * promise.confidence:g} % confidence on {promise.samples} samples: {promise.method}",
    )


def judge_answers(max_drop: float, turned: Turned, confidence: float | None) -> Asked:
    """Returns what was kept of ``max_drop`` where it bounds the share of answers that may be others.

    Args:
        max_drop: How many may be.
        turned: How many are, as samples tell it.
        confidence: That the bound has to hold with, None to compare the estimate.
    """
    least = turned.at_most(confidence)
    got = f"{turned.share:.4g}"
    with_what = ""
    if confidence is not None:
        got += f", at most {least:.4g}"
        with_what = f"with {100 * confidence:g} % confidence, "
    return Asked(
        "max_drop",
        f"{max_drop:.4g}",
        got,
        (Verdict.KEPT if least <= max_drop else Verdict.BROKEN).value,
        f"the share of answers that may be others than float's, {with_what}by the margins and the noise of "
        f"{turned.samples} calibration samples: evaluate counts right answers",
    )


def judge_limits(report: Report, limits: Limits, threads: int) -> list[Asked]:
    """Returns what was kept of ``max_ms`` and ``max_mb``, as far as this machine can tell."""
    asked = []
    if limits.latency_us:
        asked.append(_judge_latency(report, limits.latency_us / 1e3))
    if limits.memory_bytes:
        asked.append(_judge_memory(report, limits.memory_bytes / 1e6, threads))
    return asked


def _judge_latency(report: Report, max_ms: float) -> Asked:
    timed = [latency for latency in report.latencies if latency.form == NATIVE_FORM]
    if not timed:
        how = (
            f"the target is {report.target}, not this machine: the device checks it before it switches, and "
            "`edgekit bench BUNDLE --on ssh://...` measures it there"
        )
        return Asked("max_ms", f"{max_ms:g} ms", "", NOT_MEASURED, how)
    timing = timed[0].timing
    kept = timing.median_ms <= max_ms
    return Asked(
        "max_ms",
        f"{max_ms:g} ms",
        format_milliseconds(timing.median_ms),
        (Verdict.KEPT if kept else Verdict.BROKEN).value,
        f"median of {timing.runs} runs on {report.machine.cpu}, this machine; threads: {timing.threads}",
    )


def _judge_memory(report: Report, max_mb: float, threads: int) -> Asked:
    if report.memory is None:
        how = "there is no native form, of which it is counted"
        return Asked("max_mb", f"{max_mb:g} MB", "", NOT_MEASURED, how)
    promise = promise_size(report.memory.resident_bytes(threads), max_mb)
    return Asked(
        "max_mb",
        f"{max_mb:g} MB",
        f"{promise.bytes / 1e6:.4g} MB",
        promise.verdict.value,
        f"counted: the plan and what it works in, beside the program; threads: {threads}",
    )
