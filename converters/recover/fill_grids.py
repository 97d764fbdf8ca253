"""Scales channels so that int8 loses least: each fills the grid of its tensor, as far as weights allow.

A grid is one for all channels of a tensor; a channel that reaches a tenth of it has a tenth of the codes. Scaling it
up by f costs nothing in float, and divides what rounding adds to the channel by f, but the weights that read it shrink
beside others of their row, whose scale the largest one decides. So both noises are reckoned, at the layers that read
the channels, and the family of factors between the two extremes is searched for the least.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration
from edgekit.converters.element_sets.variables import PINNED, Ids
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import MOVES
from edgekit.converters.recover.rescale import bounds_of, lay_out
from edgekit.converters.recover.scales import Bounds, Layer, Norm, Operand, Scaling

Floats = npt.NDArray[np.float64]
# What channels are raised at most: what was hardly seen in calibration may well be larger than it was there.
MOST = 64.0
# A channel that came this close to a bound was clipped there.
_TOUCHES = 0.999
# How much more than calibration's largest value a channel keeps room for before a bound that moved clips it.
ROOM = 2.0
# Significant bits of the ranges that factors are made of.
_BITS = 9
_SHARES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_CLAMPS = frozenset({"Clip", "Relu"})


@dataclass(eq=False)
class Group:
    """Channels whose factors decide the same grids, and what reads them.

    Attributes:
        roots: The sets of factors, the first one pinned to 1.
        makers: Layers or normalizations that make the channels.
        ranges: Of each value with a grid: places in ``roots``, smallest and largest elements.
        readers: Of each layer that reads them: its weights, with everything else that its noise takes.
        caps: The most that each may be raised, infinite where nothing bounds it.
        fixed: Which must keep their factor.
        clips: The clips on the way, whose bounds move.
    """

    roots: Ids
    makers: list[ir.Node] = field(default_factory=list)
    ranges: list[tuple[Ids, Floats, Floats]] = field(default_factory=list)
    readers: list[_Reader] = field(default_factory=list)
    caps: Floats = field(default_factory=lambda: np.empty(0))
    fixed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    clips: list[tuple[ir.Node, Ids, Floats]] = field(default_factory=list)

    def noise(self, factors: Floats) -> float:
        """Returns the noise that rounding adds at the layers that read the channels, over the power of what they give.

        Rounding to steps of d adds d^2 / 12. A value's noise reaches a layer through its squared weights; a weight's
        through the squares of what it multiplies.
        """
        through = np.zeros(len(self.roots))
        total = 0.0
        for reader in self.readers:
            np.add.at(
                through,
                reader.places.ravel(),
                reader.squares.ravel() / factors[reader.places].ravel() ** 2,
            )
            total += reader.weight_noise(factors)
        for places, lo, hi in self.ranges:
            scale = factors[places]
            width = max(float((hi * scale).max()), 0.0) - min(float((lo * scale).min()), 0.0)
            met = np.unique(places)
            total += (width / 255) ** 2 / 12 * float(through[met].sum())
        return total


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer that reads channels of a group.

    Attributes:
        places: Places of its input channels in the group's roots, as they lie along its weights.
        squares: How much of noise in each channel comes through, ``places``'s shape.
        largest: Largest magnitudes of its weights by pair of channels.
        rows: The dimension of ``largest`` with the output channels; None where a row has a single input channel.
        power: Mean squares of the input channels times taps, as ``places``.
        gains: What noise in each output channel costs, ``[O]``.
    """

    places: Ids
    squares: Floats
    largest: Floats
    rows: int | None
    power: Floats
    gains: Floats

    def weight_noise(self, factors: Floats) -> float:
        """Returns the noise of rounded weights, one scale for each output channel."""
        if self.rows is None:
            return 0.0
        scale = factors[self.places]
        steps = (self.largest / scale).max(axis=1 - self.rows) / 127
        energy = (scale**2 * self.power).sum(axis=1 - self.rows)
        return float((np.square(steps) * energy * self.gains).sum()) / 12


