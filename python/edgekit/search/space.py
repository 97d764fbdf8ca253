"""The plans that a search chooses between: a number format for each part of a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import Part, spell_formats

FLOAT32 = NumberFormat.FLOAT32
REASON = "the search left it float32"


@dataclass(frozen=True)
class Choice:
    """One plan: formats by the names of parts; a part that is missing is float32."""

    formats: tuple[tuple[str, NumberFormat], ...]

    @classmethod
    def of(cls, formats: Mapping[str, NumberFormat]) -> Choice:
        """Makes it of a mapping, in one order."""
        return cls(tuple(sorted((name, f) for name, f in formats.items() if f is not FLOAT32)))

    @property
    def by_part(self) -> dict[str, NumberFormat]:
        """The mapping."""
        return dict(self.formats)

    def spell(self, parts: Sequence[Part]) -> list[NumberFormat]:
        """Returns the formats of ``parts``, in their order."""
        formats = self.by_part
        return [formats.get(part.name, FLOAT32) for part in parts]

    @property
    def digest(self) -> str:
        """SHA-256 of it, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()

    def to_dict(self) -> dict[str, str]:
        """Returns names of formats by the names of parts."""
        return {name: format.value for name, format in self.formats}


@dataclass(frozen=True)
class Spelled:
    """A plan as `build_forms` takes it.

    Attributes:
        keep_float: Names of nodes whose activations are float32, and why.
        dynamic: Those of them whose rows get codes at run time.
        formats: Of nodes that are neither of these nor int8.
    """

    keep_float: dict[str, str]
    dynamic: frozenset[str]
    formats: dict[str, NumberFormat]


def spell(graph: ir.Graph, parts: Sequence[Part], choice: Choice) -> Spelled:
    """Returns what ``choice`` says of each node."""
    spelled = spell_formats(graph, parts, choice.by_part)
    plain = (FLOAT32, NumberFormat.INT8_ROWS)
    return Spelled(
        {name: REASON for name, format in spelled.items() if format in plain},
        frozenset(n for n, format in spelled.items() if format is NumberFormat.INT8_ROWS),
        {name: format for name, format in spelled.items() if format not in plain},
    )


def group_parts(parts: Sequence[Part], choices: Sequence[Choice], most: int) -> list[list[Part]]:
    """Returns parts in groups that have one format in each of ``choices``, in graph order.

    So a study that chooses formats of groups can begin with these choices. Where there are more than ``most`` groups,
    those of which the fewest choices tell them apart are one: they keep the formats of the larger.
    """
    groups: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        said = tuple(choice.by_part.get(part.name, FLOAT32) for choice in choices)
        groups.setdefault((part.formats, *said), []).append(part)
    while len(groups) > max(most, 1):
        keys = list(groups)
        pairs = [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :] if a[0] == b[0]]
        if not pairs:
            break
        a, b = min(pairs, key=lambda pair: sum(x != y for x, y in zip(*pair, strict=True)))
        kept, lost = (a, b) if len(groups[a]) >= len(groups[b]) else (b, a)
        groups[kept] += groups.pop(lost)
    return list(groups.values())
