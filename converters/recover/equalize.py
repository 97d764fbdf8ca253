"""Cross-layer equalization: scales channels so that the weights on both sides of them are of one size.

Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction",
2019. It needs no samples, and leads to the same network however channels had been scaled apart before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.element_sets.variables import PINNED, Ids
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.read_onnx import infer_shapes
from edgekit.converters.recover.find_scaling import find_scaling
from edgekit.converters.recover.report import LayerEffect
from edgekit.converters.recover.rescale import lay_out, rescale, restore_clips
from edgekit.converters.recover.scales import Bounds, Layer, Norm, Operand, Scaling, Site

Floats = npt.NDArray[np.float64]
_SWEEPS = 40
# A sweep that moves no factor by more than this, as a logarithm, was the last.
_SETTLED = 1e-3
# Channels that lie apart by less than this gain nothing by being moved.
_LEAST_SPREAD = 1.5


def equalize(model: ir.Model) -> list[LayerEffect]:
    """Equalizes the channels of a simplified float graph, in place; its answers stay, but for rounding.

    For channel c with the largest weights ``a[c] = max |W1[c, :]|`` that make it and ``b[c] = max |W2[:, c]|`` that
    read it, ``f[c] = sqrt(b[c] / a[c])``, again and again over the network until nothing moves. Where several layers
    make or read a channel, through sums and concatenations, all of them count. Channels behind a Clip keep one factor,
    so that its bounds stay one number; where bounds differ by channel, they become one number first.

    Returns:
        The layers whose output channels were moved, with how far they lay apart before and after.
    """
    effects = _level_bounds(model)
    scaling = find_scaling(model)
    count = len(scaling.variables)
    held = np.zeros(count, np.bool_)
    held[PINNED] = True
    for site in scaling.sites:
        if isinstance(site, Bounds) or (isinstance(site, Operand) and _is_limit(site)):
            held[scaling.variables.roots(site.ids)] = True
    tables = [table for site in scaling.sites if (table := _table_of(scaling, site)) is not None]
    logs = np.zeros(count)
    made, read = _sizes(tables, logs)
    free = ~held & (made > 0) & (read > 0)
    for _ in range(_SWEEPS):
        made, read = _sizes(tables, logs)
        step = np.where(free, 0.5 * np.log(np.where(free, read / np.maximum(made, 1e-300), 1)), 0)
        logs += step
        if np.abs(step).max(initial=0.0) < _SETTLED:
            break
    factors = {int(root): math.exp(logs[root]) for root in np.flatnonzero(free) if logs[root]}
    for site in scaling.sites:
        if isinstance(site, Layer | Norm):
            own = np.unique(scaling.variables.roots(site.outputs))
            own = own[free[own]]
            if own.size > 1 and np.ptp(logs[own]) > math.log(_LEAST_SPREAD):
                apart = math.exp(np.ptp(logs[own]))
                note = f"{own.size} channels were moved by factors that lie {apart:.3g} apart"
                effects.append(LayerEffect(site.node.name or "", 0.0, note))
    if not effects:
        return []
    rescale(model, scaling, factors)
    restore_clips(model)
    infer_shapes(model)
    return effects


def _level_bounds(model: ir.Model) -> list[LayerEffect]:
    """Scales channels whose upper bounds differ, so that they have one bound, and makes Clips of them."""
    scaling = find_scaling(model)
    factors: dict[int, float] = {}
    effects = []
    for site in scaling.sites:
        if not isinstance(site, Operand) or not _is_limit(site):
            continue
        array = constant(site.node.inputs[site.index])
        assert array is not None
        roots = scaling.variables.roots(site.ids)
        limits, places = np.broadcast_arrays(array.astype(np.float64), roots)
        if (limits <= 0).any() or not roots.any() or np.ptp(limits) == 0:
            continue
        by_root: dict[int, float] = {}
        for root, limit in zip(places.ravel().tolist(), limits.ravel().tolist(), strict=True):
            by_root.setdefault(root, limit)
        if PINNED in by_root or by_root.keys() & factors.keys():
            continue
        mean = math.exp(np.log(np.array([*by_root.values()])).mean())
        factors.update({root: mean / limit for root, limit in by_root.items()})
        note = f"{len(by_root)} bounds became one, {mean:.3g}"
        effects.append(LayerEffect(site.node.name or "", 0.0, note))
    if factors:
        rescale(model, scaling, factors)
        restore_clips(model)
        infer_shapes(model)
    return effects


def _is_limit(site: Operand) -> bool:
    return site.node.op_type == "Min"


@dataclass(frozen=True, eq=False)
class _Table:
    """The weights of a layer, or of a normalization, by the sets of channels on both sides.

    Attributes:
        largest: Magnitude of the largest weight between two channels.
        inputs: Sets of the input channels; they broadcast to ``largest``.
        outputs: The same of the output channels.
    """

    largest: Floats
    inputs: Ids
    outputs: Ids


def _table_of(scaling: Scaling, site: Site) -> _Table | None:
    if isinstance(site, Layer):
        weight = constant(site.node.inputs[1])
        assert weight is not None
        largest = np.abs(weight.astype(np.float64)).reshape(*weight.shape[:2], -1).max(axis=2)
        inputs, outputs = (scaling.variables.roots(ids) for ids in (site.inputs, site.outputs))
        return _Table(largest, *lay_out(site.node, inputs, outputs))
    if isinstance(site, Norm):
        gamma = constant(site.node.inputs[1])
        assert gamma is not None
        roots = scaling.variables.roots(site.outputs)
        return _Table(np.abs(gamma.astype(np.float64)), np.zeros_like(roots), roots)
    return None


def _sizes(tables: Sequence[_Table], logs: Floats) -> tuple[Floats, Floats]:
    """Returns by set the largest weight that makes its channels and the largest that reads them, 0 where none does."""
    factors = np.exp(logs)
    made, read = np.zeros_like(logs), np.zeros_like(logs)
    for table in tables:
        now = table.largest * factors[table.outputs] / factors[table.inputs]
        for sizes, ids in ((made, table.outputs), (read, table.inputs)):
            others = tuple(a for a in range(now.ndim) if ids.shape[a] == 1)
            largest = now.max(axis=others, keepdims=True) if others else now
            np.maximum.at(sizes, ids.ravel(), largest.ravel())
    return made, read
