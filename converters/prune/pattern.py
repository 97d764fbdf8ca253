"""Where zeros lie that a kernel can use: N:M, blocks, or anywhere.

A layer's weights are a matrix here, ``[n, k]``: a row for each output channel, k along the inputs in the order in which
kernels read them, channels of one tap after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from edgekit.converters.compensate import masks
from edgekit.targets.errors import EdgekitError

_COUNT = re.compile(r"(\d+):(\d+)(?:x(\d+))?")
_BLOCK = re.compile(r"(\d+)x(\d+)")
# Beyond this no kernel has blocks, and no group fits the solver's window.
_MOST = 128


@dataclass(frozen=True)
class KeepOfGroup:
    """N:M: of each ``group`` weights along k at most ``keep`` are not 0, in the same places for ``rows`` rows.

    Attributes:
        keep: How many stay.
        group: Of so many.
        rows: Output channels that share their places.
    """

    keep: int
    group: int
    rows: int = 1

    def __str__(self) -> str:
        shared = "" if self.rows == 1 else f"x{self.rows}"
        return f"{self.keep}:{self.group}{shared}"

    def make_mask(self, density: float) -> masks.Mask:
        """Returns what the solver takes.

        Raises:
            EdgekitError: The pattern has another density.
        """
        if abs(density - self.density) > 1e-9:
            raise EdgekitError(f"{self} keeps {self.density:g} of the weights, not {density:g}")
        return masks.KeepOfGroup(self.keep, self.group, self.rows)

    @property
    def density(self) -> float:
        """The share of weights that it keeps."""
        return self.keep / self.group


@dataclass(frozen=True)
class Blocks:
    """Blocks of weights are 0, or none of theirs needs to be.

    Attributes:
        rows: Output channels of a block, n.
        columns: Weights of a block along k.
    """

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}"

    def make_mask(self, density: float) -> masks.Mask:
        """Returns what the solver takes to keep ``density`` of the blocks."""
        window = max(_MOST // self.columns, 1) * self.columns
        return masks.Blocks(density, self.rows, self.columns, window)


@dataclass(frozen=True)
class Unstructured:
    """Single weights are 0."""

    def __str__(self) -> str:
        return "unstructured"

    def make_mask(self, density: float) -> masks.Mask:
        """Returns what the solver takes to keep ``density`` of the weights."""
        return masks.Unstructured(density)


Pattern: TypeAlias = KeepOfGroup | Blocks | Unstructured


def parse_pattern(text: str) -> Pattern:
    """Reads a pattern: "2:4" keeps 2 of 4 along k, "4x32" is blocks of 4 (k) by 32 (n), or "unstructured".

    >>> parse_pattern("4x32")
    Blocks(rows=32, columns=4)

    Raises:
        EdgekitError: It is none.
    """
    if text == "unstructured":
        return Unstructured()
    if found := _COUNT.fullmatch(text):
        keep, group, rows = (int(part or 1) for part in found.groups())
        if 0 < keep < group <= _MOST and 0 < rows <= _MOST:
            return KeepOfGroup(keep, group, rows)
    if found := _BLOCK.fullmatch(text):
        columns, rows = (int(part) for part in found.groups())
        if 0 < columns <= _MOST and 0 < rows <= _MOST:
            return Blocks(rows, columns)
    raise EdgekitError(
        f"{text!r} is no pattern of zeros: 2:4 (2 of 4 weights along k stay), 4x32 (blocks of 4 along k by 32 output "
        f"channels; sides up to {_MOST}) or unstructured"
    )
