"""When zeros pay: the density of blocks at which a sparse kernel takes as long as a dense one, by shape.

Rows of ``break_even.toml`` beside this file, each measured or counted. Where there is none for an instruction set and a
block, there is no sparse kernel that pays.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.converters.prune.pattern import Blocks, KeepOfGroup, Pattern, parse_pattern
from edgekit.targets.errors import EdgekitError

_FILE = Path(__file__).with_name("break_even.toml")
# Of the dense kernel's time some is left, whatever a line through measured times says.
_LEAST_TIME = 0.01
_SOURCES = ("measured: ", "instructions: ")


@dataclass(frozen=True)
class Shape:
    """What a product costs by.

    Attributes:
        m: Output positions.
        k: Weights of an output channel.
        n: Output channels.
    """

    m: int
    k: int
    n: int

    def distance(self, other: Shape) -> float:
        """Returns how many octaves two shapes are apart, squared and summed up."""
        pairs = ((self.m, other.m), (self.k, other.k), (self.n, other.n))
        return sum(math.log2(max(a, 1) / max(b, 1)) ** 2 for a, b in pairs)


@dataclass(frozen=True)
class BreakEven:
    """A row of the table.

    Attributes:
        isa: Instruction set.
        block: What a kernel takes or leaves.
        shape: What was timed.
        density: Share of blocks at which both kernels take the same time.
        floor: What is left of the dense kernel's time where no block is.
        source: Where the row is from: "measured: CPU" or "instructions: what was counted".
    """

    isa: str
    block: Pattern
    shape: Shape
    density: float
    floor: float
    source: str

    def pays(self, density: float) -> bool:
        """Returns whether a sparse kernel is faster at this share of blocks."""
        return density < self.density

    def speedup(self, density: float) -> float:
        """Returns how many times faster than the dense kernel the sparse one is, by the straight line of the row."""
        return 1 / max(self.floor + (1 - self.floor) * density / self.density, _LEAST_TIME)


def find_break_even(
    isa: str, block: Pattern, shape: Shape, rows: Sequence[BreakEven] | None = None
) -> BreakEven | None:
    """Returns the row that is nearest to a shape, of those of this instruction set and block; None where there is none.

    A pure function of its arguments and the table. Of rows that are equally near it is the one with the lowest density.

    Args:
        isa: Instruction set of the plan.
        block: Of a kernel.
        shape: Of the layer.
        rows: The table; that of this version, if not given.
    """
    fitting = [row for row in _rows(rows) if row.isa == isa and row.block == block]
    if not fitting:
        return None
    return min(fitting, key=lambda row: (row.shape.distance(shape), row.density))


def find_best(
    isa: str,
    pattern: Pattern,
    density: float,
    shape: Shape,
    rows: Sequence[BreakEven] | None = None,
) -> BreakEven | None:
    """Returns what makes a layer of a pattern and density fastest, of the blocks that its blocks hold whole.

    Returns:
        The row, whose `pays` may still be false; None where no kernel of the instruction set can use the pattern.
    """
    blocks = {row.block for row in _rows(rows) if row.isa == isa}
    found = [
        row
        for block in blocks
        if serves(block, pattern) and (row := find_break_even(isa, block, shape, rows)) is not None
    ]
    return max(found, key=lambda row: (row.speedup(density), str(row.block)), default=None)


def _rows(given: Sequence[BreakEven] | None) -> Sequence[BreakEven]:
    return read_table() if given is None else given


def serves(block: Pattern, pattern: Pattern) -> bool:
    """Returns whether a kernel that skips ``block`` makes use of all zeros of ``pattern``.

    A block of 4 by 16 does so for blocks of 4 by 32, and 2:4 of 16 rows for 2:4 of 32 rows.
    """
    match block, pattern:
        case Blocks(rows, columns), Blocks(more_rows, more_columns):
            return more_rows % rows == 0 and more_columns % columns == 0
        case KeepOfGroup(keep, group, rows), KeepOfGroup(same_keep, same_group, more_rows):
            return (keep, group) == (same_keep, same_group) and more_rows % rows == 0
    return block == pattern


@cache
def read_table(path: Path = _FILE) -> tuple[BreakEven, ...]:
    """Returns the rows of a table.

    Raises:
        EdgekitError: The file is damaged; it names row and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgekitError(f"{path}: cannot be read: {error}") from error
    rows = table.pop("row", [])
    if table or not isinstance(rows, list):
        raise EdgekitError(f"{path}: it has rows, [[row]], and nothing else")
    return tuple(_read_row(row, f"{path}: row {index + 1}") for index, row in enumerate(rows))


def _read_row(row: Any, place: str) -> BreakEven:
    kinds = {
        "isa": str,
        "block": str,
        "m": int,
        "k": int,
        "n": int,
        "density": float,
        "floor": float,
        "source": str,
    }
    if not isinstance(row, dict) or row.keys() != kinds.keys():
        raise EdgekitError(f"{place}: it has the keys {', '.join(kinds)}")
    for key, kind in kinds.items():
        value = row[key]
        if isinstance(value, bool) or not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise EdgekitError(f"{place}: {key} is {value!r}")
    if min(row["m"], row["k"], row["n"]) < 1:
        raise EdgekitError(f"{place}: m, k and n are at least 1")
    if not 0 < row["density"] <= 1 or not 0 <= row["floor"] < 1:
        raise EdgekitError(f"{place}: density is above 0 and at most 1, floor from 0 to below 1")
    if not row["source"].startswith(_SOURCES):
        raise EdgekitError(f"{place}: source begins with {' or '.join(map(repr, _SOURCES))}")
    try:
        block = parse_pattern(row["block"])
    except EdgekitError as error:
        raise EdgekitError(f"{place}: {error}") from error
    shape = Shape(row["m"], row["k"], row["n"])
    return BreakEven(
        row["isa"], block, shape, float(row["density"]), float(row["floor"]), row["source"]
    )
