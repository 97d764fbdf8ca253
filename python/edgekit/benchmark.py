"""Times the forms of a network against each other on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgekit.data import InputSpec, Sample
from edgekit.report import Latency
from edgekit.session import NativeSession, load
from edgekit.targets.errors import EdgekitError
from edgekit.timing import measure_interleaved


def benchmark(
    files: Mapping[str, Path],
    *,
    batch: int = 1,
    threads: Sequence[int] = (1,),
    seconds: float = 3.0,
) -> list[Latency]:
    """Times networks in turns, on the same random inputs.

    Args:
        files: Plans, bundles and ONNX files of networks with the same inputs, by the name to show.
        batch: What an open first dimension becomes.
        threads: Numbers of threads to time with.
        seconds: About how long to measure for each number of threads.
    """
    latencies: list[Latency] = []
    for count in threads:
        sessions = {name: load(path, threads=count) for name, path in files.items()}
        specs = [session.inputs for session in sessions.values()]
        # Forms of fixed sizes say what a model that leaves some open is given.
        inputs = make_inputs(next((each for each in specs if is_sized(each)), specs[0]), batch)
        calls = {name: partial(session.run, inputs) for name, session in sessions.items()}
        timings = measure_interleaved(calls, threads=count, seconds=seconds)
        latencies.extend(Latency(name, timing) for name, timing in timings.items())
    return latencies


def is_sized(specs: Sequence[InputSpec]) -> bool:
    """Returns whether no dimension besides the first is open."""
    return not any(None in spec.shape[1:] for spec in specs)


def make_inputs(specs: Sequence[InputSpec], batch: int = 1, seed: int = 0) -> Sample:
    """Returns random inputs, uniform in [-1, 1) where they are float and 0 elsewhere.

    Raises:
        EdgekitError: A dimension other than the first is open.
    """
    generator = np.random.default_rng(seed)
    sample: Sample = {}
    for spec in specs:
        if None in spec.shape[1:]:
            raise EdgekitError(
                f"input '{spec.name}' has an open dimension besides the first: give it a size"
            )
        shape = tuple(batch if n is None else n for n in spec.shape)
        if np.dtype(spec.dtype).kind == "f":
            sample[spec.name] = generator.uniform(-1, 1, shape).astype(spec.dtype)
        else:
            sample[spec.name] = np.zeros(shape, spec.dtype)
    return sample


def make_plan_inputs(session: NativeSession, seed: int = 0) -> Sample:
    """Returns random inputs of the plan's own shapes: those of one run, whatever their leading dimensions."""
    specs = [
        InputSpec(info.name, tuple(info.shape), str(info.dtype))
        for info in session.native.plan.inputs
    ]
    return make_inputs(specs, seed=seed)
