"""What can be cut from a graph: units of elements that go together, and the constants that they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.element_sets.variables import PINNED, Ids, Variables

Kept = npt.NDArray[np.bool_]


class Role(Enum):
    """What the slices of a constant do: they make channels, read them, or lie along them."""

    MAKES = auto()
    READS = auto()
    ALONG = auto()


@dataclass(frozen=True, eq=False)
class Slab:
    """A constant whose slices along one dimension go with channels.

    Attributes:
        node: The node that reads it.
        index: As which input.
        axis: The dimension.
        ids: The variable of each slice.
        role: What slices do.
        repeats: How often channels follow one another, as once for each gate.
    """

    node: ir.Node
    index: int
    axis: int
    ids: Ids
    role: Role
    repeats: int = 1


@dataclass(frozen=True, eq=False)
class Space:
    """Units that are channels of the same layers, as those of all convolutions that a sum joins.

    Attributes:
        units: Those that can be cut, rising.
        fixed: Channels beside them that cannot.
        width: Channels that a unit has in a layer, where it has fewest.
        layers: Names of the nodes that make them.
    """

    units: tuple[int, ...]
    fixed: int
    width: int
    layers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Channels:
    """The units of a graph's channels.

    A unit is a set of elements of values and of slices of constants that can be cut together, and only together. Its
    readers are the layers that sum over it: a graph whose readers have zeros for some units answers as one without
    these units.

    Attributes:
        variables: Elements and which of them are one; the set of 0 stays.
        values: Variables of each value, of size 1 along all dimensions but one.
        slabs: The constants, in graph order.
    """

    variables: Variables
    values: dict[ir.Value, Ids]
    slabs: list[Slab]

    def units_of(self, slab: Slab) -> Ids:
        """Returns the unit of each slice; ``PINNED`` where it stays."""
        return self.variables.roots(slab.ids)

    def kept(self, ids: Ids, cut: frozenset[int]) -> Kept:
        """Returns which elements stay when units are cut."""
        found: Kept = ~np.isin(self.variables.roots(ids), list(cut))
        return found

    @cached_property
    def units(self) -> frozenset[int]:
        """The units that can be cut: some layer makes and some layer reads them, and no value ends with one."""
        found = {role: self._gather_units(role) for role in Role}
        whole = {PINNED}
        for ids in self.values.values():
            roots = np.unique(self.variables.roots(ids))
            if roots.size == 1:
                whole.add(int(roots[0]))
        return frozenset((found[Role.MAKES] & found[Role.READS]) - whole)

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """All units, by the layers that make them, in graph order."""
        parent: dict[int, int] = {}

        def root(unit: int) -> int:
            while parent[unit] != unit:
                unit = parent[unit]
            return unit

        makers = [slab for slab in self.slabs if slab.role is Role.MAKES]
        for slab in makers:
            found = [int(u) for u in np.unique(self.units_of(slab)) if u in self.units]
            for unit in found:
                parent.setdefault(unit, unit)
                low, high = sorted((root(found[0]), root(unit)))
                parent[high] = low
        members: dict[int, list[int]] = {}
        for unit in sorted(parent):
            members.setdefault(root(unit), []).append(unit)
        spaces = []
        for units in members.values():
            own = [slab for slab in makers if np.isin(self.units_of(slab), units).any()]
            widths, fixed = [], []
            for slab in own:
                roots = self.units_of(slab)
                if slab.index == 1 and np.isin(units, roots).all():
                    counts = np.bincount(np.searchsorted(units, roots[np.isin(roots, units)]))
                    widths.append(int(counts.min()) // slab.repeats)
                    fixed.append(int((~np.isin(roots, units)).sum()) // slab.repeats)
            names = dict.fromkeys(str(slab.node.name) for slab in own)
            spaces.append(
                Space(tuple(units), min(fixed, default=0), min(widths, default=1), tuple(names))
            )
        return tuple(spaces)

    def _gather_units(self, role: Role) -> set[int]:
        found = [self.units_of(slab) for slab in self.slabs if slab.role is role]
        return set(np.concatenate(found).tolist()) if found else set()

    def empties(self, cut: frozenset[int]) -> bool:
        """Returns whether some value would have no element left."""
        return any(not self.kept(ids, cut).any() for ids in self.values.values())
