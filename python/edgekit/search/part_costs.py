"""What layers whose codes come in parts take, by what they read and what is made of their results.

Such a layer reads codes as they are, or float32 in parts, which is one product more and the parts to make; it writes
codes where only these are read, and float32 otherwise (docs/number-formats.md, "12x8 and 12x12").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.part_program import QuantizeParts
from edgekit.converters.program import Program, Reshape
from edgekit.converters.quantizable import is_depthwise, is_layer
from edgekit.converters.sensitivity import Part
from edgekit.costs.layer_costs import find_owners

Key = tuple[str, NumberFormat]


@dataclass
class PartCosts:
    """Microseconds of parts, by name and format.

    Attributes:
        plain: What they take where they read codes and write codes.
        reading: What they take longer where they read float32, of those that can read either.
        writing: What they take longer where they write float32, of those that can write either.
        making: By format, of an element whose code is taken apart.
    """

    plain: dict[Key, float] = field(default_factory=dict)
    reading: dict[Key, float] = field(default_factory=dict)
    writing: dict[Key, float] = field(default_factory=dict)
    making: dict[NumberFormat, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """A program and the microseconds of its operators."""

    program: Program
    times: Sequence[float]


def find_part_costs(
    graph: ir.Graph,
    parts: Sequence[Part],
    whole: Mapping[NumberFormat, Timed],
    but_depthwise: Mapping[NumberFormat, Timed],
) -> PartCosts:
    """Returns what layers take, of networks whose layers all have the format.

    Args:
        graph: Of the float model.
        parts: Of it.
        whole: By format, networks all of whose layers that can be have it: depthwise convolutions want float32.
        but_depthwise: The same with these in int8: they want codes.
    """
    found = PartCosts()
    nodes = {node.name or "": node for node in graph}
    for format, timed in but_depthwise.items():
        products = 3 if format is NumberFormat.INT12_WEIGHTS else 2
        inner = _sum(graph, timed)
        outer = _sum(graph, whole[format]) if format in whole else inner
        elements = inner.elements + outer.elements
        making = sum(inner.making.values()) + sum(outer.making.values())
        found.making[format] = making / max(elements, 1)
        for part in parts:
            layers = [name for name in part.nodes if name in nodes and is_layer(nodes[name])]
            if format not in part.formats or not layers:
                continue
            key = (part.name, format)
            if any(is_depthwise(nodes[name]) for name in layers):
                own = outer.of(part)
                # Of weights in parts there is no kernel that reads codes as they are.
                if format is NumberFormat.INT12:
                    takes_parts = outer.takes_parts(part)
                    found.plain[key] = own / products if takes_parts else own
                    found.reading[key] = found.plain[key]
                else:
                    found.plain[key] = own + outer.makes(part)
                continue
            own = inner.of(part)
            if inner.takes_parts(part):
                found.plain[key] = own * (products - 1) / products
                found.reading[key] = own / products
            else:
                found.plain[key] = own
                found.reading[key] = own / (products - 1)
            both = inner.takes_parts(part) == outer.takes_parts(part)
            found.writing[key] = max(outer.of(part) - own, 0.0) if both else 0.0
    return found


@dataclass(frozen=True)
class _Sums:
    """Microseconds by the names of nodes.

    Attributes:
        own: Of their operators, without those that take codes apart.
        making: Of these.
        elements: That these read.
        readers: Nodes that read what these write.
    """

    own: Mapping[str, float]
    making: Mapping[str, float]
    elements: int
    readers: frozenset[str]

    def of(self, part: Part) -> float:
        return sum(self.own.get(name, 0.0) for name in part.nodes)

    def makes(self, part: Part) -> float:
        return sum(self.making.get(name, 0.0) for name in part.nodes)

    def takes_parts(self, part: Part) -> bool:
        return not self.readers.isdisjoint(part.nodes)


def _sum(graph: ir.Graph, timed: Timed) -> _Sums:
    own: dict[str, float] = {}
    making: dict[str, float] = {}
    elements = 0
    parted: set[str] = set()
    readers: set[str] = set()
    owners = find_owners(graph, timed.program)
    for op, owner, time in zip(timed.program.ops, owners, timed.times, strict=True):
        if isinstance(op, QuantizeParts):
            making[owner] = making.get(owner, 0.0) + time
            elements += timed.program.tensors[op.input].size
            parted.add(op.output)
        elif not parted.isdisjoint(op.inputs):
            if isinstance(op, Reshape):
                # It has the name of the value whose codes these are.
                parted.add(op.output)
            else:
                readers.add(owner)
        if owner and not isinstance(op, QuantizeParts):
            own[owner] = own.get(owner, 0.0) + time
    return _Sums(own, making, elements, frozenset(readers))
