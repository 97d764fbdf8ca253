"""Prunes weights inside the layers of a float graph, in steps, with a repair of all layers after each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.noise import relative_noise
from edgekit.converters.passes.rewrite import forget_names
from edgekit.converters.prune.break_even import BreakEven, find_best
from edgekit.converters.prune.channels.importance import DAMPING, Moments
from edgekit.converters.prune.channels.observe import gather_rows, run
from edgekit.converters.prune.channels.prune import Part, Samples
from edgekit.converters.prune.channels.repair import (
    Repair,
    Targets,
    keep_targets,
    put_weights,
    repair,
)
from edgekit.converters.prune.pattern import Blocks, KeepOfGroup, Pattern
from edgekit.converters.prune.record import mark_pruned
from edgekit.converters.prune.sparsity.changes import Inputs, compensate, measure_changes
from edgekit.converters.prune.sparsity.layers import Matrix, find_matrices
from edgekit.converters.prune.sparsity.order_channels import order_channels
from edgekit.converters.prune.sparsity.removal import order_removal
from edgekit.converters.prune.sparsity.report import SparseLayer, SparsityReport
from edgekit.converters.prune.sparsity.spread import Curve, keep_rest, spread_zeros
from edgekit.targets.errors import CalibrationError, EdgekitError

Masks = dict[str, npt.NDArray[np.bool_]]
# Called with what is done now, how many of its steps are done, and of how many.
Progress = Callable[[str, int, int | None], None]
Doubles = npt.NDArray[np.float64]

# Rows that a layer's covariance is made of.
_ROWS = 8192
# Of the samples one in so many is only measured with, if there are at least as many as follow.
_MEASURED = 8
_ENOUGH = 16
_MOST_MEASURED = 64
# Of what a layer still has, how much goes at least when it is asked what that costs.
_MORE = 0.3


@dataclass(frozen=True)
class Zeros:
    """How many weights of a layer, or of several together, become 0.

    Attributes:
        pattern: Where they may lie.
        share: Of all; of N:M what it says.
    """

    pattern: Pattern
    share: float

    def __post_init__(self) -> None:
        if isinstance(self.pattern, KeepOfGroup):
            own = 1 - self.pattern.density
            if abs(self.share - own) > 1e-9:
                raise EdgekitError(
                    f"{self.pattern} makes {own:g} of the weights 0, not {self.share:g}"
                )
        if not 0 < self.share <= 0.95:
            raise EdgekitError(
                f"the share of zeros is above 0 and at most 0.95, not {self.share:g}"
            )


@dataclass(frozen=True)
class Pruned:
    """What `sparsify` made.

    Attributes:
        graph: A float graph with zeros, and a record on each node that has some.
        report: What was pruned, layer by layer.
    """

    graph: ir.Model
    report: SparsityReport


@dataclass(frozen=True)
class Sparsity:
    """What is asked of `sparsify`.

    Attributes:
        whole: Of all layers that may be pruned together, spread so that the answers lose least; None: only those named.
        layers: Of single layers, by the names of their nodes.
        dense: Names of nodes that stay dense.
        isa: The instruction set of a plan, whose table of break-even is asked: no layer is pruned that would not be
            faster. None: it does not matter.
        gains: What a weight less of a layer gains, by the names of nodes; 1 where it is missing. Multiplications by a
            weight, say, or milliseconds.
        steps: In how many steps the zeros are reached, the first of which is the largest (Zhu and Gupta, "To prune, or
            not to prune", 2017).
        reorder: Whether inner channels first get an order in which weak weights lie in blocks together
            (`order_channels`): the answers stay, but inner values are no longer those of the given graph channel by
            channel.
    """

    whole: Zeros | None = None
    layers: Mapping[str, Zeros] = field(default_factory=dict)
    dense: Collection[str] = ()
    isa: str | None = None
    gains: Mapping[str, float] = field(default_factory=dict)
    steps: int = 3
    reorder: bool = False


def sparsify(
    graph: ir.Model, samples: Samples, asked: Sparsity, *, progress: Progress | None = None
) -> Pruned:
    """Makes weights of a simplified float graph 0, and lets the others make up for it.

    In each step the covariance of what each layer reads by now says which blocks cost least (`order_removal`), the
    answers with zeros in it alone say what that is worth beside other layers, and the cheapest go (`spread_zeros`).
    Then all layers are fitted anew, one after the other, to what the whole graph's give (`repair`).

    Args:
        graph: The graph; it is not changed.
        samples: Inputs like those that it will meet, without labels; hundreds are better than tens.
        asked: How many zeros, and where.
        progress: Told how far it is.

    Raises:
        EdgekitError: A layer that was asked for is not there, cannot be pruned, or would not be faster.
        CalibrationError: There are no samples, or one does not fit the graph.
        ModelError: ONNX Runtime cannot run the graph.
    """
    if not len(samples):
        raise CalibrationError(
            "there are no calibration samples; give at least one, better a hundred"
        )
    if asked.steps < 1:
        raise EdgekitError("steps must be at least 1")
    blocks = None if asked.whole is None else asked.whole.pattern
    if asked.reorder and isinstance(blocks, Blocks):
        graph = graph.clone()
        some = Part(samples, range(len(samples)))
        order_channels(graph, find_matrices(graph, asked.dense)[0], some, blocks)
    return _Sparsifying(graph, samples, asked, progress).work()


class _Sparsifying:
    """One run of `sparsify`."""

    def __init__(
        self, graph: ir.Model, samples: Samples, asked: Sparsity, progress: Progress | None
    ) -> None:
        self._whole, self._graph = graph, graph.clone()
        self._asked, self._progress = asked, progress
        places = range(len(samples))
        measured = [i for i in places if i % _MEASURED == _MEASURED - 1][:_MOST_MEASURED]
        if len(samples) < _ENOUGH:
            measured = []
        apart = set(measured)
        self._measured = Part(samples, measured)
        self._samples = Part(samples, [i for i in places if i not in apart])
        self._everything, self._reasons = find_matrices(
            self._graph, asked.dense, asked.layers.keys()
        )
        known = {matrix.name for matrix in self._everything}
        for name in asked.layers:
            if name not in known:
                reason = self._reasons.get(name, "there is no such layer")
                raise EdgekitError(f"node '{name}' cannot be pruned: {reason}")
        self._zeros = {
            matrix.name: zeros
            for matrix in self._everything
            if (zeros := asked.layers.get(matrix.name, asked.whole)) is not None
        }
        for matrix in self._everything:
            if matrix.name not in self._zeros:
                self._reasons[matrix.name] = "it was not asked for"
        self._rows: dict[str, BreakEven] = {}
        self._given = {matrix.name: tuple(matrix.layer.node.inputs) for matrix in self._everything}

    def work(self) -> Pruned:
        done: list[Repair] = []
        masks: Masks = {}
        with keep_targets(self._whole, self._samples, self._tell("targets")) as targets:
            for step in range(self._asked.steps):
                part = 1 - (1 - (step + 1) / self._asked.steps) ** 3
                masks = self._remove(part, masks)
                done = self._repair(masks, targets)
        for matrix in self._everything:
            if matrix.name in masks:
                mark_pruned(matrix.layer.node, self._zeros[matrix.name].pattern)
        # Weights of former steps are initializers still.
        common.RemoveUnusedNodesPass()(self._graph)
        return Pruned(self._graph, self._report(masks, done))

    def _repair(self, masks: Masks, targets: Targets) -> list[Repair]:
        supports = {
            matrix.name: matrix.restore(masks[matrix.name])
            for matrix in self._everything
            if matrix.name in masks
        }
        return repair(
            self._graph,
            targets,
            {},
            self._samples,
            supports.keys(),
            self._tell("repair"),
            supports=supports,
        )

    def _remove(self, part: float, before: Masks) -> Masks:
        """Returns which weights stay after a step, and makes the others 0; what was 0 before stays so."""
        matrices = [matrix for matrix in self._everything if matrix.name in self._zeros]
        known = self._gather(matrices)
        curves = {}
        for matrix in matrices:
            zeros = self._zeros[matrix.name]
            panels = order_removal(
                matrix.read(), known[matrix.name].covariance, _ease(zeros.pattern, part)
            )
            gain = self._asked.gains.get(matrix.name, 1.0)
            curves[matrix.name] = Curve(panels, matrix.shape.k, 1.0, gain)
        if len(curves) > 1:
            curves = self._price(matrices, curves, known, part)
        if not before and part < 1:
            # What will not pay in the end gets no zeros on the way, and others theirs from the beginning.
            self._choose(matrices, curves, 1.0)
        masks = self._choose(matrices, curves, part)
        forget_names(self._graph.graph)
        for matrix in matrices:
            if matrix.name not in masks:
                if matrix.name in before:
                    self._give_back(matrix)
                continue
            if matrix.name in before:
                masks[matrix.name] &= before[matrix.name]
            weights, bias = compensate(matrix, known[matrix.name], masks[matrix.name])
            put_weights(self._graph.graph, matrix.layer, weights, bias)
        return masks

    def _give_back(self, matrix: Matrix) -> None:
        """Gives a layer that turned out not to pay the weights that it had in the beginning."""
        for index, value in enumerate(self._given[matrix.name]):
            if index and value is not None:
                matrix.layer.node.replace_input_with(index, value)

    def _price(
        self,
        matrices: list[Matrix],
        curves: Mapping[str, Curve],
        known: Mapping[str, Inputs],
        part: float,
    ) -> dict[str, Curve]:
        """Returns the curves with the prices of their layers: what the zeros asked for do if they are in one alone."""
        changes = {}
        costs = {}
        for matrix in matrices:
            name, curve = matrix.name, curves[matrix.name]
            # More than it has by now, or there is nothing to be seen.
            gone = float((matrix.read() == 0).mean())
            share = max(part * self._zeros[name].share, gone + _MORE * (1 - gone))
            spread = spread_zeros({name: curve}, share)[name]
            costs[name] = sum(
                float(panel.costs[:count].sum())
                for panel, count in zip(curve.panels, spread, strict=True)
            )
            changes[name] = compensate(matrix, known[name], keep_rest(curve, spread))
        noises = measure_changes(self._graph, matrices, changes, self._samples)
        return {
            name: replace(curve, price=noises[name] / max(costs[name], 1e-30))
            for name, curve in curves.items()
        }

    def _gather(self, matrices: list[Matrix]) -> dict[str, Inputs]:
        """Returns what is known of what layers read."""
        moments = {matrix.layer: Moments() for matrix in matrices}
        for layer, rows, results in gather_rows(self._graph, list(moments), self._samples, _ROWS):
            moments[layer].add(rows, results)
        found = {}
        for matrix in matrices:
            seen = moments[matrix.layer]
            covariance, mean = seen.covariances()[0], seen.means()[0]
            node = matrix.layer.node
            if len(node.inputs) < 3 or node.inputs[2] is None:  # Nothing makes up for means.
                covariance, mean = covariance + np.outer(mean, mean), np.zeros_like(mean)
            covariance = covariance[np.ix_(matrix.order, matrix.order)]
            damping = max(DAMPING * float(np.trace(covariance)) / len(covariance), 1e-30)
            damped = covariance + damping * np.eye(len(covariance))
            found[matrix.name] = Inputs(damped, mean[matrix.order])
        return found

    def _choose(self, matrices: list[Matrix], curves: Mapping[str, Curve], part: float) -> Masks:
        """Returns which weights stay, of those layers whose zeros pay."""
        while True:
            masks: Masks = {}
            together = {}
            for name, zeros in self._zeros.items():
                if isinstance(zeros.pattern, KeepOfGroup):
                    counts = [len(panel.order) for panel in curves[name].panels]
                    masks[name] = keep_rest(curves[name], counts)
                elif name in self._asked.layers:
                    spread = spread_zeros({name: curves[name]}, part * zeros.share)
                    masks[name] = keep_rest(curves[name], spread[name])
                else:
                    together[name] = curves[name]
            if together and self._asked.whole is not None:
                spread = spread_zeros(together, part * self._asked.whole.share)
                masks.update({name: keep_rest(together[name], spread[name]) for name in together})
            refused = self._refuse(matrices, masks) if part == 1 else {}
            if not refused:
                return masks
            for name, reason in refused.items():
                if name in self._asked.layers:
                    raise EdgekitError(f"node '{name}' would not be faster: {reason}")
                self._reasons[name] = reason
                del self._zeros[name]

    def _refuse(self, matrices: list[Matrix], masks: Masks) -> dict[str, str]:
        """Returns the layers that no kernel makes faster so, and why; where all others have their share of zeros."""
        found = {}
        for matrix in matrices:
            if matrix.name not in masks:
                continue
            pattern = self._zeros[matrix.name].pattern
            density = float(masks[matrix.name].mean())
            if isinstance(pattern, KeepOfGroup):  # On the way it is another.
                density = pattern.density
            if density == 1:
                found[matrix.name] = "its zeros would cost more than other layers'"
            elif self._asked.isa is not None:
                row = find_best(self._asked.isa, pattern, density, matrix.shape)
                if row is None:
                    found[matrix.name] = f"{self._asked.isa} has no kernel for {pattern}"
                elif not row.pays(density):
                    found[matrix.name] = (
                        f"{density:.0%} of its weights would stay, and {row.density:.0%} is break-even"
                    )
                else:
                    self._rows[matrix.name] = row
        # One at a time: with it dense, others get more zeros.
        return dict(list(found.items())[:1])

    def _report(self, masks: Masks, done: list[Repair]) -> SparsityReport:
        errors = {fit.node: fit.after for fit in done}
        layers = []
        matrices = {matrix.name: matrix for matrix in self._everything}
        for node in self._graph.graph:
            name = node.name or ""
            matrix = matrices.get(name)
            if matrix is None:
                if name in self._reasons:
                    layers.append(SparseLayer(name, "", 0, 1.0, 0, reason=self._reasons[name]))
                continue
            shape = matrix.shape
            layer = SparseLayer(name, "", shape.k * shape.n, 1.0, shape.m * shape.k * shape.n)
            error = errors.get(name, 0.0)
            layer = replace(layer, error_db=-10 * math.log10(error) if error > 0 else None)
            if name not in masks:
                layers.append(replace(layer, reason=self._reasons.get(name, "")))
                continue
            density = float(masks[name].mean())
            row = self._rows.get(name)
            layers.append(
                replace(
                    layer,
                    pattern=str(self._zeros[name].pattern),
                    density=density,
                    break_even=None if row is None else row.density,
                    speedup=None if row is None else row.speedup(density),
                )
            )
        share = 0.0 if self._asked.whole is None else self._asked.whole.share
        return SparsityReport(share, tuple(layers), self._compare())

    def _compare(self) -> float | None:
        if not len(self._measured):
            return None
        names = [str(value.name) for value in self._whole.graph.outputs]
        whole, small = (
            [
                {name: values[name] for name in names}
                for _, values in run(model, self._measured, names)
            ]
            for model in (self._whole, self._graph)
        )
        noise = relative_noise(whole, small)
        return -10 * math.log10(noise) if noise > 0 else math.inf

    def _tell(self, what: str) -> Callable[[int, int | None], None] | None:
        progress = self._progress
        return None if progress is None else lambda done, total: progress(what, done, total)


def _ease(pattern: Pattern, part: float) -> Pattern:
    """Returns the pattern of a step on the way: of N:M one with more that stay."""
    if not isinstance(pattern, KeepOfGroup):
        return pattern
    keep = math.ceil(pattern.group - part * (pattern.group - pattern.keep))
    return replace(pattern, keep=keep)
