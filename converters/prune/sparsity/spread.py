"""Spreads a share of zeros over layers: blocks go where the answers lose least for what is gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.converters.prune.sparsity.removal import Panel

# Of a layer at least this part of what stays of all layers stays: prices are those of small errors.
_LEAST = 0.4


@dataclass(frozen=True, eq=False)
class Curve:
    """What zeros of a layer cost and gain.

    Attributes:
        panels: Its panels.
        depth: Columns, k.
        price: What an error of 1 in the sum of squares of its results' errors costs the answers.
        gain: What a weight less gains, in the budget's unit.
    """

    panels: Sequence[Panel]
    depth: int
    price: float
    gain: float = 1.0

    @property
    def weights(self) -> int:
        """How many there are."""
        return sum(panel.count for panel in self.panels) * self.depth


def spread_zeros(curves: Mapping[str, Curve], share: float) -> dict[str, list[int]]:
    """Returns how many blocks of each panel go, by the names of layers.

    Blocks of all layers are taken by rising ``price * cost / gain``, up to ``share`` of what removing all would gain,
    where a layer keeps at least a part of what all keep. Each curve is convex, so that no other choice of as much gain
    costs less.

    Args:
        curves: By the names of layers.
        share: Of the gain of all weights.
    """
    names = list(curves)
    ratios, gains, owners, panels = [], [], [], []
    for place, name in enumerate(names):
        curve = curves[name]
        for index, panel in enumerate(curve.panels):
            sizes = _count_weights(panel, curve.depth) * curve.gain
            ratio = curve.price * panel.costs / np.maximum(sizes, 1e-30)
            # What is 0 already stays so.
            ratios.append(np.where(panel.costs > 0, ratio, -1.0))
            gains.append(sizes)
            owners.append(np.full(len(sizes), place))
            panels.append(np.full(len(sizes), index))
    if not ratios:
        return {}
    # Within a panel ratios may fall where its last block is a short one.
    rising = np.concatenate([np.maximum.accumulate(part) if len(part) else part for part in ratios])
    gain, owner, panel_of = (np.concatenate(parts) for parts in (gains, owners, panels))
    whole = [curve.weights * curve.gain for curve in curves.values()]
    wanted, reached = share * sum(whole), 0.0
    room = [(1 - _LEAST * (1 - share)) * size for size in whole]
    counts = {name: [0] * len(curves[name].panels) for name in names}
    for event in np.argsort(rising, kind="stable"):
        place = int(owner[event])
        if reached + gain[event] / 2 > wanted:
            break
        if room[place] < gain[event]:
            continue
        room[place] -= gain[event]
        reached += gain[event]
        counts[names[place]][int(panel_of[event])] += 1
    return counts


def keep_rest(curve: Curve, counts: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Returns which weights stay, ``[n, k]``, where so many blocks of each panel go."""
    rows = sum(panel.count for panel in curve.panels)
    kept = np.ones((rows, curve.depth + 1), bool)
    for panel, count in zip(curve.panels, counts, strict=True):
        gone = panel.columns[panel.order[:count]].reshape(-1)
        kept[panel.first : panel.first + panel.count, gone] = False
    return kept[:, : curve.depth]


def _count_weights(panel: Panel, depth: int) -> npt.NDArray[np.float64]:
    """Returns how many weights each block has, in the order in which they go."""
    inside = (panel.columns < depth).sum(axis=1)
    found: npt.NDArray[np.float64] = inside[panel.order] * float(panel.count)
    return found
