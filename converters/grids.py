"""Gives every quantized value its int8 grid; values between which codes only move share one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from edgekit.converters.calibrate import Range
from edgekit.converters.exact_sums import Term, settle_sum
from edgekit.converters.passes.fuse_clamps import Clamp, get_clamp
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import (
    FIXED,
    MOVES,
    SYMMETRIC_UNIT,
    activations,
    is_product,
)
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.regions import Region
from edgekit.targets.errors import ModelError

# A range that is smaller is noise, and would let multipliers leave float32.
_SMALLEST_SCALE = 2.0**-64
# Second matrices get a grid around 0, for which kernels have the fewest products to add, if their steps grow no more.
_CENTRED_STEP = 1.25
# Inputs of a Concat share one grid if none loses more than one bit by it.
_SHARED_WIDTH = 2.0
_SUMS = frozenset({"Add", "Sub"})
_UNBOUNDED = Clamp(-np.inf, np.inf)


class Grids:
    """Classes of values that share one grid (disjoint sets), each with a range or a fixed grid.

    Args:
        symmetric: Whether the zero point of every grid is 0. A clamp is then a bound of the codes.
    """

    def __init__(self, symmetric: bool = False) -> None:
        self._symmetric = symmetric
        self._parent: dict[ir.Value, ir.Value] = {}
        self._range: dict[ir.Value, Range] = {}
        self._clamp: dict[ir.Value, Clamp] = {}
        self._fixed: dict[ir.Value, ActivationQuantization] = {}
        self._centred: set[ir.Value] = set()

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._parent

    def add(self, value: ir.Value, found: Range) -> None:
        """Makes a class of ``value`` alone."""
        self._parent[value] = value
        self._range[value] = found
        self._clamp[value] = get_clamp(value)

    def fix(self, value: ir.Value, grid: ActivationQuantization) -> None:
        """Gives the class of ``value`` a grid that no range changes."""
        self._fixed[self._root(value)] = grid

    def center(self, value: ir.Value) -> None:
        """Gives the class of ``value``, to which none will be joined, the zero point 0 if that costs little."""
        root = self._root(value)
        found, clamp = self._range[root], self._clamp[root]
        whole = max(found.hi, 0.0) - min(found.lo, 0.0)
        step = max(-found.lo, found.hi) / 127
        if np.isinf([clamp.lo, clamp.hi]).all() and step <= _CENTRED_STEP * whole / 255:
            self._centred.add(root)

    def join(self, a: ir.Value, b: ir.Value) -> None:
        """Gives ``a`` and ``b`` one grid, over both ranges; a fixed grid stays."""
        a, b = self._root(a), self._root(b)
        if a is b:
            return
        self._parent[b] = a
        self._range[a] = _union((self._range[a], self._range.pop(b)))
        mine, other = self._clamp[a], self._clamp.pop(b)
        self._clamp[a] = Clamp(max(mine.lo, other.lo), min(mine.hi, other.hi))
        if b in self._fixed:
            self._fixed[a] = self._fixed.pop(b)

    def can_share(self, values: Iterable[ir.Value]) -> bool:
        """Whether one grid for all ``values`` breaks no clamp and costs none more than a bit."""
        roots = {self._root(value) for value in values}
        fixed = {self._fixed.get(root) for root in roots}
        if fixed != {None}:
            return len(fixed) == 1
        whole = _union(self._range[root] for root in roots)
        narrowest = min(self._range[root].hi - self._range[root].lo for root in roots)
        clamps = [self._clamp[root] for root in roots]
        return whole.hi - whole.lo <= _SHARED_WIDTH * narrowest and (
            self._symmetric
            or all(clamp.lo <= whole.lo and whole.hi <= clamp.hi for clamp in clamps)
        )

    def grid(self, value: ir.Value | None) -> ActivationQuantization:
        """Returns the grid of the class of ``value``, which must have been added."""
        assert value is not None
        root = self._root(value)
        fixed = self._fixed.get(root)
        if fixed is not None:
            return fixed
        symmetric = self._symmetric or root in self._centred
        return make_grid(self._range[root], get_clamp(value), symmetric)

    def settle(self, node: ir.Node) -> None:
        """Gives the operands and the result of a sum scales that every runtime agrees on, where there are such."""
        values = (*node.inputs[:2], node.outputs[0])
        if any(value is None or value not in self for value in values):
            return
        roots = [self._root(value) for value in values if value is not None]
        if len(set(roots)) < len(roots):
            return
        settled = settle_sum(*(self._term(root) for root in roots))
        if settled is not None:
            for root, term in zip(roots, settled, strict=True):
                self._fixed[root] = term.grid

    def _term(self, root: ir.Value) -> Term:
        """Returns a class as a term of a sum; a clamp that its range ends at would move with its scale."""
        found, clamp = self._range[root], self._clamp[root]
        ends = ((found.lo, clamp.lo), (found.hi, clamp.hi))
        clamped = any(end == bound and end != 0 and math.isfinite(bound) for end, bound in ends)
        is_free = not clamped and root not in self._fixed and root not in self._centred
        return Term(self.grid(root), min(0.0, found.lo), is_free)

    def assign(self) -> Iterable[tuple[ir.Value, ActivationQuantization]]:
        """Yields every value and its grid."""
        return [(value, self.grid(value)) for value in self._parent]

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parent[value] is not value:
            value = self._parent[value]
        return value


def share_grids(
    nodes: list[ir.Node],
    regions: Mapping[ir.Node, Region],
    range_of: Callable[[ir.Value], Range],
    symmetric: bool = False,
) -> Grids:
    """Returns the grids of all values that carry codes into or out of ``nodes``.

    Args:
        nodes: The quantized nodes, in graph order; of a region the last one.
        regions: By their last node.
        range_of: The range of a value by itself.
        symmetric: Whether the zero point of every grid is 0.
    """
    grids = Grids(symmetric)
    for node in nodes:
        sources = [regions[node].source] if node in regions else activations(node)
        for value in (*sources, node.outputs[0]):
            if value is not None and constant(value) is None and value not in grids:
                grids.add(value, range_of(value))
    for node in nodes:
        output = node.outputs[0]
        if node.op_type in FIXED:
            grids.fix(output, SYMMETRIC_UNIT if symmetric else FIXED[node.op_type])
    for node in nodes:
        if node.op_type in MOVES:
            source = node.inputs[0]
            assert source is not None
            grids.join(source, node.outputs[0])
    for node in nodes:
        if node.op_type == "Concat":
            sources = [value for value in node.inputs if value is not None]
            if grids.can_share(sources):
                for value in sources:
                    grids.join(node.outputs[0], value)
    for node in nodes:
        if is_product(node) and node.inputs[1] is not None:
            grids.center(node.inputs[1])
    # Settling moves zero points; who wants them at 0 computes sums in floats.
    for node in nodes if not symmetric else ():
        if node.op_type in _SUMS and node not in regions:
            grids.settle(node)
    return grids


def _union(ranges: Iterable[Range]) -> Range:
    found = list(ranges)
    return Range(min(r.lo for r in found), max(r.hi for r in found))


def make_grid(
    whole: Range, clamp: Clamp = _UNBOUNDED, symmetric: bool = False
) -> ActivationQuantization:
    """Returns the int8 grid over ``whole``, with 0 exactly on it.

    ``s = (hi - lo) / 255``, ``z = rne(-128 - lo / s)``: what lies beyond an end saturates there, which is a clamp
    to the end after rounding. A symmetric grid has ``s = max(-lo, hi) / 127``, ``z = 0``, and a clamp bounds its codes:
    ``rne(clamp / s)``, since rounding keeps the order.

    Args:
        whole: What the grid has to reach.
        clamp: What was fused into the value; ``whole`` lies within it.
        symmetric: Whether the zero point is 0.

    Raises:
        ModelError: The range is too wide for a float32 scale.
    """
    lo, hi = min(0.0, whole.lo), max(0.0, whole.hi)
    width = max(-lo, hi) / 127 if symmetric else (hi - lo) / 255
    if width > float(np.finfo(np.float32).max):
        raise ModelError(f"the range [{lo:g}, {hi:g}] is too wide for float32")
    scale = np.float32(max(width, _SMALLEST_SCALE) if width else 1.0)
    if symmetric:
        ends = np.rint(np.clip(np.array([clamp.lo, clamp.hi]) / float(scale), -128, 127))
        return ActivationQuantization(scale, 0, int(ends[0]), int(ends[1]))
    zero_point = int(np.clip(np.rint(-128 - lo / float(scale)), -128, 127))
    return ActivationQuantization(scale, zero_point)
