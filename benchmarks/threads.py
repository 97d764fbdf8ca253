"""Times a plan with more threads than there are cores for them, alone and beside busy processes.

    python benchmarks/threads.py PLAN [--threads 1 2 8 16] [--busy 0 2 4] [--seconds 4]

Sessions take turns in one process, eight runs each; after each turn comes a pause in which threads go to sleep. Ratios
are to the first number of threads: those of means hold what a busy neighbour takes, those of medians hardly.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator

import numpy as np

from edgekit import _native
from edgekit.timing import describe_machine

RUNS = 8
PAUSE = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 8, 16])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    plan = _native.Plan.open(arguments.plan)
    sessions = {count: _native.Session(plan, threads=count) for count in arguments.threads}
    inputs = {info.name: np.zeros(info.shape, info.dtype) for info in plan.inputs}
    print(describe_machine())
    print("busy processes | threads | run | median ms | mean ms | of one: median | mean")
    print("--: | --: | --: | --: | --: | --: | --:")
    for count in arguments.busy:
        with keep_busy(count):
            times = time_in_turns(sessions, inputs, arguments.seconds)
        first = times[arguments.threads[0]]
        for threads, values in times.items():
            median, mean = statistics.median(values), statistics.fmean(values)
            print(
                f"{count} | {threads} | {sessions[threads].running_threads} | {median:.3f} | {mean:.3f} | "
                f"{median / statistics.median(first):.2f} | {mean / statistics.fmean(first):.2f}"
            )


def time_in_turns(
    sessions: dict[int, _native.Session], inputs: dict[str, np.ndarray], seconds: float
) -> dict[int, list[float]]:
    """Returns the milliseconds of each run, by number of threads."""
    times: dict[int, list[float]] = {count: [] for count in sessions}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for count, session in sessions.items():
            for _ in range(RUNS):
                start = time.perf_counter()
                session.run(inputs)
                times[count].append(1000 * (time.perf_counter() - start))
            time.sleep(PAUSE)
    return times


@contextlib.contextmanager
def keep_busy(count: int) -> Iterator[None]:
    """Keeps cores busy meanwhile: `count` processes, spread over the cores that there are."""
    cores = sorted(os.sched_getaffinity(0))
    spinning = [
        multiprocessing.Process(target=spin, args=(cores[i % len(cores)],), daemon=True)
        for i in range(count)
    ]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()


def spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


if __name__ == "__main__":
    main()
