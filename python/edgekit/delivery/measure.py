"""Times a bundle on a device: latency, memory, layers, heat, and energy where a sensor tells it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.building.emulate import find_machine
from edgekit.bundles.archive import unpacked
from edgekit.bundles.bundle import Bundle, read_bundle
from edgekit.bundles.manifest import MANIFEST
from edgekit.costs.plan_work import count_work
from edgekit.delivery.measurement import Figures, MeasuredLayer, Measurement
from edgekit.delivery.observe import (
    describe_conditions,
    describe_device,
    find_throttling,
    list_watched,
    read_clocks,
    read_temperatures,
)
from edgekit.delivery.place import Files, Place, bring, find_place
from edgekit.delivery.sampling import Samples, make_command, measure_energy, parse_samples
from edgekit.targets.errors import TargetError, ToolError
from edgekit.targets.probe.dump import PROBE_SCRIPT, Dump, parse_dump
from edgekit.targets.probe.make_profile import Probed, make_profile
from edgekit.targets.probe.sensors import SAMPLE_SCRIPT

_INTERVAL_S = 0.2
_LEAST_RUNS, _MOST_RUNS = 15, 1_000_000
_LEAST_PROFILED, _MOST_PROFILED = 5, 200
# Fewer readings say nothing of a mean power.
_LEAST_READINGS = 5
# No program takes longer, whatever the unit.
_MOST_TIME = 1e12
# What the program said on its error stream, beside its own keys.
_WARNINGS = "warnings"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Run:
    """How the bundle's program is started on the device.

    Attributes:
        prefix: Words before it: an emulator of this machine's, or none.
        words: Program, plan and inputs.
    """

    prefix: tuple[str, ...]
    words: tuple[str, ...]

    def make(self, *options: str) -> list[str]:
        """Returns the words of a run."""
        return [*self.prefix, *self.words, *options, "--json"]


def benchmark_on(
    bundle: Path | str,
    address: str,
    *,
    threads: int = 1,
    seconds: float = 5.0,
    idle_seconds: float = 2.0,
    sys_root: str = "",
    tell: Tell | None = None,
) -> Measurement:
    """Runs a bundle's own program on a device and measures it there.

    The golden inputs are run first, and each layer's digest compared. Then it runs for ``seconds`` while sensors are
    read, and once more with each layer timed. An emulated device gets no times.

    Args:
        bundle: The folder, or the bundle's one file.
        address: ``ssh://[user@]host[:port][/root]``; ``dir:///ROOT`` and "local" are this machine.
        threads: Threads that a run may use.
        seconds: About how long to measure.
        idle_seconds: How long power is read before, where a sensor tells it: that is what the device draws anyway.
        sys_root: Where the device's /proc and /sys are looked for, "" for where they always are.
        tell: Called with what is being done.

    Raises:
        PlanError: The bundle is damaged.
        TargetError: The device cannot run it.
        ToolError: The device cannot be reached, has no room, or the program failed there.
    """
    tell = tell or (lambda words: None)
    place = find_place(address)
    with unpacked(Path(bundle)) as folder, place.shell as shell:
        own = read_bundle(folder)
        tell("reading the device")
        probe = "sh -s" + (f" -- --sys {shlex.quote(sys_root)}" if sys_root else "")
        dump = parse_dump(shell.run(probe, stdin=PROBE_SCRIPT, timeout_s=120).stdout, address)
        probed = make_profile(dump, "device", source=address)
        prefix, emulated = _find_prefix(own, probed, place, address)
        tell("sending the bundle")
        with bring(own, place) as files:
            run = _Run(prefix, _make_words(files, threads))
            tell("comparing its answers")
            first = _call(place, run.make("--digests"))
            answers = _compare(own, first)
            target = _Target(own, address, dump, probed, emulated, files)
            if emulated:
                # A user emulator's own memory counts too.
                return _make(target, answers, None if prefix else _read_peak(first))
            tell("timing")
            samples, report = _sample(target, place, run, first, seconds, idle_seconds, sys_root)
            tell("timing layers")
            repeats = _count_runs(report, seconds, _LEAST_PROFILED, _MOST_PROFILED)
            profiled = _call(place, run.make("--profile", "--repeat", str(repeats)))
        base = _make(target, answers, _read_peak(report), samples)
        return _add_times(base, target, samples, report, profiled)


@dataclass(frozen=True)
class _Target:
    """What is known beside what is measured."""

    bundle: Bundle
    address: str
    dump: Dump
    probed: Probed
    emulated: str
    files: Files


def _find_prefix(
    bundle: Bundle, probed: Probed, place: Place, address: str
) -> tuple[tuple[str, ...], str]:
    """Returns words before the program, and what emulates the device or ""."""
    device = probed.device
    wanted = bundle.target.architecture
    if place.is_local:
        machine = find_machine(bundle.target)
        if machine.emulated:
            return machine.prefix, f"qemu's user emulator, {machine.label}"
    elif not device.runs(wanted):
        raise TargetError(
            f"{address}: the bundle is for {bundle.target.title} ({wanted}), but this is {probed.profile.title} "
            f"({device.architecture})"
        )
    return (), device.emulation


def _make_words(files: Files, threads: int) -> tuple[str, ...]:
    words = [files.runner, files.plan, "--threads", str(threads)]
    for name, path in files.inputs.items():
        words += ["--input", f"{name}={path}"]
    return tuple(words)


def _call(place: Place, words: Sequence[str], timeout_s: float = 600.0) -> dict[str, Any]:
    """Runs the bundle's program and returns what it printed."""
    return read_report(place.shell.run(shlex.join(words), timeout_s=timeout_s).text)


