"""Gives channels the order in which weak weights lie together, so that blocks of zeros cost less; answers stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.calibrate.observe import Sample
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names
from edgekit.converters.prune.channels.channels import Channels, Role, Space
from edgekit.converters.prune.channels.find_channels import find_channels
from edgekit.converters.prune.channels.observe import gather_rows
from edgekit.converters.prune.pattern import Blocks
from edgekit.converters.prune.sparsity.layers import Matrix

# Samples that say how strong inputs are, and rows of a layer taken from all of them.
_SAMPLES = 32
_ROWS = 2048
# Rounds of clustering.
_ROUNDS = 12
_SEED = 29

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def order_channels(
    model: ir.Model, matrices: Sequence[Matrix], samples: Collection[Sample], pattern: Blocks
) -> list[tuple[str, ...]]:
    """Changes the order of channels in place, in all that makes, reads or lies along them; answers stay the same.

    Channels whose weights are weak at the same inputs become neighbours and share panels of blocks (clusters of equal
    size); in a panel they follow one another by how much is read of them, so that blocks of the layers that read them
    hold strong or weak weights. Both are by ``w^2 E[x^2]``. (Permutations of channels for N:M: Pool and Yu, 2021.)

    Only channels that everything has one after the other in one order are moved: not those of grouped convolutions,
    gates, heads, or flattened images.

    Args:
        model: A simplified float graph.
        matrices: Layers that will be pruned.
        samples: Inputs like those that it will meet; some are used.
        pattern: Of the zeros.

    Returns:
        The names of the layers that make them, of all channels that were moved.
    """
    channels = find_channels(model)
    strengths = _find_strengths(model, matrices, samples)
    orders: dict[int, Places] = {}
    spaces = []
    for space in channels.spaces:
        reference = _find_reference(channels, space)
        if reference is None or len(reference) <= pattern.columns:
            continue
        order = _choose_order(channels, reference, strengths, pattern)
        if order is not None and (order != np.arange(len(order))).any():
            orders[int(reference[0])] = order
            spaces.append(space.layers)
    _move(model, channels, orders)
    return spaces


def _find_strengths(
    model: ir.Model, matrices: Sequence[Matrix], samples: Collection[Sample]
) -> dict[str, Doubles]:
    """Returns ``w^2 E[x^2]`` of layers over the square of what they give, ``[n, channels]``, summed over taps."""
    used = list(islice(samples, _SAMPLES))
    layers = [matrix.layer for matrix in matrices]
    powers: dict[str, Doubles] = {}
    for layer, rows, _ in gather_rows(model, layers, used, _ROWS):
        name = str(layer.node.name)
        powers[name] = powers.get(name, 0) + np.square(rows[:, 0]).mean(axis=0)
    found = {}
    for matrix in matrices:
        weights = np.square(matrix.layer.weights[0]) * powers[matrix.name]
        strength = weights.reshape(len(weights), -1, matrix.layer.taps).sum(axis=2)
        found[matrix.name] = strength / max(float(strength.sum()), 1e-30)
    return found


def _find_reference(channels: Channels, space: Space) -> Places | None:
    """Returns the units of a space in the one order in which all have them, None where there are others."""
    units = np.array(space.units)
    reference = None
    everything = [slab.ids for slab in channels.slabs] + list(channels.values.values())
    for ids in everything:
        roots = np.asarray(channels.variables.roots(ids)).reshape(-1)
        if not np.isin(roots, units).any():
            continue
        if reference is None:
            reference = roots
        if len(roots) != len(units) or (roots != reference).any():
            return None
    if reference is None or len(np.unique(reference)) != len(units):
        return None
    return reference


def _choose_order(
    channels: Channels, reference: Places, strengths: dict[str, Doubles], pattern: Blocks
) -> Places | None:
    made, read = [], []
    for slab in channels.slabs:
        strength = strengths.get(str(slab.node.name))
        if slab.index != 1 or strength is None or channels.units_of(slab)[0] != reference[0]:
            continue
        if slab.role is Role.MAKES:
            whole = strength.shape[1] // pattern.columns * pattern.columns
            groups = strength[:, :whole].reshape(len(strength), -1, pattern.columns).sum(axis=2)
            made.append(np.sqrt(groups))
        elif slab.role is Role.READS:
            read.append(strength.sum(axis=0))
    if not made and not read:
        return None
    total = np.sum(read, axis=0) if read else np.zeros(len(reference))
    panels = np.zeros(len(reference), np.intp)
    if made and len(reference) > pattern.rows:
        panels = _cluster(np.concatenate(made, axis=1), pattern.rows)
    return np.lexsort((total, panels))


def _cluster(profiles: Doubles, size: int) -> Places:
    """Returns the cluster of each profile, ``[n]``, all of ``size`` but one that takes the rest (k-means)."""
    count = -(-len(profiles) // size)
    room = np.full(count, size)
    room[-1] = len(profiles) - size * (count - 1)
    random = np.random.default_rng(_SEED)
    centres = profiles[random.choice(len(profiles), count, replace=False)]
    owners = np.zeros(len(profiles), np.intp)
    for _ in range(_ROUNDS):
        squares = (profiles**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
        distance = squares - 2 * profiles @ centres.T
        ranked = np.argsort(distance, axis=1, kind="stable")
        nearest = np.sort(distance, axis=1)
        # Those that lose most by the second choice choose first.
        gain = nearest[:, 0] - nearest[:, 1]
        left = room.copy()
        for place in np.argsort(gain, kind="stable"):
            owner = next(int(each) for each in ranked[place] if left[each])
            owners[place] = owner
            left[owner] -= 1
        centres = np.stack([profiles[owners == each].mean(axis=0) for each in range(count)])
    return owners


def _move(model: ir.Model, channels: Channels, orders: dict[int, Places]) -> None:
    """Takes slices of constants in another order, which is known by the first unit of a space."""
    forget_names(model.graph)
    parts: dict[tuple[ir.Node, int], list[tuple[int, Places]]] = {}
    for slab in channels.slabs:
        order = orders.get(int(channels.units_of(slab)[0]))
        if order is not None:
            parts.setdefault((slab.node, slab.index), []).append((slab.axis, order))
    for (node, index), moves in parts.items():
        value = node.inputs[index]
        array = constant(value)
        assert value is not None
        assert array is not None
        for axis, order in moves:
            array = np.take(array, order, axis)
        node.replace_input_with(index, add_initializer(model.graph, str(value.name), array))
    common.RemoveUnusedNodesPass()(model)
    forget_names(model.graph)
