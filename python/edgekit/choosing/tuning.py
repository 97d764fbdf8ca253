"""Chooses kernels by measuring: each layer in every layout that this machine can run, within the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgekit import _native
from edgekit.benchmark import make_plan_inputs
from edgekit.converters.layouts import Layout, list_layouts
from edgekit.converters.program import Conv, DepthwiseConv, FullyConnected, Program
from edgekit.converters.strips import choose_strips
from edgekit.converters.write_plan import write_plan
from edgekit.session import NativeSession
from edgekit.timing import measure_interleaved

# A layer leaves its rule for what is this much faster, in the median and in most rounds; the network for what is this
# much faster as a whole. Less is within what a neighbour on the machine does.
_WORTH_OF_LAYER = 1.05
_MOST_ROUNDS = 0.75
_WORTH = 1.02
_LEAST_ROUNDS = 7
_MANY_ROUNDS = 200
_REPEATS = 3
_DEFAULT = "by rule"
_TUNED = "tuned"
_WHOLE = "tuned, without strips"


@dataclass(frozen=True)
class LayerChoice:
    """A layer that is faster otherwise than by rule.

    Attributes:
        name: Its operator.
        default: Layout by rule, and chosen one.
        chosen: What is faster.
        default_us: Median microseconds by rule.
        chosen_us: Median microseconds as chosen.
    """

    name: str
    default: Layout
    chosen: Layout
    default_us: float
    chosen_us: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.chosen} ({self.chosen_us:.1f} us) "
            f"instead of {self.default} ({self.default_us:.1f} us)"
        )


@dataclass(frozen=True)
class Tuning:
    """What measuring decided.

    Attributes:
        layouts: Of the layers that leave their rule, by the tensor that they write.
        strips: Whether chains run in strips where the cache says so.
        choices: The same layers, with what was measured; empty where the network as a whole gained nothing.
        milliseconds: Medians of the whole network, by way to choose.
    """

    layouts: Mapping[str, Layout]
    strips: bool
    choices: tuple[LayerChoice, ...]
    milliseconds: Mapping[str, float]

    def describe(self) -> list[str]:
        """Returns what a report says of it."""
        times = ", ".join(f"{name} {value:.3g} ms" for name, value in self.milliseconds.items())
        if not self.choices and self.strips:
            measured = f" ({times})" if times else ""
            return [f"kernels were measured: none is worth leaving the rule for{measured}"]
        strips = "" if self.strips else ", no strips"
        head = f"kernels were measured: {len(self.choices)} layers leave the rule{strips} ({times})"
        return [head, *map(str, self.choices)]


def measure_layouts(
    program: Program,
    *,
    isa: str,
    threads: int,
    cache_bytes: int | None,
    folder: Path,
    seconds: float = 4.0,
) -> Tuning:
    """Times layers and the network, and keeps what is faster by a margin.

    A plan is written for each place in the lists of `list_layouts`; their sessions take turns, round by round, so that
    a slow moment of the machine hits all of them. The result depends on the machine and the moment; the network's
    outputs do not.

    Args:
        program: The lowered network.
        isa: The instruction set, which this machine has.
        threads: Threads of a session.
        cache_bytes: Level 2 cache of a core, as for `write_plan`.
        folder: Where plans are tried; is made.
        seconds: About how long to measure layers; half of it again goes into the whole network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    candidates = {
        op.output: list_layouts(program, op, isa)
        for op in program.ops
        if isinstance(op, Conv | DepthwiseConv | FullyConnected)
    }
    attempts = max(map(len, candidates.values()), default=1)

    def open_session(
        name: str, layouts: Mapping[str, Layout], strips: bool = True
    ) -> NativeSession:
        path = folder / f"{name}.plan"
        write_plan(
            program,
            path,
            isa=isa,
            target="host",
            source_digest="0" * 64,
            cache_bytes=cache_bytes if strips else None,
            layouts=layouts,
        )
        return NativeSession(path, _native.Plan.open(path), threads)

    sessions = [
        open_session(
            f"attempt-{place}",
            {name: layouts[min(place, len(layouts) - 1)] for name, layouts in candidates.items()},
        )
        for place in range(attempts)
    ]
    samples = _time_rounds(sessions, seconds)
    choices = []
    layouts: dict[str, Layout] = {}
    for index, op in enumerate(program.ops):
        if op.output not in candidates:
            continue
        options = candidates[op.output]
        times = [[row[index] for row in samples[place]] for place in range(len(options))]
        place = choose_place(times)
        if place:
            medians = [1e6 * statistics.median(times[i]) for i in (0, place)]
            layouts[op.output] = options[place]
            choices.append(LayerChoice(op.name, options[0], options[place], *medians))
    contenders = {_DEFAULT: sessions[0]}
    if layouts:
        contenders[_TUNED] = open_session("tuned", layouts)
    if choose_strips(program, cache_bytes):
        contenders[_WHOLE] = open_session("whole", layouts, strips=False)
    if len(contenders) == 1:
        return Tuning({}, True, (), {})
    inputs = make_plan_inputs(sessions[0])
    timings = measure_interleaved(
        {name: partial(session.run, inputs) for name, session in contenders.items()},
        threads=threads,
        seconds=seconds / 2,
    )
    milliseconds = {name: timing.median_ms for name, timing in timings.items()}
    winner = min(
        milliseconds, key=lambda name: milliseconds[name] * (1 if name == _DEFAULT else _WORTH)
    )
    if winner == _DEFAULT:
        return Tuning({}, True, (), milliseconds)
    return Tuning(layouts, winner == _TUNED, tuple(choices), milliseconds)


def _time_rounds(sessions: list[NativeSession], seconds: float) -> list[list[list[float]]]:
    """Returns the seconds of each operator, by session and round."""
    inputs = make_plan_inputs(sessions[0])
    samples: list[list[list[float]]] = [[] for _ in sessions]
    end = time.perf_counter() + seconds
    for done in range(_MANY_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        for session, rounds in zip(sessions, samples, strict=True):
            profile = session.native.profile(inputs, repeats=_REPEATS)
            rounds.append([taken for _, taken in profile])
    return samples


def choose_place(times: list[list[float]]) -> int:
    """Returns the place of the fastest of several lists of times, taken in rounds; 0 unless one wins clearly."""
    medians = [statistics.median(rounds) for rounds in times]
    place = min(range(len(times)), key=medians.__getitem__)
    won = sum(ours < rule for ours, rule in zip(times[place], times[0], strict=True))
    clear = won >= _MOST_ROUNDS * len(times[0]) and medians[0] > _WORTH_OF_LAYER * medians[place]
    return place if clear else 0
