"""What a plan would take and lose, added up from its parts: it orders plans before they are built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import MOVES
from edgekit.converters.sensitivity import Part
from edgekit.search.part_costs import PartCosts
from edgekit.search.space import FLOAT32
from edgekit.sensitivity import Sensitivity

# What values are between operators: int8 codes, int16 codes, float32, or whichever of codes and float32 there is.
_CODES, _WIDE, _REAL, _EITHER = range(4)
_CLAMPS = ("Clip", "Relu")
# So many times float32's time are more than conversions around it take.
_SLOW = 1.5
_SUMS = ("Add", "Add+Clip", "Add+Relu")


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
        in_parts: Of layers whose codes come in parts, what they take beyond ``microseconds``.
        twice: By the places of two parts, the noise of the one's codes that the other reads: it is in the noise of both
            where both are int8.
    """

    parts: tuple[Part, ...]
    microseconds: Mapping[tuple[str, NumberFormat], float]
    bytes: Mapping[tuple[str, NumberFormat], float]
    noise: Mapping[tuple[str, NumberFormat], float]
    links: tuple[Link, ...]
    quantize: float
    dequantize: float
    in_parts: PartCosts = field(default_factory=PartCosts)
    twice: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def noise_of(self, formats: Sequence[NumberFormat]) -> float:
        """Returns the noise of a plan, as that of its parts adds up, by formats in the order of the parts."""
        own = sum(
            self.noise.get((part.name, format), 0.0)
            for part, format in zip(self.parts, formats, strict=True)
        )
        return max(own - sum(self.shared_by(pair, formats) for pair in self.twice), 0.0)

    def shared_by(self, pair: tuple[int, int], formats: Sequence[NumberFormat]) -> float:
        """Returns the noise that both of two parts have, though it is made once."""
        if all(formats[place] is NumberFormat.INT8 for place in pair):
            return self.twice[pair]
        return 0.0

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
        """Returns the microseconds of the conversions of one value, and what layers take longer that want others."""
        read = {self._find_read(link, reader, formats) for reader in link.readers}
        made = self._find_made(link.maker, formats)
        extra = total = 0.0
        if made == _EITHER:
            # Such a layer writes codes where only they are wanted, and one product has them all.
            adds = self._adds_products(link.maker, formats)
            made = _CODES if read == {_CODES} and not adds else _REAL
            if made == _REAL:
                maker = self.parts[link.maker]
                extra += (1 + adds) * self.in_parts.writing[maker.name, formats[link.maker]]
                if _REAL in read and maker.kinds.endswith(_CLAMPS):
                    # What reads codes of any kind is done with a clamp for nothing.
                    total += self.dequantize
        for other in read - {made, _EITHER}:
            total += self.dequantize if other == _REAL else self.quantize
            if _REAL not in (made, other):
                total += self.dequantize
        if _EITHER in read and made != _CODES:
            total += self.dequantize if made == _WIDE and _REAL not in read else 0.0
            taken = [r for r in link.readers if self._find_read(link, r, formats) == _EITHER]
            extra += sum(self.in_parts.reading[self.parts[r].name, formats[r]] for r in taken)
            total += sum(self.in_parts.making.get(f, 0.0) for f in {formats[r] for r in taken})
        return extra + link.elements * total

    def _adds_products(self, place: int, formats: Sequence[NumberFormat]) -> bool:
        """Returns whether a part with weights in two reads codes, each of which then is a product of its own."""
        if formats[place] is not NumberFormat.INT12_WEIGHTS:
            return False
        sources = {link.maker for link in self.links if place in link.readers}
        return _CODES in {self._find_made(source, formats) for source in sources}

    def _find_made(self, place: int, formats: Sequence[NumberFormat]) -> int:
        """Returns what a part writes."""
        if place < 0 or not (formats[place].is_static or formats[place].has_parts):
            return _REAL
        if formats[place].has_parts:
            part = self.parts[place]
            if (part.name, formats[place]) in self.in_parts.writing:
                return _EITHER
            return _REAL if part.kinds in _SUMS else _CODES
        return _WIDE if formats[place] is NumberFormat.INT16 else _CODES

    def _find_read(self, link: Link, place: int, formats: Sequence[NumberFormat]) -> int:
        """Returns what a part wants to read; what leaves the network is float32."""
        if place >= 0 and formats[place].has_parts:
            if (self.parts[place].name, formats[place]) not in self.in_parts.reading:
                return _REAL
            is_given = link.maker < 0 and formats[place] is NumberFormat.INT12
            return _CODES if is_given else _EITHER
        return self._find_made(place, formats)

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


