"""What was measured of each part of a network in each number format."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.choosing.closest import to_decibels
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import Part

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

# Columns of the longest name that is not folded, and what a table's edges and its first two columns have around them.
_NAMES = 40
_EDGES = 8


@dataclass(frozen=True)
class Effect:
    """One part in one format, all others in float32.

    Attributes:
        noise: Power of the differences at the output over that of float's answers, of the output that suffers most.
        divergence: Kullback-Leibler divergence of the answers from float's, in nats; None where they are no chances.
        plan_bytes: How much larger the plan is than all in float32: below 0 where it is smaller.
        accuracy: What the caller's measure says, None where there is none.
        moved: The share of answers that may be others, where outputs are distributions alone
            (`edgekit.converters.changed_answers.share_unsettled`); None elsewhere.
    """

    noise: float
    divergence: float | None
    plan_bytes: int
    accuracy: float | None = None
    moved: float | None = None

    @property
    def distance(self) -> float:
        """What adds up over parts: the square of the share that moved, or the noise where there is none."""
        return self.noise if self.moved is None else self.moved**2

    @property
    def snr_db(self) -> float:
        """The noise in decibels below the answers."""
        return to_decibels(self.noise)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "noise": self.noise,
            "snr_db": self.snr_db,
            "divergence": self.divergence,
            "plan_bytes": self.plan_bytes,
            "accuracy": self.accuracy,
            "moved": self.moved,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Effect:
        """Reads what `to_dict` made.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        divergence, accuracy, moved = (facts[key] for key in ("divergence", "accuracy", "moved"))
        return cls(
            float(facts["noise"]),
            None if divergence is None else float(divergence),
            int(facts["plan_bytes"]),
            None if accuracy is None else float(accuracy),
            None if moved is None else float(moved),
        )


@dataclass(frozen=True)
class Sensitivity:
    """What each part of a network costs the answers in each format that it can have.

    Attributes:
        parts: In graph order.
        effects: By the name of a part and the format.
        refused: Formats that the native form cannot hold there, and why.
        samples: How many it was measured on.
        float_accuracy: What the caller's measure says of float, None where there is none.
        recalled: How many of the effects were in the cache.
    """

    parts: tuple[Part, ...]
    effects: Mapping[tuple[str, NumberFormat], Effect]
    refused: Mapping[tuple[str, NumberFormat], str] = field(default_factory=dict)
    samples: int = 0
    float_accuracy: float | None = None
    recalled: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "samples": self.samples,
            "float_accuracy": self.float_accuracy,
            "parts": [
                {
                    "name": part.name,
                    "kinds": part.kinds,
                    "nodes": list(part.nodes),
                    "formats": {
                        format.value: self.effects[part.name, format].to_dict()
                        for format in part.formats
                        if (part.name, format) in self.effects
                    },
                    "refused": {
                        format.value: why
                        for (name, format), why in self.refused.items()
                        if name == part.name
                    },
                }
                for part in self.parts
            ],
        }

    def __str__(self) -> str:
        """Returns the table as plain text, as wide as its formats need."""
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=60 + 26 * len(self._formats), no_color=True).print(self)
        return text.getvalue()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields a table, or several that fit, with as many formats each as the width has room for."""
        from edgekit.report import make_table

        ordered = sorted(self.parts, key=lambda part: -self._loudest(part))
        left = [part.name for part in ordered], [part.kinds for part in ordered]
        columns = {
            format.value: [self._tell(self.effects.get((part.name, format))) for part in ordered]
            for format in self._formats
        }
        title = f"answers over noise where one layer alone has the format, {self.samples} samples"
        # Names may be folded, since paths of modules are long.
        room = options.max_width - _EDGES
        room -= min(_wide(["layer", *left[0]]), _NAMES) + _wide(["operators", *left[1]])
        for names in _in_widths({name: _wide([name, *columns[name]]) for name in columns}, room):
            table = make_table(title, "layer", "operators", *names)
            for row in zip(*left, *(columns[name] for name in names), strict=True):
                table.add_row(*row)
            yield table
            title = ""

    @property
    def _formats(self) -> list[NumberFormat]:
        return [f for f in NumberFormat if any((p.name, f) in self.effects for p in self.parts)]

    def _loudest(self, part: Part) -> float:
        return max(
            (self.effects[key].noise for key in self.effects if key[0] == part.name), default=0
        )

    def _tell(self, effect: Effect | None) -> str:
        if effect is None:
            return "-"
        told = f"{effect.snr_db:.1f} dB"
        if effect.divergence is not None:
            told += f", {effect.divergence:.1e} nats"
        if effect.accuracy is not None:
            told += f", {effect.accuracy:.4g}"
        return told


def _wide(cells: Iterable[str]) -> int:
    return max(map(len, cells), default=0)


def _in_widths(columns: Mapping[str, int], room: int) -> Iterator[list[str]]:
    """Yields names of columns, as many at once as fit, each of them with two spaces and a line beside it."""
    taken: list[str] = []
    left = room
    for name, width in columns.items():
        if taken and left < width + 3:
            yield taken
            taken, left = [], room
        taken.append(name)
        left -= width + 3
    yield taken