def find_groups(
    model: ir.Model, scaling: Scaling, calibration: Calibration, *, move_bounds: bool
) -> list[Group]:
    """Returns the groups of channels of a simplified float graph.

    Args:
        model: The graph.
        scaling: Of it.
        calibration: Of it.
        move_bounds: Whether a channel that calibration never saw at the upper bound of a Clip may be raised up to it.
    """
    table = scaling.variables
    owner: dict[int, int] = {}

    def find(root: int) -> int:
        while owner.setdefault(root, root) != root:
            root = owner[root]
        return root

    arrays = [table.roots(site.outputs) for site in scaling.sites if isinstance(site, Layer | Norm)]
    arrays += [table.roots(site.inputs) for site in scaling.sites if isinstance(site, Layer)]
    arrays += [table.roots(s.ids) for s in scaling.sites if isinstance(s, Bounds | Operand)]
    values = [value for value in _gridded(model) if str(value.name) in calibration.channels]
    arrays += [scaling.channels(value) for value in values]
    for array in arrays:
        members = np.unique(array[array != PINNED]).tolist()
        for other in members:
            a, b = find(members[0]), find(other)
            owner[max(a, b)] = min(a, b)
    members_of: dict[int, list[int]] = {}
    for root in owner:
        members_of.setdefault(find(root), []).append(root)
    groups = {head: _empty(sorted(roots)) for head, roots in members_of.items()}
    places = np.zeros(len(table), np.int64)
    for group in groups.values():
        places[group.roots] = np.arange(len(group.roots))

    def owners(roots: Ids) -> Group | None:
        met = roots[roots != PINNED]
        return groups[find(int(met.flat[0]))] if met.size else None

    gains = _reckon_gains(scaling, calibration)
    for site in scaling.sites:
        if isinstance(site, Layer | Norm):
            maker = owners(table.roots(site.outputs))
            if maker is not None:
                maker.makers.append(site.node)
        if isinstance(site, Layer):
            roots = table.roots(site.inputs)
            read = owners(roots)
            if read is not None:
                _add_reader(read, site, places[roots], calibration, gains.get(site.node))
    for value in values:
        seen = calibration.channels[str(value.name)]
        held = owners(scaling.of(value))
        if held is not None:
            where = places[scaling.channels(value)]
            held.ranges.append((where, _shorten(seen.lo), _shorten(seen.hi)))
    for site in scaling.sites:
        if isinstance(site, Bounds | Operand):
            bound = owners(table.roots(site.ids))
            if bound is not None:
                _bind(bound, site, places[table.roots(site.ids)], calibration, move_bounds)
    return [group for group in groups.values() if group.readers and group.ranges]


def _shorten(ends: npt.NDArray[np.float32]) -> Floats:
    """Rounds ends of ranges to a short mantissa: CPUs disagree in the last bits, and files should not."""
    mantissa, exponent = np.frexp(ends.astype(np.float64))
    short: Floats = np.ldexp(np.rint(np.ldexp(mantissa, _BITS)), exponent - _BITS)
    return short


def _empty(roots: list[int]) -> Group:
    whole = np.array([PINNED, *roots])
    group = Group(whole)
    group.caps = np.full(len(whole), np.inf)
    group.fixed = np.zeros(len(whole), np.bool_)
    group.fixed[0] = True
    return group


def _add_reader(
    group: Group, site: Layer, places: Ids, calibration: Calibration, gains: Floats | None
) -> None:
    """Adds a layer's part in the noise; nothing where calibration did not see what it reads."""
    node = site.node
    source, weight = node.inputs[0], constant(node.inputs[1])
    moments = None if source is None else calibration.moments.get(str(source.name))
    if weight is None or moments is None or gains is None:
        return
    mean_square = moments.variance() + moments.mean() ** 2
    if mean_square.size != places.size:
        return
    flat = weight.astype(np.float64).reshape(*weight.shape[:2], -1)
    outputs = np.zeros(site.outputs.size, np.int64)
    below, above = lay_out(node, places, gains)
    energy, _ = lay_out(node, mean_square, outputs)
    squares = np.square(flat).sum(axis=2) * above
    narrow = tuple(axis for axis in (0, 1) if below.shape[axis] == 1 and squares.shape[axis] > 1)
    rows = 0 if node.op_type == "Conv" or above.shape[1] == 1 else 1
    group.readers.append(
        _Reader(
            below,
            squares.sum(axis=narrow, keepdims=True) if narrow else squares,
            np.abs(flat).max(axis=2),
            None if squares.shape[1 - rows] == 1 else rows,
            energy * flat.shape[2],
            gains,
        )
    )


def _reckon_gains(scaling: Scaling, calibration: Calibration) -> dict[ir.Node, Floats]:
    """Returns for each layer what noise in each of its output channels costs: how much of it reaches the ends.

    Noise passes a layer by its squared weights, and everything else as it is; at the ends, and where an operator is met
    that factors do not pass, it counts as its share of the power there.
    """
    table = scaling.variables
    reached = np.zeros(len(table))
    gains: dict[ir.Node, Floats] = {}
    for site in reversed(scaling.sites):
        if not isinstance(site, Layer):
            continue
        weight = constant(site.node.inputs[1])
        source = site.node.inputs[0]
        moments = None if source is None else calibration.moments.get(str(source.name))
        roots, inputs = table.roots(site.outputs), table.roots(site.inputs)
        if weight is None or moments is None or moments.mean().size != inputs.size:
            continue
        squares = np.square(weight.astype(np.float64)).reshape(*weight.shape[:2], -1).sum(axis=2)
        mean_square = moments.variance() + moments.mean() ** 2
        energy, ones = lay_out(site.node, mean_square, np.ones(roots.size))
        power = float((squares * energy * ones).sum())
        own = np.where(roots == PINNED, 1 / max(power, 1e-300), reached[roots])
        gains[site.node] = own
        below, above = lay_out(site.node, inputs, own)
        through, places = np.broadcast_arrays(squares * above, below)
        np.add.at(reached, places.ravel(), through.ravel())
        reached[PINNED] = 0.0
    return gains


