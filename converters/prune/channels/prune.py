"""Cuts channels of a float graph until it meets a budget, and repairs what reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, Protocol, overload

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.calibrate.observe import Sample
from edgekit.converters.noise import relative_noise
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.prune.channels.budget import Budget
from edgekit.converters.prune.channels.channels import Channels, Role
from edgekit.converters.prune.channels.costs import Costs
from edgekit.converters.prune.channels.cut import cut
from edgekit.converters.prune.channels.find_channels import find_channels
from edgekit.converters.prune.channels.importance import (
    Order,
    gather_readers,
    order_by_error,
    order_by_magnitude,
)
from edgekit.converters.prune.channels.prices import measure_prices
from edgekit.converters.prune.channels.repair import Repair, keep_targets, repair
from edgekit.converters.prune.channels.report import ChannelsReport, LayerCut
from edgekit.converters.prune.channels.rows import find_rows
from edgekit.converters.prune.channels.select import choose_step, select
from edgekit.converters.prune.channels.trials import Trials, answer, list_kept
from edgekit.targets.errors import CalibrationError, EdgekitError

Importance = Literal["hessian", "magnitude"]
IMPORTANCES: tuple[Importance, ...] = ("hessian", "magnitude")
# Called with what is done now, how many of its steps are done, and of how many.
Progress = Callable[[str, int, int | None], None]

# Of the samples one in so many is only measured with, if there are at least as many as follow.
_MEASURED = 8
_ENOUGH = 16
_MOST_MEASURED = 64
# Trials are made with so many samples, rows of a layer, and multiplications in all.
_TRIED = 128
_TRIED_ROWS = 4096
_TRIED_MACS = 1e11
_LEAST_TRIED = 24


class Samples(Protocol):
    """Inputs that are read when they are asked for; a list is one."""

    def __len__(self) -> int:
        """Returns how many there are."""

    def __getitem__(self, index: int, /) -> Sample:
        """Returns one of them."""


@dataclass(frozen=True)
class Pruned:
    """What `prune_channels` made.

    Attributes:
        graph: A float graph without the channels that were cut; inputs and outputs are as they were.
        report: What was cut, layer by layer.
    """

    graph: ir.Model
    report: ChannelsReport


def prune_channels(
    graph: ir.Model,
    samples: Samples,
    *,
    budget: Budget | float,
    importance: Importance = "hessian",
    repairs: bool = True,
    multiple: int = 16,
    keep: Collection[str] = (),
    steps: int = 1,
    trials: bool | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Cuts channels of a simplified float graph until it costs no more than a budget allows.

    Channels that depend on each other go together (`find_channels`); which go is decided over the whole graph by what
    is lost beside what is saved. It is done in several steps, with a repair of all layers after each (`repair`).

    Args:
        graph: The graph; it is not changed.
        samples: Inputs like those that it will meet, without labels; tens will do, thousands are better.
        budget: What it may cost, or the share of its multiplications that stay.
        importance: "hessian", by the error of layers behind after their best repair, or "magnitude" of weights.
        repairs: Whether layers are fitted anew after each step.
        multiple: Widths are multiples of it, where layers are wide enough.
        keep: Names of nodes, or of their results, whose channels stay.
        steps: In how many cuts the budget is reached.
        trials: Whether what each space loses is measured by cutting it alone, and repairing all behind it or, in
            larger networks, what reads it; None: with repairs and importance by error.
        progress: Told how far it is.

    Raises:
        EdgekitError: The budget cannot be met, or an argument is not valid.
        CalibrationError: There are no samples, or one does not fit the graph.
        ModelError: ONNX Runtime cannot run the graph.
    """
    wanted = budget if isinstance(budget, Budget) else Budget(budget)
    if importance not in IMPORTANCES:
        raise EdgekitError(f"importance must be {' or '.join(IMPORTANCES)}, not {importance!r}")
    if steps < 1 or multiple < 1:
        raise EdgekitError("steps and multiple must be at least 1")
    if not len(samples):
        raise CalibrationError(
            "there are no calibration samples; give at least one, better a hundred"
        )
    pruning = _Pruning(graph, samples, wanted, importance, multiple, frozenset(keep), progress)
    if trials is None:
        trials = repairs and importance == "hessian"
    return pruning.work(repairs, steps, trials)