@dataclass(frozen=True)
class PartTimes:
    """What parts and conversions between them take.

    Attributes:
        microseconds: By part and format.
        rates: Microseconds of an element that becomes a code, and a float32 again.
        in_parts: Of layers whose codes come in parts.
    """

    microseconds: Mapping[tuple[str, NumberFormat], float]
    rates: tuple[float, float]
    in_parts: PartCosts

    def list_useless(self, parts: Sequence[Part]) -> set[tuple[str, NumberFormat]]:
        """Returns formats that save parts no time beside float32.

        These are codes in parts, where they take much longer, and of sums, which add float32 in any case.
        """
        return {
            (part.name, format)
            for part in parts
            for format in part.formats
            if format.has_parts
            and (
                part.kinds in _SUMS
                or self.microseconds.get((part.name, format), 0.0)
                > _SLOW * self.microseconds.get((part.name, FLOAT32), math.inf)
            )
        }


def sum_parts(
    parts: Sequence[Part],
    layers: Mapping[NumberFormat, Mapping[str, float]],
    rates: tuple[float, float],
    in_parts: PartCosts,
) -> PartTimes:
    """Returns what parts take.

    Args:
        parts: Of a network.
        layers: Microseconds of nodes by name, where all layers that can be have the format.
        rates: Microseconds of an element that becomes a code, and a float32 again.
        in_parts: Of layers whose codes come in parts.
    """
    microseconds = {
        (part.name, format): sum(times.get(name, 0.0) for name in part.nodes)
        for part in parts
        for format, times in layers.items()
        if format is FLOAT32 or format in part.formats
    }
    return PartTimes({**microseconds, **in_parts.plain}, rates, in_parts)


def make_costs(graph: ir.Graph, sensitivity: Sensitivity, times: PartTimes) -> Costs:
    """Puts together what was measured of a float model's parts."""
    parts, effects = sensitivity.parts, sensitivity.effects
    noise = {key: effect.distance for key, effect in effects.items()}
    links = find_links(graph, parts)
    return Costs(
        parts,
        times.microseconds,
        {key: float(effect.plan_bytes) for key, effect in effects.items()},
        noise,
        links,
        *times.rates,
        times.in_parts,
        find_twice(parts, links, noise, times.in_parts),
    )


def find_twice(
    parts: Sequence[Part],
    links: Sequence[Link],
    noise: Mapping[tuple[str, NumberFormat], float],
    in_parts: PartCosts,
) -> dict[tuple[int, int], float]:
    """Returns what the codes between two parts cost the answers, where that is known, by their places.

    A layer in 12x8 that writes codes in any case differs from one in int8 by the codes that it reads alone. Of what
    writes these codes for it alone they are the output.
    """
    found = {}
    int8, half = NumberFormat.INT8, NumberFormat.INT12
    for link in links:
        if link.maker < 0 or len(link.readers) != 1 or link.readers[0] < 0:
            continue
        name, maker = parts[link.readers[0]].name, parts[link.maker].name
        known = (name, int8) in noise and (name, half) in noise and (maker, int8) in noise
        if not known or (name, half) in in_parts.writing or (name, half) not in in_parts.plain:
            continue
        between = noise[name, int8] - noise[name, half]
        found[link.maker, link.readers[0]] = min(max(between, 0.0), noise[maker, int8])
    return found