def read_report(printed: str) -> dict[str, Any]:
    """Reads what `edgekit-run --json` printed on the device.

    Raises:
        ToolError: It is something else.
    """
    try:
        answer = json.loads(printed)
        for key in ("median_ms", "min_ms", "p90_ms", "first_ms", "load_ms"):
            _check_time(answer[key])
        for key in ("runs", "threads", "running_threads"):
            if type(answer[key]) is not int or answer[key] < 1:
                raise ValueError(key)
        for row in answer["digests"]:
            if not all(isinstance(row[key], str) for key in ("op", "tensor", "sha256")):
                raise ValueError("digests")
        for row in answer["profile"]:
            if not isinstance(row["op"], str) or not isinstance(row["kernel"], str):
                raise ValueError("profile")
            _check_time(row["median_us"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ToolError(f"edgekit-run printed what edgekit cannot read: {printed[:200]}") from error
    assert isinstance(answer, dict)
    return answer


def _check_time(value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value < _MOST_TIME:
        raise ValueError(value)


def _compare(bundle: Bundle, answer: Mapping[str, Any]) -> str:
    told = [(row["op"], row["tensor"], row["sha256"]) for row in answer["digests"]]
    wanted = [(row.op, row.tensor, row.sha256) for row in bundle.digests]
    if told == wanted:
        return "equal"
    differing = (mine for mine, theirs in zip(wanted, told, strict=False) if mine != theirs)
    op = next((op for op, _, _ in differing), "the number of layers")
    return f"DIFFERENT, first in {op}"


def _count_runs(answer: Mapping[str, Any], seconds: float, least: int, most: int) -> int:
    each = max(float(answer["median_ms"]) / 1000, 1e-6)
    return max(least, min(most, round(seconds / each)))


def _sample(
    target: _Target,
    place: Place,
    run: _Run,
    first: Mapping[str, Any],
    seconds: float,
    idle_seconds: float,
    sys_root: str,
) -> tuple[Samples, dict[str, Any]]:
    """Runs the timed runs under the sampler."""
    rails = [rail for rail in target.probed.rails if rail.readable]
    watch, note = list_watched(target.dump, rails)
    runs = _count_runs(first, seconds, _LEAST_RUNS, _MOST_RUNS)
    output = f"{target.files.folder}/report.json"
    command = make_command(
        run.make("--repeat", str(runs)),
        output=output,
        watch=watch,
        note=note,
        idle=round(idle_seconds / _INTERVAL_S) if rails else 0,
        interval_s=_INTERVAL_S,
        sys_root=sys_root,
    )
    expected = runs * float(first["median_ms"]) / 1000
    limit = 60 + idle_seconds + 10 * expected
    printed = place.shell.run(command, stdin=SAMPLE_SCRIPT, timeout_s=limit).text
    samples = parse_samples(printed, watch)
    errors = place.shell.run(f"cat {output}.errors", check=False).text.strip()
    if samples.status != 0:
        raise ToolError(
            f"edgekit-run failed with status {samples.status}: {errors or 'no message'}"
        )
    report = read_report(place.shell.run(f"cat {output}").text)
    return samples, {**report, _WARNINGS: errors.splitlines()}


def _read_peak(answer: Mapping[str, Any]) -> int | None:
    peak = answer.get("peak_resident_bytes")
    return peak if isinstance(peak, int) and peak > 0 else None


def _make(
    target: _Target, answers: str, peak: int | None, samples: Samples | None = None
) -> Measurement:
    """Returns what is known without times."""
    bundle = target.bundle
    return Measurement(
        emulated=target.emulated,
        device=describe_device(target.dump, target.probed),
        bundle={
            "target": bundle.target.name,
            "isa": bundle.target.isa,
            "release": bundle.release,
            "manifest_sha256": _digest(bundle.path / MANIFEST),
            "plan_sha256": _digest(bundle.plan),
        },
        address=target.address,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        edgekit=__version__,
        answers=answers,
        peak_bytes=peak,
        notes=tuple(_list_notes(target, samples)),
    )


def _add_times(
    base: Measurement,
    target: _Target,
    samples: Samples,
    report: Mapping[str, Any],
    profiled: Mapping[str, Any],
) -> Measurement:
    readable = [rail for rail in target.probed.rails if rail.readable]
    energies = (measure_energy(rail, samples, int(report["runs"]) + 1) for rail in readable)
    temperatures, clocks = read_temperatures(target.dump, samples), read_clocks(samples)
    throttle_c = target.probed.profile.thermal.throttle_c
    return replace(
        base,
        notes=(*base.notes, *report[_WARNINGS]),
        latency=Figures(
            median_ms=float(report["median_ms"]),
            min_ms=float(report["min_ms"]),
            p90_ms=float(report["p90_ms"]),
            first_ms=float(report["first_ms"]),
            load_ms=float(report["load_ms"]),
            runs=int(report["runs"]),
            threads=int(report["threads"]),
            running_threads=int(report["running_threads"]),
        ),
        layers=tuple(_list_layers(target.bundle, profiled)),
        energy=tuple(energy for energy in energies if energy is not None),
        temperatures=tuple(temperatures),
        clocks=tuple(clocks),
        throttling=tuple(
            find_throttling(target.dump, samples, [*temperatures, *clocks], throttle_c)
        ),
        conditions={
            **describe_conditions(target.dump, samples),
            "program": f"installed in {target.files.installed}"
            if target.files.installed
            else "sent for the measurement",
            "inputs": "the bundle's golden ones",
        },
    )


def _list_layers(bundle: Bundle, profiled: Mapping[str, Any]) -> list[MeasuredLayer]:
    rows = profiled["profile"]
    work = count_work(bundle.plan)
    if [row["op"] for row in rows] != [item.op for item in work]:
        raise ToolError("edgekit-run timed other layers than the plan has")
    return [
        MeasuredLayer(
            op=item.op,
            kind=item.kind,
            kernel=row["kernel"],
            median_us=float(row["median_us"]),
            products=item.products,
            values=item.values,
            bytes=item.bytes,
        )
        for row, item in zip(rows, work, strict=True)
    ]


def _list_notes(target: _Target, samples: Samples | None) -> list[str]:
    """Returns what a reader must know of the figures."""
    notes = []
    probed = target.probed
    if target.emulated:
        return ["no time was taken: an emulator's says nothing of a board's"]
    if probed.device.virtual:
        notes.append(
            f"in a virtual machine ({probed.device.virtual}): its neighbours can slow it down"
        )
    if any(not rail.readable for rail in probed.rails):
        notes.append("energy was not read: only root may read the counters")
    elif not probed.rails:
        notes.append("energy was not read: no sensor of the kernel tells power")
    if samples is not None and probed.rails and len(samples.run) < _LEAST_READINGS:
        notes.append(f"only {len(samples.run)} readings while it ran: give it more --seconds")
    return notes


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