class Part(Sequence[Sample]):
    """Some of the samples, read when they are asked for."""

    def __init__(self, samples: Samples, places: Sequence[int]) -> None:
        self._samples, self._places = samples, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return Part(self._samples, self._places[index])
        return self._samples[self._places[index]]


class _Pruning:
    """One run of `prune_channels`."""

    def __init__(
        self,
        graph: ir.Model,
        samples: Samples,
        budget: Budget,
        importance: Importance,
        multiple: int,
        keep: frozenset[str],
        progress: Progress | None,
    ) -> None:
        self._whole, self._graph = graph, graph.clone()
        self._budget, self._importance, self._multiple = budget, importance, multiple
        self._keep, self._progress = keep, progress
        places = range(len(samples))
        measured = [i for i in places if i % _MEASURED == _MEASURED - 1][:_MOST_MEASURED]
        if len(samples) < _ENOUGH:
            measured = []
        apart = set(measured)
        self._measured = Part(samples, measured)
        self._samples = Part(samples, [i for i in places if i not in apart])
        # Of each layer's result, which of its channels are left; and those that were cut.
        self._kept: Mapping[str, npt.NDArray[np.int64]] = {}
        self._touched: dict[str, None] = {}
        self._left_alone: dict[str, None] = {}
        channels = find_channels(self._graph, keep)
        # What widths are multiples of is chosen once, by those that there were.
        self._steps = {
            name: choose_step(space, multiple) for space in channels.spaces for name in space.layers
        }
        costs = Costs(self._graph, channels, budget)
        self._cost = self._whole_cost = costs.total(costs.nothing())
        self._asked, self._budget = budget, budget.resolve(self._whole_cost)
        self._wanted = answer(self._whole, self._measured)

    def work(self, repairs: bool, steps: int, trials: bool) -> Pruned:
        done: list[Repair] = []
        share = self._budget.share
        goals = [self._whole_cost * (1 - (1 - share) * (step + 1) / steps) for step in range(steps)]
        with ExitStack() as stack:
            tried = self._prepare_trials(stack) if trials and len(self._measured) else None
            if repairs:
                targets = stack.enter_context(
                    keep_targets(self._whole, self._samples, self._tell("targets"))
                )
            for goal in goals:
                self._cut(goal, tried)
                if repairs:
                    done = repair(
                        self._graph,
                        targets,
                        self._kept,
                        self._samples,
                        self._touched,
                        self._tell("repair"),
                    )
        common.RemoveUnusedNodesPass()(self._graph)
        if self._cost > goals[-1]:
            raise EdgekitError(
                f"channels can be cut down to {self._cost / self._whole_cost:.0%} of the {self._budget.measure} of "
                f"layers at most, {self._cost:.3g} {self._budget.measure}, not to {share:.0%} as {self._asked} asks: "
                "ask for less, allow smaller widths, or keep fewer layers"
            )
        return Pruned(self._graph, self._report(done))

    def _prepare_trials(self, stack: ExitStack) -> Trials:
        channels = find_channels(self._graph, self._keep)
        costs = Costs(self._graph, channels, Budget(1.0))
        layers = sum(find_rows(node) is not None for node in self._graph.graph)
        whole = costs.total(costs.nothing()) * len(channels.spaces)
        far = whole * layers * min(_TRIED, len(self._samples)) <= _TRIED_MACS
        count = _TRIED if far else int(min(max(_TRIED_MACS / max(whole, 1), _LEAST_TRIED), _TRIED))
        few = self._samples[:count]
        measured = self._measured if far else self._measured[:count]
        targets = stack.enter_context(keep_targets(self._whole, few, rows=_TRIED_ROWS))
        return Trials(targets, few, measured, self._wanted[: len(measured)], far=far)

    def _cut(self, goal: float, trials: Trials | None) -> None:
        """Cuts so many units that the graph costs ``goal`` or less, or as many as there are."""
        channels = find_channels(self._graph, self._keep)
        costs = Costs(self._graph, channels, self._budget)
        orders = self._order(channels, trials is not None)
        widths = [self._steps[order.space.layers[0]] for order in orders]
        chosen, self._cost = select(orders, costs, goal, widths)
        if trials is not None and chosen:
            orders = trials.correct(
                self._graph,
                orders,
                chosen,
                self._kept,
                self._touched,
                self._keep,
                self._tell("trials"),
            )
            chosen, self._cost = select(orders, costs, goal, widths)
        units = frozenset(unit for part in chosen.values() for unit in part)
        if not units:
            return
        if self._budget.measure == "ms":
            gone = costs.nothing()
            for part in chosen.values():
                gone = gone + costs.widths(part)[:, -1]
            self._budget = replace(self._budget, times=costs.by_node(gone))
        self._kept = list_kept(self._graph, channels, units, self._kept)
        for space in chosen:
            self._touched.update(dict.fromkeys(space.layers))
        cut(self._graph, channels, units)

    def _order(self, channels: Channels, has_trials: bool) -> list[Order]:
        if self._importance == "magnitude":
            return [order_by_magnitude(space, channels) for space in channels.spaces]
        known = {
            node: layer for node in self._graph.graph if (layer := find_rows(node)) is not None
        }
        reading = [slab for slab in channels.slabs if slab.role is Role.READS]
        unknown = [channels.units_of(slab) for slab in reading if slab.node not in known]
        refused = set(np.concatenate(unknown).tolist()) if unknown else set()
        spaces, guessed = [], []
        for space in channels.spaces:
            if refused.isdisjoint(space.units):
                spaces.append(space)
            elif has_trials:
                guessed.append(order_by_magnitude(space, channels))
            else:
                self._left_alone.update(dict.fromkeys(space.layers))
        readers = {str(slab.node.name) for slab in reading if slab.node in known}
        prices = measure_prices(self._graph, sorted(readers), self._samples)
        found = gather_readers(self._graph, channels, known, self._samples, prices)
        return [*(order_by_error(space, found) for space in spaces), *guessed]

    def _report(self, done: Sequence[Repair]) -> ChannelsReport:
        fits = {repair.node: repair for repair in done}
        small = {str(node.name): node for node in self._graph.graph}
        before, after = (_weigh(model) for model in (self._whole, self._graph))
        layers = []
        for node in self._whole.graph:
            name = str(node.name)
            if name not in before["macs"] or name not in small:
                continue
            error = fits[name].after if name in fits else 0.0
            layers.append(
                LayerCut(
                    name,
                    _width(node),
                    _width(small[name]),
                    round(before["macs"][name]),
                    round(after["macs"][name]),
                    round(before["bytes"].get(name, 0)),
                    round(after["bytes"].get(name, 0)),
                    -10 * math.log10(error) if error > 0 else None,
                )
            )
        return ChannelsReport(
            self._budget.measure,
            self._whole_cost,
            self._cost,
            tuple(layers),
            self._compare(),
            tuple(self._left_alone),
        )

    def _compare(self) -> float | None:
        if not len(self._measured):
            return None
        noise = relative_noise(self._wanted, answer(self._graph, self._measured))
        return -10 * math.log10(noise) if noise > 0 else math.inf

    def _tell(self, what: str) -> Callable[[int, int | None], None] | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def _weigh(model: ir.Model) -> dict[str, dict[str, float]]:
    """Returns the products and the bytes of each node."""
    channels = find_channels(model)
    found = {}
    for measure in ("macs", "bytes"):
        costs = Costs(model, channels, Budget(1.0, measure))
        found[measure] = costs.by_node(costs.nothing())
    return found


def _width(node: ir.Node) -> int:
    """Returns the output channels of a layer; the cells of a recurrent one."""
    if "hidden_size" in node.attributes:
        return attribute(node, "hidden_size", 0)
    shape = node.outputs[0].shape
    size = None if shape is None else shape[1 if node.op_type.startswith("Conv") else -1]
    return size if isinstance(size, int) else 0
