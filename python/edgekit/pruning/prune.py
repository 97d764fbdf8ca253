"""Prunes the float graph of a deployment as a recipe says, and tells what that took out."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, calibrate
from edgekit.converters.prune.channels import Budget, prune_channels
from edgekit.converters.prune.channels.prune import Part
from edgekit.converters.prune.channels.report import ChannelsReport
from edgekit.converters.prune.sparsity import Sparsity, SparsityReport, sparsify
from edgekit.costs.cost_model import CostModel
from edgekit.costs.node_times import time_nodes
from edgekit.data import Samples
from edgekit.forms import NATIVE, Recipe
from edgekit.progress import Progress
from edgekit.pruning.recipe import CHANNELS, Pruning
from edgekit.report.pruning import PrunedLayer, PruningAccount
from edgekit.targets.errors import EdgekitError

# Samples that pruning learns from.
_MOST_SAMPLES = 512


def check_pruning(pruning: Pruning, forms: tuple[str, ...], sizes: int) -> None:
    """Checks what cannot be pruned for, before anything takes long.

    Raises:
        EdgekitError: There are several sizes, or zeros inside layers that no form makes use of.
    """
    if pruning and sizes > 1:
        raise EdgekitError("prune is for one size: give shapes for one")
    if pruning.is_sparse and NATIVE not in forms:
        raise EdgekitError(
            f"zeros inside layers make the native form alone faster, not {' and '.join(forms)}: prune channels there"
        )


def prune_graph(
    graph: ir.Model,
    learned: Calibration,
    samples: Samples,
    recipe: Recipe,
    pruning: Pruning,
    tell: Progress,
) -> tuple[ir.Model, Calibration, PruningAccount]:
    """Returns a pruned float graph, its calibration, and what was taken out of it.

    Args:
        graph: Simplified; it is not changed.
        learned: Its calibration.
        samples: To learn from, and to calibrate anew.
        recipe: What is built.
        pruning: No "auto".
        tell: Is told how far it is.

    Raises:
        EdgekitError: It cannot be pruned so.
        ModelError: ONNX Runtime cannot run the graph.
    """
    count = min(len(samples), _MOST_SAMPLES)
    some = Part(samples, [index * len(samples) // count for index in range(count)])
    cut: ChannelsReport | None = None
    sparse: SparsityReport | None = None
    small = graph
    if pruning.channels is not None:
        done = prune_channels(
            small,
            some,
            budget=_know_times(pruning.channels, graph, learned, recipe, tell),
            progress=lambda what, done, count: tell(f"cutting channels: {what}", done, count),
        )
        small, cut = done.graph, done.report
    if pruning.is_sparse:
        asked = Sparsity(pruning.zeros, pruning.layers, isa=recipe.isa)
        zeroed = sparsify(
            small,
            some,
            asked,
            progress=lambda what, done, count: tell(f"pruning: {what}", done, count),
        )
        small, sparse = zeroed.graph, zeroed.report
    learned = calibrate(
        small, samples, progress=lambda done, count: tell("calibrating anew", done, count)
    )
    return small, learned, _describe(pruning, cut, sparse)


def _know_times(
    budget: Budget | float, graph: ir.Model, learned: Calibration, recipe: Recipe, tell: Progress
) -> Budget | float:
    """Returns a budget with the time of each node, where it is in milliseconds: measured here, or modelled."""
    if not isinstance(budget, Budget) or not budget.needs_times:
        return budget
    tell("timing layers", 0, 1)
    measured = recipe.profile.isa == "auto" and recipe.runs_here
    model = None if measured else CostModel.of_profile(recipe.profile, recipe.isa)
    times = time_nodes(
        graph,
        learned,
        isa=recipe.isa,
        model=model,
        batch=recipe.batch,
        threads=recipe.threads,
    )
    tell("timing layers", 1, 1)
    return replace(budget, times=times)


def _describe(
    pruning: Pruning, cut: ChannelsReport | None, sparse: SparsityReport | None
) -> PruningAccount:
    layers: dict[str, PrunedLayer] = {}
    whole: dict[str, tuple[int, int]] = {}
    left: dict[str, tuple[float, float]] = {}
    dense: dict[str, str] = {}
    for channel in () if cut is None else cut.layers:
        whole[channel.node] = channel.macs, channel.bytes
        left[channel.node] = channel.macs_left, channel.bytes_left
        if channel.bytes_left < channel.bytes:
            layers[channel.node] = PrunedLayer(
                channel.node,
                CHANNELS,
                channel.bytes_left / channel.bytes,
                channel.macs_left,
                channel.macs,
                channel.bytes_left,
                channel.bytes,
            )
    for layer in () if sparse is None else sparse.layers:
        if layer.reason:
            dense[layer.node] = layer.reason
        before = whole.setdefault(layer.node, (layer.macs, layer.weights))
        macs, size = left.get(layer.node, before)
        left[layer.node] = macs * layer.density, size * layer.density
        if not layer.pattern:
            continue
        known = layers.get(layer.node)
        first = PrunedLayer(layer.node, layer.pattern, 1.0, *[layer.macs] * 2, *[layer.weights] * 2)
        if known is not None:
            first = replace(known, pattern=f"{known.pattern}+{layer.pattern}")
        layers[layer.node] = replace(
            first,
            density=first.density * layer.density,
            macs=round(first.macs * layer.density),
            bytes=round(first.bytes * layer.density),
            break_even=layer.break_even,
            speedup=layer.speedup,
        )
    macs, sizes = (sum(pair[i] for pair in whole.values()) for i in (0, 1))
    return PruningAccount(
        str(pruning),
        sum(pair[0] for pair in left.values()) / max(macs, 1),
        sum(pair[1] for pair in left.values()) / max(sizes, 1),
        list(layers.values()),
        dense,
    )