def _gridded(model: ir.Model) -> Iterable[ir.Value]:
    """Yields the values that get a grid of their own: not where codes only move, nor what a clamp takes in."""
    for node in model.graph:
        output = node.outputs[0] if node.outputs else None
        if output is None or node.op_type in MOVES:
            continue
        uses = [use.node for use in output.uses()]
        if len(uses) == 1 and uses[0].op_type in _CLAMPS and not output.is_graph_output():
            continue
        yield output


def _bind(
    group: Group,
    site: Bounds | Operand,
    places: Ids,
    calibration: Calibration,
    move_bounds: bool,
) -> None:
    """Takes what a clamp allows: its channels keep their factor where it clips them, or may rise to its bound."""
    if isinstance(site, Operand) and site.node.op_type not in ("Max", "Min"):
        return
    met = np.unique(places)
    output = site.node.outputs[0]
    seen = calibration.channels.get(str(output.name))
    lo, hi = bounds_of(site.node) if isinstance(site, Bounds) else (-np.inf, np.inf)
    movable = isinstance(site, Bounds) and move_bounds and seen is not None and hi > 0
    if not movable or seen is None or (np.isfinite(lo) and lo != 0) or not np.isfinite(hi):
        group.fixed[met] = True
        return
    where = np.broadcast_to(places.reshape(-1), seen.hi.shape)
    reached = np.zeros(len(group.roots))
    np.maximum.at(reached, where, seen.hi.astype(np.float64))
    clipped = met[reached[met] >= _TOUCHES * hi]
    group.fixed[clipped] = True
    rest = np.setdiff1d(met, clipped)
    group.caps[rest] = np.minimum(
        group.caps[rest], hi / np.maximum(ROOM * reached[rest], hi / MOST)
    )
    group.caps[rest] = np.maximum(group.caps[rest], 1.0)
    group.clips.append((site.node, where, seen.hi.astype(np.float64)))


def choose_factors(group: Group) -> tuple[Floats, float]:
    """Returns the factors with the least noise that were found, and how many decibels less it is than without."""
    count = len(group.roots)
    reach = np.zeros(count)
    for places, lo, hi in group.ranges:
        np.maximum.at(reach, places, np.maximum(np.abs(lo), np.abs(hi)))
    top = float(reach.max(initial=0.0))
    free = ~group.fixed & (reach > 0)
    if not free.any() or top <= 0:
        return np.ones(count), 0.0
    reach = np.maximum(reach, top / MOST)
    weights = _relative_weights(group, count)
    before = group.noise(np.ones(count))
    best, least = np.ones(count), before
    anchor = top
    for share in _SHARES:
        for column in (np.ones(count), weights):
            whole = column ** (1 - share) / (reach / top) ** share
            # With channels that stay where they are, the others fill the same grid.
            scaled = whole * reach
            if group.fixed[1:].any():
                whole *= anchor / scaled[free].max()
            factors = np.where(free, np.minimum(whole, group.caps), 1.0)
            noise = group.noise(factors)
            if noise < least:
                best, least = factors, noise
    best, least = _lower_peaks(group, best, least, free)
    return best, 10 * math.log10(before / max(least, 1e-300)) if before > 0 else 0.0


def _relative_weights(group: Group, count: int) -> Floats:
    """Returns how large the weights that read each channel are beside the largest of their row, at most."""
    found = np.zeros(count)
    for reader in group.readers:
        if reader.rows is None:
            continue
        peak = reader.largest.max(axis=1 - reader.rows, keepdims=True)
        share = reader.largest / np.where(peak > 0, peak, 1.0)
        narrow = tuple(a for a in (0, 1) if reader.places.shape[a] == 1 and share.shape[a] > 1)
        most = share.max(axis=narrow, keepdims=True) if narrow else share
        np.maximum.at(found, reader.places.ravel(), most.ravel())
    return np.where(found > 0, np.maximum(found, 1 / MOST), 1.0)


def _lower_peaks(
    group: Group, factors: Floats, least: float, free: npt.NDArray[np.bool_]
) -> tuple[Floats, float]:
    """Lowers the channels that decide a grid's width, as long as the noise falls."""
    for _ in range(48):
        tried = factors.copy()
        for places, lo, hi in group.ranges:
            reach = np.maximum(np.abs(lo), np.abs(hi)) * factors[places]
            peak = places[reach >= 0.97 * reach.max(initial=0.0)]
            peak = np.unique(peak[free[peak]])
            tried[peak] = factors[peak] * 0.93
        if np.array_equal(tried, factors):
            break
        noise = group.noise(tried)
        if noise >= least:
            break
        factors, least = tried, noise
    return factors, least
