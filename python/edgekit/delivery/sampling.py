"""Readings of a device's sensors while a command runs there, and the energy that they make."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.targets.errors import ToolError
from edgekit.targets.probe.sensors import Rail

_FIRST, _LAST = "edgekit-sample 1", "end"
_MICRO = 1e-6


@dataclass(frozen=True)
class Reading:
    """What the watched files held at one time.

    Attributes:
        seconds: Since the device started.
        values: Whole numbers in the order of the files, None where one could not be read.
    """

    seconds: float
    values: tuple[int | None, ...]


@dataclass(frozen=True)
class Samples:
    """What `sample.sh` printed.

    Attributes:
        files: What was watched.
        idle: Readings before the command.
        run: From the command's start to its end.
        before, after: First lines of the noted files.
        status: The command's exit status.
    """

    files: tuple[str, ...]
    idle: tuple[Reading, ...]
    run: tuple[Reading, ...]
    before: Mapping[str, str]
    after: Mapping[str, str]
    status: int

    def list_values(self, file: str, readings: Sequence[Reading]) -> list[tuple[float, int]]:
        """Returns the seconds and values of one file, where it could be read."""
        at = self.files.index(file)
        pairs = ((reading.seconds, reading.values[at]) for reading in readings)
        return [(seconds, value) for seconds, value in pairs if value is not None]


def make_command(
    command: Sequence[str],
    *,
    output: str,
    watch: Sequence[str],
    note: Sequence[str],
    idle: int,
    interval_s: float = 0.2,
    sys_root: str = "",
) -> str:
    """Returns the command line that runs `sample.sh` from standard input.

    Args:
        command: What to run on the device.
        output: File there for what it prints.
        watch: Files to read again and again.
        note: Files to read before and after.
        idle: Readings before it starts.
        interval_s: Seconds between readings.
        sys_root: Where the device's /sys is, "" for where it always is.
    """
    words = ["sh", "-s", "--", "--output", output, "--interval", f"{interval_s:g}"]
    words += ["--idle", str(idle)]
    if sys_root:
        words += ["--sys", sys_root]
    for file in watch:
        words += ["--watch", file]
    for file in note:
        words += ["--note", file]
    return shlex.join([*words, "--", *command])


def parse_samples(text: str, files: Sequence[str]) -> Samples:
    """Reads what `sample.sh` printed.

    Raises:
        ToolError: It is something else, or not all of it.
    """
    lines = text.splitlines()
    if not lines or lines[0] != _FIRST or lines[-1] != _LAST:
        raise ToolError(f"the device's sampler broke off: {text.strip()[-200:] or 'not a word'}")
    idle: list[Reading] = []
    run: list[Reading] = []
    notes: dict[str, dict[str, str]] = {"before": {}, "after": {}}
    status: int | None = None
    for line in lines[1:-1]:
        kind, _, rest = line.partition(" ")
        words = rest.split(" ")
        try:
            if kind in ("idle", "run"):
                values = tuple(None if word == "-" else _parse(word) for word in words[1:])
                if len(values) != len(files):
                    raise ValueError(line)
                (idle if kind == "idle" else run).append(Reading(float(words[0]), values))
            elif kind == "note":
                notes[words[0]][words[1]] = " ".join(words[2:])
            elif kind == "status":
                status = int(words[0])
            else:
                raise ValueError(line)
        except (ValueError, KeyError, IndexError) as error:
            raise ToolError(
                f"the device's sampler said what edgekit cannot read: {line}"
            ) from error
    if status is None or not run:
        raise ToolError("the device's sampler broke off before the command's end")
    # One that was taken beside the last is none of the run's.
    kept = [reading for reading in run[:-1] if reading.seconds <= run[-1].seconds]
    return Samples(
        files=tuple(files),
        idle=tuple(idle),
        run=(*kept, run[-1]),
        before=notes["before"],
        after=notes["after"],
        status=status,
    )


def _parse(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None


def sum_energy(rail: Rail, samples: Samples, readings: Sequence[Reading]) -> float | None:
    """Returns the joules that a rail told between the first reading and the last.

    A counter's differences are added; one that is smaller than the one before has begun again at its range
    (Linux, Documentation/power/powercap/powercap.rst). Of a power, the trapezoids between readings::

        energy = sum((t[i+1] - t[i]) * (power[i] + power[i+1]) / 2)

    Returns:
        None, where fewer than two readings are there, or a counter began again whose range is not known.
    """
    if rail.kind == "energy":
        counts = samples.list_values(rail.path, readings)
        if len(counts) < 2:
            return None
        total = 0
        for (_, one), (_, next_one) in itertools.pairwise(counts):
            if next_one < one and rail.range_uj is None:
                return None
            total += next_one - one + (rail.range_uj or 0 if next_one < one else 0)
        return total * _MICRO
    watts = _list_watts(rail, samples, readings)
    if len(watts) < 2:
        return None
    return sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(watts))


def _list_watts(
    rail: Rail, samples: Samples, readings: Sequence[Reading]
) -> list[tuple[float, float]]:
    values = samples.list_values(rail.path, readings)
    if rail.kind == "power":
        return [(seconds, value * _MICRO) for seconds, value in values]
    if rail.kind == "milliwatts":
        return [(seconds, value * 1e-3) for seconds, value in values]
    assert rail.volts is not None
    volts = dict(samples.list_values(rail.volts, readings))
    return [
        (seconds, value * volts[seconds] * _MICRO) for seconds, value in values if seconds in volts
    ]


@dataclass(frozen=True)
class Energy:
    """What inferences cost on one rail.

    Attributes:
        rail: Its name.
        idle_w: Mean power before the command ran.
        run_w: Mean power while it ran.
        inference_j: Joules of an inference: those of the run above idle, divided by the inferences.
        gross_inference_j: The same with what the device draws anyway.
        readings: How many while it ran.
    """

    rail: str
    idle_w: float
    run_w: float
    inference_j: float
    gross_inference_j: float
    readings: int


def measure_energy(rail: Rail, samples: Samples, inferences: int) -> Energy | None:
    """Returns what an inference costs on a rail.

    It is::

        inference = (energy(run) - energy(idle) / seconds(idle) * seconds(run)) / inferences

    The run is the command's from its start to its end, loading included.

    Returns:
        None, where the rail could not be read.
    """
    used = sum_energy(rail, samples, samples.run)
    idle = sum_energy(rail, samples, samples.idle)
    seconds = samples.run[-1].seconds - samples.run[0].seconds
    idle_seconds = samples.idle[-1].seconds - samples.idle[0].seconds if samples.idle else 0.0
    if used is None or idle is None or seconds <= 0 or idle_seconds <= 0:
        return None
    idle_w = idle / idle_seconds
    return Energy(
        rail=rail.name,
        idle_w=idle_w,
        run_w=used / seconds,
        inference_j=(used - idle_w * seconds) / inferences,
        gross_inference_j=used / inferences,
        readings=len(samples.list_values(rail.path, samples.run)),
    )
