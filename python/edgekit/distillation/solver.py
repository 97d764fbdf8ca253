"""Zeros that a student gets between steps, chosen and compensated by the solver of `sparsify`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.record import mark_pruned
from edgekit.converters.prune.sparsity import Sparsity, Zeros, sparsify
from edgekit.converters.prune.sparsity.layers import find_matrices as find_solved
from edgekit.distillation.batches import SampleSource
from edgekit.distillation.matrices import find_matrices
from edgekit.distillation.network import GraphNetwork
from edgekit.distillation.settings import AUTO, GROWN
from edgekit.distillation.sparsity import FEWEST_WEIGHTS, Growth
from edgekit.distillation.sparsity import Zeros as Held
from edgekit.targets.errors import EdgekitError

# Samples that it learns from at most, spread evenly over all.
_SOLVED_WITH = 600


def takes_solver(graph: ir.Model, growth: Growth, masks: str) -> bool:
    """Returns whether the zeros come from the solver: with "auto" where it knows every layer that gets any.

    Raises:
        EdgekitError: It was asked for, and does not know one of them; names it.
    """
    if masks == GROWN:
        return False
    chosen = _choose_layers(graph, growth)
    solved, reasons = find_solved(graph, (), growth.layers)
    missing = sorted(chosen - {matrix.name for matrix in solved})
    if masks == AUTO:
        return bool(chosen) and not missing
    if missing:
        raise EdgekitError(
            f"masks={masks!r}: node '{missing[0]}' cannot be pruned so: {reasons[missing[0]]}"
        )
    return bool(chosen)


def solve_zeros(
    network: GraphNetwork,
    zeros: Held,
    growth: Growth,
    share: float,
    samples: SampleSource,
    places: Sequence[int],
) -> None:
    """Gives the network ``share`` of zeros; the other weights make up for them, and for what is behind.

    Args:
        network: Its weights are changed.
        zeros: Hold what becomes 0.
        growth: Which layers, in which pattern.
        share: Of zeros, for the layers together or for each.
        samples: To learn from.
        places: Of those that may be taken; at most 600 are.

    Raises:
        EdgekitError: A layer cannot be pruned so.
    """
    graph = network.float_graph()
    chosen = _choose_layers(graph, growth)
    wanted = Zeros(growth.pattern, share)
    others = [str(node.name) for node in graph.graph if node.name not in chosen]
    asked = (
        Sparsity(wanted, dense=others)
        if growth.spread
        else Sparsity(layers=dict.fromkeys(sorted(chosen), wanted), dense=others)
    )
    count = min(len(places), _SOLVED_WITH)
    taken = [samples[places[index * len(places) // count]] for index in range(count)]
    found = {node.name: node for node in sparsify(graph, taken, asked).graph.graph}
    for node in graph.graph:
        for index, value in enumerate(node.inputs):
            if value is None or value.name not in network.trained:
                continue
            name = str(value.name)
            solved = constant(found[node.name].inputs[index])
            assert solved is not None
            weight = torch.from_numpy(np.array(solved, np.float32)).reshape(
                network.weight(name).shape
            )
            with torch.no_grad():
                network.weight(name).copy_(weight)
            if node.name in chosen and index == 1:
                before = zeros.kept(name)
                kept = weight != 0
                zeros.hold(name, kept if before is None else kept & before)
    for node in network.nodes:
        if node.name in chosen:
            mark_pruned(node, growth.pattern)


def _choose_layers(graph: ir.Model, growth: Growth) -> set[str]:
    """Returns the names of the layers that get zeros: those that are named, or all large ones that it can have."""
    known = {str(matrix.node.name): matrix for matrix in find_matrices(list(graph.graph))}
    for name in growth.layers:
        if name not in known:
            raise EdgekitError(f"prune: '{name}' is no dense layer of the network")
    if growth.layers:
        return set(growth.layers)
    large = {name for name, matrix in known.items() if np.prod(matrix.shape) >= FEWEST_WEIGHTS}
    if not large:
        raise EdgekitError(f"prune: no dense layer of the network has {FEWEST_WEIGHTS} weights")
    return large
