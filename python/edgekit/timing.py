"""Times several ways to run a network against each other, so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Seconds for which a runtime's threads may go on spinning after a call.
_SPINNING = 0.01


@dataclass(frozen=True)
class Timing:
    """Wall-clock time of one call.

    Attributes:
        median_ms: Median over the runs.
        low_ms: First decile.
        high_ms: Last decile.
        runs: How often it was called.
        threads: Threads that the call was allowed.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return asdict(self)


def measure_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    threads: int,
    seconds: float = 3.0,
    least_runs: int = 15,
    most_runs: int = 300,
    warm_up: int = 3,
) -> dict[str, Timing]:
    """Returns the time of each call; every round times all of them once, in turn.

    With several threads each turn begins with a pause and a run that is not counted: the threads of another runtime
    spin for a while when its call is over, on the cores that this one needs.

    Args:
        calls: What to time, by name.
        threads: How many threads each call uses; recorded.
        seconds: About how long to measure in all.
        least_runs: Rounds at the least, whatever the time.
        most_runs: Rounds at the most.
        warm_up: How often each is called beforehand.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for done in range(most_runs):
        if done >= least_runs and time.perf_counter() > end:
            break
        for name, call in calls.items():
            if threads > 1:
                time.sleep(_SPINNING)
                call()
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: summarize(values, threads) for name, values in times.items()}


def measure_rounds(
    calls: Mapping[str, Callable[[], object]],
    *,
    threads: int,
    seconds: float = 3.0,
    rounds: int = 31,
    least_runs: int = 3,
    most_runs: int = 100,
) -> dict[str, list[float]]:
    """Returns the median milliseconds of each call in each of several rounds, which are spread over the time.

    Runs that follow each other are alike; medians of rounds that lie apart tell more of what another minute will give.

    Args:
        calls: What to time, by name; in each round all take turns.
        threads: How many threads each call uses.
        seconds: About how long to measure in all.
        rounds: How many.
        least_runs: Runs of a call in a round at the least, whatever the time.
        most_runs: Runs of a call in a round at the most: small networks need not fill the time.
    """
    medians: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        timings = measure_interleaved(
            calls,
            threads=threads,
            seconds=seconds / rounds,
            least_runs=least_runs,
            most_runs=most_runs,
            warm_up=1,
        )
        for name, timing in timings.items():
            medians[name].append(timing.median_ms)
    return medians


def summarize(values: list[float], threads: int) -> Timing:
    """Returns the timing that the milliseconds of single runs make."""
    ordered = sorted(values)
    tenth = len(ordered) // 10
    return Timing(
        median_ms=statistics.median(ordered),
        low_ms=ordered[tenth],
        high_ms=ordered[-1 - tenth],
        runs=len(ordered),
        threads=threads,
    )


@dataclass(frozen=True)
class Machine:
    """The machine on which a figure was measured."""

    cpu: str
    cores: int
    system: str
    python: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.system}"


def describe_machine() -> Machine:
    """Returns what this machine says of itself."""
    return Machine(
        cpu=_read_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def _read_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
