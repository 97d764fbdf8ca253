"""Decides which layers are int8 and which float32: int8 only where it is faster, by the native form's kernels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from edgekit import _native
from edgekit.benchmark import make_plan_inputs
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.choose_float import Costs, choose_float
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.program import Program
from edgekit.converters.quantizable import can_be_dynamic
from edgekit.converters.quantize import quantize
from edgekit.costs.cost_model import CostModel
from edgekit.costs.layer_costs import (
    list_sizes,
    open_plan,
    sum_by_node,
    time_conversions,
    time_layers,
)
from edgekit.data import Sample
from edgekit.session import NativeSession, Session
from edgekit.targets.errors import ModelError
from edgekit.timing import measure_interleaved

INT8 = "int8"
FLOAT = "float32"
MIXED = "mixed"
# All layers that can be with codes made at run time, the others in float32.
_DYNAMIC = "dynamic"
# Below this share int8 is kept: a float32 layer has four times the bytes of weights.
WORTH = 1.05
# Where all layers in float32 together take so many times those in int8, whole networks need not be timed.
_CLEAR = 1.3
_SECONDS = 1.5


@dataclass(frozen=True)
class Contest:
    """What the choice between int8 and float32 rests on.

    Attributes:
        chosen: "int8", "float32" or "mixed".
        how: "measured" on this machine, or "modelled" from the figures of the board's profile.
        keep_float: Names of nodes that stay float32, and why.
        milliseconds: Of the whole network by precision; empty where the layers left no doubt, or were modelled.
        layers: By node, its microseconds in int8 and in float32.
        dynamic: Layers that are faster with codes made at run time than in float32, where they are not int8, and the
            microseconds that they take so.
        note: Why nothing was compared, or why int8 is kept that loses much, or "".
        costs: Of the nodes, None where nothing was compared.
        gain: What float32 layers did for the answers, or "".
    """

    chosen: str
    how: str
    keep_float: Mapping[str, str]
    milliseconds: Mapping[str, float]
    layers: Mapping[str, tuple[float, float]]
    note: str = ""
    costs: Costs | None = None
    dynamic: Mapping[str, float] = field(default_factory=dict)
    gain: str = ""

    @property
    def dynamic_layers(self) -> frozenset[str]:
        """Names of the layers that are computed with codes made at run time."""
        if self.chosen == FLOAT:
            return frozenset()
        return frozenset(self.dynamic.keys() & self.keep_float.keys())


def choose_precision(
    graph: ir.Model,
    calibration: Calibration,
    ranges: RangeChoice,
    *,
    isa: str,
    batch: int,
    threads: int,
    model: CostModel | None,
    folder: Path,
    for_speed: bool = True,
    may_be_dynamic: bool = True,
    formats: Mapping[str, NumberFormat] | None = None,
) -> Contest:
    """Compares int8 with float32 layer by layer and as a whole.

    On this machine each layer is timed in both, with the kernels that ship; the cheapest assignment with its
    conversions is then timed against all int8 and all float32, and the fastest wins. For a board the costs are a model
    of its instruction set, and so is the result. Engines of other forms have other kernels: there the costs only say
    what float32 layers are cheapest where the answers need some.

    Args:
        graph: The float model, simplified.
        calibration: What calibration learned of it.
        ranges: How ranges are chosen.
        isa: The instruction set of the native form.
        batch: What an open first dimension becomes.
        threads: Threads of a session.
        model: What layers cost on the board; None, where plans for ``isa`` run here: they are timed.
        folder: Where plans are tried.
        for_speed: Whether layers are float32 where that is faster: where the native form is wanted.
        may_be_dynamic: Whether the forms hold dynamic products.
        formats: What nodes are computed in, by their names, whatever they take: there is no choice of them.
    """
    fixed = formats or {}
    names = {
        name: "it is faster in float32"
        for name in (node.name or "" for node in graph.graph)
        if name not in fixed
    }

    def build(keep: Mapping[str, str], dynamic: Collection[str] = ()) -> Program:
        quantized = quantize(
            graph, calibration, method=ranges, keep_float=keep, dynamic=dynamic, formats=fixed
        )
        return lower(quantized, batch)

    able = [
        node.name or ""
        for node in graph.graph
        if may_be_dynamic and can_be_dynamic(node) and node.name not in fixed
    ]
    try:
        programs = {INT8: build({}), FLOAT: build(names)}
        if able:
            programs[_DYNAMIC] = build(names, able)
    except ModelError as error:
        return Contest(INT8, "", {}, {}, {}, f"float32 was not tried: {error}")
    if model is None:
        sessions = {
            name: open_plan(program, isa, threads, folder / f"{name}.plan")
            for name, program in programs.items()
        }
        times = time_layers(sessions)
        rates = time_conversions(isa, folder)
    else:
        times = {name: model.time_layers(program) for name, program in programs.items()}
        rates = model.time_conversions()
    layers = {
        name: sum_by_node(graph.graph, program, times[name]) for name, program in programs.items()
    }
    costs = Costs(layers[INT8], layers[FLOAT], *rates, list_sizes(programs[FLOAT]))
    times_dynamic = {name: layers[_DYNAMIC][name] for name in able if name in layers[FLOAT]}
    dynamic = {
        name: cost for name, cost in times_dynamic.items() if cost * WORTH < costs.real[name]
    }
    pairs = {
        node.name or "": (
            layers[INT8].get(node.name or "", 0.0),
            layers[FLOAT].get(node.name or "", 0.0),
        )
        for node in graph.graph
    }
    if not for_speed:
        return Contest(INT8, "modelled", {}, {}, pairs, costs=costs, dynamic=dynamic)
    chosen = choose_float(graph.graph, with_dynamic(costs, dynamic), margin=WORTH)
    keep = {name: names[name] for name in chosen if name in names}
    options: dict[str, Mapping[str, str]] = {INT8: {}, FLOAT: names}
    if keep and (len(keep) < len(names) or dynamic):
        options[MIXED] = keep
    if model is not None:
        winner = MIXED if MIXED in options else INT8 if not keep else FLOAT
        return Contest(winner, "modelled", options[winner], {}, pairs, costs=costs, dynamic=dynamic)
    sessions.pop(_DYNAMIC, None)
    if not keep and sum(times[FLOAT]) > _CLEAR * sum(times[INT8]):
        return Contest(INT8, "measured", {}, {}, pairs, costs=costs, dynamic=dynamic)
    if MIXED in options:
        sessions[MIXED] = open_plan(build(keep, dynamic), isa, threads, folder / "mixed.plan")
    milliseconds = _time_sessions(sessions, threads)
    winner = min(
        milliseconds, key=lambda name: milliseconds[name] * (1.0 if name == INT8 else WORTH)
    )
    return Contest(
        winner, "measured", options[winner], milliseconds, pairs, costs=costs, dynamic=dynamic
    )


def with_dynamic(costs: Costs, dynamic: Mapping[str, float]) -> Costs:
    """Returns ``costs`` where the layers ``dynamic`` take so many microseconds when they are not int8."""
    return replace(costs, real={**costs.real, **dynamic})


def time_again(contest: Contest, plan: Path, *, threads: int, folder: Path) -> Contest:
    """Returns ``contest`` with whole networks timed in turns, ``plan`` as the mixed one if there is one.

    Args:
        contest: Of ``choose_precision``, whose plans still are in ``folder``.
        plan: Whose layers are of both precisions.
        threads: Threads of a session.
        folder: Where the plans were tried.
    """
    files = {INT8: folder / f"{INT8}.plan", FLOAT: folder / f"{FLOAT}.plan"}
    if contest.chosen == MIXED:
        files[MIXED] = plan
    sessions = {
        name: NativeSession(path, _native.Plan.open(path), threads) for name, path in files.items()
    }
    return replace(contest, milliseconds=_time_sessions(sessions, threads))


def time_forms(
    contest: Contest, forms: Mapping[str, Session], sample: Sample, *, threads: int
) -> Contest:
    """Returns ``contest`` with the times of whole networks in the engine of a form that is not native.

    Args:
        contest: How layers were chosen.
        forms: By precision, the networks.
        sample: What they are run on.
        threads: Threads of a session.
    """
    timings = measure_interleaved(
        {name: partial(session.run, sample) for name, session in forms.items()},
        threads=threads,
        seconds=_SECONDS,
    )
    return replace(
        contest, milliseconds={name: timing.median_ms for name, timing in timings.items()}
    )


def slow_down(before: Contest, after: Contest) -> float:
    """Returns how many times as long the layers take as decided in ``after``, by their costs, conversions left out."""
    costs = before.costs
    assert costs is not None

    def total(contest: Contest) -> float:
        names = {*costs.int8, *costs.real}
        kept, layers = contest.keep_float, contest.dynamic_layers
        real = with_dynamic(costs, {name: contest.dynamic[name] for name in layers}).real
        return sum((real if name in kept else costs.int8).get(name, 0.0) for name in names)

    return total(after) / max(total(before), 1e-9)


def _time_sessions(sessions: Mapping[str, NativeSession], threads: int) -> dict[str, float]:
    """Returns the median milliseconds of whole networks that take turns."""
    inputs = make_plan_inputs(next(iter(sessions.values())))
    timings = measure_interleaved(
        {name: partial(session.run, inputs) for name, session in sessions.items()},
        threads=threads,
        seconds=_SECONDS,
    )
    return {name: timing.median_ms for name, timing in timings.items()}
