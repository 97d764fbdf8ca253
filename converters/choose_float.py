"""Chooses which nodes stay float32 because that is faster, conversions counted: a minimum cut of the graph.

Each node is on the side of int8 or of float32, at the cost that it has there. A value that one side makes and the other
reads is converted once, at a cost. The cheapest assignment is the minimum cut of a network of flows (Greig, Porteous
and Seheult, 1989), found exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import (
    ARRANGES,
    CLAMPABLE,
    MOVES,
    has_recurrent_codes,
    obstacle,
)
from edgekit.converters.regions import find_regions


@dataclass(frozen=True)
class Costs:
    """What nodes and conversions cost, in any one unit.

    Attributes:
        int8: Of a node by its name, in int8; 0 where it is missing, as of a node that runs inside another.
        real: The same in float32.
        quantize: Of an element that goes from float32 to codes.
        dequantize: Of an element that goes from codes to float32.
        elements: Of a value by its name; the product of its shape where it is missing.
        noise: Of a value by its name: what it costs, besides, that it is held in codes anywhere. That of a recurrent
            node's weights is under `weights_of`.
    """

    int8: Mapping[str, float]
    real: Mapping[str, float]
    quantize: float
    dequantize: float
    elements: Mapping[str, int] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)


def weights_of(node: ir.Node) -> str:
    """Returns under which name the noise of a recurrent node's weights is kept."""
    return f"{node.name}:weights"


def choose_float(graph: ir.Graph, costs: Costs, *, margin: float = 1.0) -> frozenset[str]:
    """Returns the names of nodes that int8 could hold and that are better left float.

    A recurrent node reads and writes floats either way: whether its weights are int8 is a choice of its own.

    Args:
        graph: Of a simplified float model.
        costs: What its nodes cost.
        margin: By how much int8 is preferred: float32 has to be so many times faster.
    """
    units = find_units(graph)
    flow = _Flow()
    for node in graph:
        unit, name = units[node], node.name or ""
        flow.add("int8", unit, margin * costs.real.get(name, 0.0))
        forced = obstacle(node) is not None and not _in_region(node, units)
        flow.add(unit, "float", math.inf if forced else costs.int8.get(name, 0.0))
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        # As in quantize.
        if node.op_type in ARRANGES and source is not None:
            flow.add(unit, units[source], math.inf)
    for value in _values(graph):
        maker = value.producer()
        readers = {units[use.node] for use in value.uses()}
        if maker is not None:
            readers.discard(units[maker])
        owner = "float" if maker is None else units[maker]
        noise = costs.noise.get(_root_name(value), 0.0)
        if maker is not None and maker.op_type not in MOVES:
            flow.add(units[maker], "float", noise)
        size = costs.elements.get(str(value.name)) or _size(value)
        if value.is_graph_output() and maker is not None:
            flow.add(units[maker], "float", size * costs.dequantize)
        if not readers:
            continue
        flow.add(owner, ("to float", value), size * costs.dequantize)
        flow.add(("to int8", value), owner, size * costs.quantize + noise)
        for reader in readers:
            flow.add(("to float", value), reader, math.inf)
            flow.add(reader, ("to int8", value), math.inf)
    kept = flow.behind_minimum_cut("int8", "float")
    return frozenset(
        node.name or ""
        for node in graph
        if (
            _is_recurrence_float(node, costs, margin)
            if has_recurrent_codes(node)
            else units[node] in kept and (obstacle(node) is None or _in_region(node, units))
        )
    )


def _is_recurrence_float(node: ir.Node, costs: Costs, margin: float) -> bool:
    """Returns whether a recurrent node is better left with float weights."""
    name = node.name or ""
    coded = costs.int8.get(name, 0.0) + costs.noise.get(weights_of(node), 0.0)
    return coded > margin * costs.real.get(name, 0.0)


