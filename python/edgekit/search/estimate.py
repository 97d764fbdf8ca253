"""What a plan would take and lose, added up from its parts: it orders plans before they are built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import MOVES
from edgekit.converters.sensitivity import Part
from edgekit.search.space import FLOAT32
from edgekit.sensitivity import Sensitivity

# What values are between operators: int8 codes, int16 codes, float32, or whichever of codes and float32 there is.
_CODES, _WIDE, _REAL, _EITHER = range(4)


@dataclass(frozen=True)
class Link:
    """A value and who makes and reads it: places in the list of parts, -1 for what always is float32."""

    maker: int
    readers: tuple[int, ...]
    elements: int


@dataclass(frozen=True)
class Costs:
    """What parts and conversions between them cost.

    Attributes:
        parts: In graph order.
        microseconds: By part and format.
        bytes: By part and format, beside all in float32.
        noise: By part and format.
        links: Values between parts.
        quantize, dequantize: Microseconds of an element that becomes a code, and a float32 again.
    """

    parts: tuple[Part, ...]
    microseconds: Mapping[tuple[str, NumberFormat], float]
    bytes: Mapping[tuple[str, NumberFormat], float]
    noise: Mapping[tuple[str, NumberFormat], float]
    links: tuple[Link, ...]
    quantize: float
    dequantize: float

    def list_formats(self, part: Part) -> list[NumberFormat]:
        """Returns the formats of which everything is known."""
        known = [
            f
            for f in part.formats
            if (part.name, f) in self.microseconds.keys() & self.noise.keys()
        ]
        return [*known, FLOAT32]

    def of_part(
        self, part: Part, format: NumberFormat, noise_price: float, byte_price: float
    ) -> float:
        """Returns the price of a part by itself, in microseconds."""
        key = (part.name, format)
        return (
            self.microseconds.get(key, 0.0)
            + noise_price * self.noise.get(key, 0.0)
            + byte_price * self.bytes.get(key, 0.0)
        )

    def of_link(self, link: Link, formats: Sequence[NumberFormat]) -> float:
        """Returns the microseconds of the conversions of one value."""

        def domain(place: int) -> int:
            if place >= 0 and formats[place].has_parts:
                return _EITHER
            if place < 0 or not formats[place].is_static:
                return _REAL
            return _WIDE if formats[place] is NumberFormat.INT16 else _CODES

        made = domain(link.maker)
        total = 0.0
        # A layer whose codes come in parts reads codes as they are, and writes them where only they are wanted.
        read = {domain(reader) for reader in link.readers} - {_EITHER}
        if made == _EITHER:
            made = _REAL if len(read) > 1 else next(iter(read), _REAL)
        for other in read - {made}:
            total += self.dequantize if other == _REAL else self.quantize
            if _REAL not in (made, other):
                total += self.dequantize
        return link.elements * total

    def microseconds_of(self, formats: Sequence[NumberFormat]) -> float:
        """Returns the microseconds of a plan, by formats in the order of the parts."""
        own = sum(
            self.microseconds.get((part.name, format), 0.0)
            for part, format in zip(self.parts, formats, strict=True)
        )
        return own + sum(self.of_link(link, formats) for link in self.links)


def find_links(graph: ir.Graph, parts: Sequence[Part]) -> tuple[Link, ...]:
    """Returns the values between parts; what only moves elements is seen through."""
    homes = {name: place for place, part in enumerate(parts) for name in part.nodes}
    found = []
    for value in (*graph.inputs, *(out for node in graph for out in node.outputs)):
        maker = value.producer()
        if maker is not None and maker.op_type in MOVES and maker.name not in homes:
            continue
        home = -1 if maker is None else homes.get(maker.name or "", -1)
        readers = {place for place in _list_readers(value, homes) if place != home or place < 0}
        if readers and constant(value) is None:
            found.append(Link(home, tuple(sorted(readers)), _count(value)))
    return tuple(found)


def _list_readers(value: ir.Value, homes: Mapping[str, int]) -> set[int]:
    readers = {-1} if value.is_graph_output() else set[int]()
    for use in value.uses():
        node = use.node
        if node.op_type in MOVES and (node.name or "") not in homes:
            for output in node.outputs:
                readers |= _list_readers(output, homes)
        else:
            readers.add(homes.get(node.name or "", -1))
    return readers


def _count(value: ir.Value) -> int:
    shape = value.shape or ()
    return math.prod(size if isinstance(size, int) else 1 for size in shape)


def make_costs(
    graph: ir.Graph,
    sensitivity: Sensitivity,
    layers: Mapping[NumberFormat, Mapping[str, float]],
    rates: tuple[float, float],
) -> Costs:
    """Puts together what was measured.

    Args:
        graph: Of the float model.
        sensitivity: Of it.
        layers: Microseconds of nodes by name, where all layers that can be have the format.
        rates: Microseconds of an element that becomes a code, and a float32 again.
    """
    parts = sensitivity.parts
    microseconds = {
        (part.name, format): sum(times.get(name, 0.0) for name in part.nodes)
        for part in parts
        for format, times in layers.items()
        if format is FLOAT32 or format in part.formats
    }
    effects = sensitivity.effects
    return Costs(
        parts,
        microseconds,
        {key: float(effect.plan_bytes) for key, effect in effects.items()},
        {key: effect.noise for key, effect in effects.items()},
        find_links(graph, parts),
        *rates,
    )
