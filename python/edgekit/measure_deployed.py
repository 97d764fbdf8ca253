"""Measures a deployment on this machine, and says where it is slower or larger than it may be."""

from __future__ import annotations

from dataclasses import replace

from edgekit.benchmark import is_sized, make_plan_inputs
from edgekit.bundles.manifest import Limits
from edgekit.deployed import FLOAT_FORM, NATIVE_FORM, Deployment
from edgekit.report import Layer, Report
from edgekit.session import NativeSession, load

_PROFILE_REPEATS = 20


def measure_deployed(deployment: Deployment, threads: int) -> Report:
    """Returns the report with latencies, where the target is this machine, and with what they say of the speed."""
    report = deployment.report
    if deployment.target.isa != "auto":
        note = (
            f"latency was not measured: the target is {report.target}, not this machine; "
            "`edgekit bench BUNDLE --on ssh://...` measures it there"
        )
        return replace(report, notes=[*report.notes, note])
    if not any(is_sized(load(path).inputs) for path in deployment.timed_files().values()):
        note = "latency was not measured: the model leaves a dimension besides the first open"
        return replace(report, notes=[*report.notes, note])
    latencies = deployment.benchmark((threads,))
    slower = [
        f"SLOWER THAN FLOAT: {latency.form} takes {latency.timing.median_ms:.3g} ms, "
        f"{FLOAT_FORM} {latencies[0].timing.median_ms:.3g} ms (threads: {threads})"
        for latency in latencies[1:]
        if latency.timing.median_ms > latencies[0].timing.median_ms
    ]
    return replace(
        report,
        latencies=latencies,
        layers=_time_layers(deployment, threads),
        notes=[*report.notes, *slower],
    )


def note_limits(report: Report, limits: Limits, threads: int) -> list[str]:
    """Returns which limits a device will find broken, as far as this machine can tell."""
    notes = []
    most_mb, most_ms = limits.memory_bytes / 1e6, limits.latency_us / 1e3
    memory = 0 if report.memory is None else report.memory.resident_bytes(threads)
    if most_mb and memory > limits.memory_bytes:
        notes.append(
            f"TOO LARGE: the plan and what it works in take {memory / 1e6:.3g} MB beside the program, and max_mb "
            f"allows {most_mb:.3g}: a device will refuse the bundle"
        )
    for latency in report.latencies:
        taken = latency.timing.median_ms
        if most_ms and latency.form == NATIVE_FORM and taken > most_ms:
            notes.append(
                f"TOO SLOW: a run takes {taken:.3g} ms here, and max_ms allows {most_ms:.3g}: a device that is no "
                "faster will refuse the bundle"
            )
    return notes


def _time_layers(deployment: Deployment, threads: int) -> list[Layer]:
    """Returns the report's layers with the time that each takes on this machine."""
    if deployment.plan is None:
        return deployment.report.layers
    session = load(deployment.plan, threads=threads)
    assert isinstance(session, NativeSession)
    inputs = make_plan_inputs(session)
    times = session.native.profile(inputs, repeats=_PROFILE_REPEATS)
    return [
        replace(layer, microseconds=1e6 * seconds)
        for layer, (_, seconds) in zip(deployment.report.layers, times, strict=True)
    ]