def choose_at_price(
    graph: ir.Graph,
    costs: Costs,
    noise: Mapping[str, float],
    price: float,
    *,
    margin: float = 1.0,
) -> frozenset[str]:
    """Returns the nodes to leave float where noise is paid for like time.

    Every choice is the cheapest of those that leave no more noise than it does (Everett, "Generalized Lagrange
    multiplier method", 1963); the higher the price, the less is left.

    Args:
        graph: Of a simplified float model.
        costs: What its nodes cost.
        noise: Of a value by its name, where it is held in codes.
        price: Of a unit of noise, in the costs' unit.
        margin: As in `choose_float`.
    """
    priced = replace(costs, noise={name: price * power for name, power in noise.items()})
    return choose_float(graph, priced, margin=margin)


def noise_left(graph: ir.Graph, noise: Mapping[str, float], kept: Collection[str]) -> float:
    """Returns the sum of the noise of all values that are held in codes where the nodes ``kept`` are float."""
    units = find_units(graph)

    def is_float(node: ir.Node) -> bool:
        return node.name in kept or (obstacle(node) is not None and not _in_region(node, units))

    def is_held(value: ir.Value) -> bool:
        maker = value.producer()
        if maker is not None and not is_float(maker):
            return True
        readers = [use.node for use in value.uses()]
        return any(
            is_held(reader.outputs[0])
            if is_float(reader) and reader.op_type in MOVES
            else not is_float(reader)
            for reader in readers
        )

    return sum(noise.get(str(value.name), 0.0) for value in _values(graph) if is_held(value))


def find_units(graph: ir.Graph) -> dict[ir.Node, object]:
    """Returns what stands for each node: regions are one, and a clamp is one with what it clamps.

    Nodes for which the same stands are of one precision.
    """
    units: dict[ir.Node, object] = {}
    for region in find_regions(graph).values():
        for node in region.nodes:
            units[node] = ("region", region.nodes[-1])
    for node in graph:
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        clamps = (
            node.op_type in ("Relu", "Clip")
            and source is not None
            and len(source.outputs[0].uses()) == 1
            and source.op_type in CLAMPABLE
        )
        if clamps and source is not None:
            units[node] = units[source]
        else:
            units.setdefault(node, node)
    return units


def _in_region(node: ir.Node, units: Mapping[ir.Node, object]) -> bool:
    return isinstance(units[node], tuple)


def _values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _root_name(value: ir.Value) -> str:
    """Returns the name of the value whose codes ``value`` has: where codes only move, the one that they came from."""
    while True:
        maker = value.producer()
        source = None if maker is None or maker.op_type not in MOVES else maker.inputs[0]
        if source is None:
            return str(value.name)
        value = source


def _size(value: ir.Value) -> int:
    if constant(value) is not None or value.shape is None:
        return 0
    return math.prod(size if isinstance(size, int) else 1 for size in value.shape)


class _Flow:
    """A network of flows with capacities between any hashable points."""

    def __init__(self) -> None:
        self._rest: dict[object, dict[object, float]] = {}

    def add(self, a: object, b: object, capacity: float) -> None:
        """Adds capacity from ``a`` to ``b``."""
        if a == b:
            return
        forth = self._rest.setdefault(a, {})
        forth[b] = forth.get(b, 0.0) + capacity
        self._rest.setdefault(b, {}).setdefault(a, 0.0)

    def behind_minimum_cut(self, source: object, sink: object) -> frozenset[object]:
        """Returns the points on the sink's side, by shortest augmenting paths (Edmonds and Karp, 1972)."""
        while True:
            before = self._search(source)
            if sink not in before:
                return frozenset(point for point in self._rest if point not in before)
            path = [sink]
            while path[-1] != source:
                path.append(before[path[-1]])
            path.reverse()
            steps = list(pairwise(path))
            amount = min(self._rest[a][b] for a, b in steps)
            if math.isinf(amount):
                raise ValueError("a node is bound to both sides")
            for a, b in steps:
                self._rest[a][b] -= amount
                self._rest[b][a] += amount

    def _search(self, source: object) -> dict[object, object]:
        before: dict[object, object] = {source: source}
        waiting = deque([source])
        while waiting:
            point = waiting.popleft()
            for other, rest in self._rest.get(point, {}).items():
                if rest > 1e-12 and other not in before:
                    before[other] = point
                    waiting.append(other)
        return before
