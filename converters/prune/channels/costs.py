"""What layers cost when units of channels are cut: products, bytes of weights, or time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.element_sets.variables import Ids
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.channels.budget import Budget, Measure
from edgekit.converters.prune.channels.channels import Channels

_WEIGHTS = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (1,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
}
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Term:
    """Cost that is proportional to some widths.

    Attributes:
        node: The node that has it.
        cost: In the unpruned graph.
        axes: Which widths.
        made: Which of them is that of its output channels, None where there is none.
    """

    node: str
    cost: float
    axes: tuple[int, ...]
    made: int | None


class Costs:
    """The cost of a graph as a function of which units are cut.

    Each layer costs ``positions * weights that stay``; so it is a product of widths, linear in each.
    """

    def __init__(self, model: ir.Model, channels: Channels, budget: Budget) -> None:
        self._channels = channels
        self._axes: list[Ids] = []
        self._terms: list[_Term] = []
        self._panel = budget.panel if budget.measure == "ms" else 1
        for node in model.graph:
            for part in _count(node, budget.measure):
                self._add(node, *part)
        if budget.measure == "ms":
            self._spread(budget.times or {})
        self._full = np.array([ids.size for ids in self._axes], np.int64)

    def _add(self, node: ir.Node, index: int | None, cost: float) -> None:
        axes, made = [], None
        if index is None:
            found = self._channels.values.get(node.outputs[0])
            if found is not None and found.size > 1:
                axes.append(self._keep_axis(found))
        else:
            for slab in self._channels.slabs:
                if slab.node is node and slab.index == index:
                    axes.append(self._keep_axis(slab.ids))
                    if slab.role.name != "READS":
                        made = axes[-1]
        self._terms.append(_Term(str(node.name), cost, tuple(axes), made))

    def _keep_axis(self, ids: Ids) -> int:
        self._axes.append(self._channels.variables.roots(ids).reshape(-1))
        return len(self._axes) - 1

    def _spread(self, times: Mapping[str, float]) -> None:
        """Gives the terms of each node its time, by their products."""
        sums: dict[str, float] = {}
        for term in self._terms:
            sums[term.node] = sums.get(term.node, 0.0) + term.cost
        self._terms = [
            _Term(
                term.node,
                times.get(term.node, 0.0) * term.cost / max(sums[term.node], 1e-30),
                term.axes,
                term.made,
            )
            for term in self._terms
        ]

    def widths(self, units: Sequence[int]) -> Counts:
        """Returns how many elements of each axis the first n of ``units`` have, ``[axes, n + 1]``."""
        found = np.zeros((len(self._axes), len(units) + 1), np.int64)
        place = {unit: i + 1 for i, unit in enumerate(units)}
        for axis, ids in enumerate(self._axes):
            roots, counts = np.unique(ids, return_counts=True)
            for unit, count in zip(roots.tolist(), counts.tolist(), strict=True):
                if unit in place:
                    found[axis, place[unit]] = count
        return np.cumsum(found, axis=1)

    def total(self, gone: Counts) -> float:
        """Returns the cost when so many elements of each axis are gone."""
        return sum(self.by_node(gone).values())

    def by_node(self, gone: Counts) -> dict[str, float]:
        """Returns the cost of each node when so many elements of each axis are gone."""
        shares = (self._full - gone) / np.maximum(self._full, 1)
        found: dict[str, float] = {}
        for term in self._terms:
            cost = term.cost
            for axis in term.axes:
                if axis == term.made and self._panel > 1:
                    full, left = self._full[axis], self._full[axis] - gone[axis]
                    cost *= math.ceil(left / self._panel) / math.ceil(full / self._panel)
                else:
                    cost *= float(shares[axis])
            found[term.node] = found.get(term.node, 0.0) + cost
        return found

    def nothing(self) -> Counts:
        """Returns what no cut takes."""
        return np.zeros(len(self._axes), np.int64)


def _count(node: ir.Node, measure: Measure) -> list[tuple[int | None, float]]:
    """Returns by which input a node has weights and what they cost; products of values have no such input."""
    found: list[tuple[int | None, float]] = []
    for index in _WEIGHTS.get(node.op_type, ()):
        array = constant(node.inputs[index]) if len(node.inputs) > index else None
        if array is not None:
            positions = 1.0 if measure == "bytes" else _positions(node)
            found.append((index, positions * array.size))
    if node.op_type == "MatMul" and not found and measure != "bytes":
        source = node.inputs[0]
        depth = _sizes(source)[-1:] if source is not None else []
        found.append((None, math.prod(_sizes(node.outputs[0])) * math.prod(depth)))
    return found


def _positions(node: ir.Node) -> float:
    """Returns how often each weight is multiplied; open dimensions count as 1."""
    source = node.inputs[0]
    if node.op_type == "Conv":
        sizes = _sizes(node.outputs[0])
        return math.prod(sizes[:1] + sizes[2:])
    if source is None:
        return 1.0
    sizes = _sizes(source)
    if node.op_type == "ConvTranspose":
        return math.prod(sizes[:1] + sizes[2:])
    return math.prod(sizes[:-1])


def _sizes(value: ir.Value) -> list[int]:
    if value.shape is None:
        return []
    return [dim if isinstance(dim, int) else 1 for dim in value.shape]
