"""In which order units of channels go: by what their readers lose after the best repair, or by magnitude."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate.observe import Sample
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.channels.channels import Channels, Role, Slab, Space
from edgekit.converters.prune.channels.observe import gather_rows
from edgekit.converters.prune.channels.rows import Doubles, LayerRows

# On the diagonal of covariances, in parts of its mean.
DAMPING = 1e-3
# Rows that a layer's covariance is made of.
_ROWS = 8192
# Rounds in which a space's units go.
_ROUNDS = 128


@dataclass(frozen=True, eq=False)
class Order:
    """A space's units in the order in which they go.

    Attributes:
        space: The space.
        units: All of its units.
        losses: What is lost when the first n are cut, ``[n + 1]``, rising.
        is_guess: Whether only the order means something, not how losses compare with those of other spaces.
    """

    space: Space
    units: tuple[int, ...]
    losses: Doubles
    is_guess: bool = False


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads channels, and what it takes to say what it loses.

    Attributes:
        columns: The unit of each column of its weights, ``[depth]``.
        weights: ``[groups, outputs, depth]``.
        covariances: Of its rows, ``[groups, depth, depth]``: a bias takes what is constant.
        price: What an error of 1 in the sum of squares of its outputs' errors costs the answers.
    """

    columns: npt.NDArray[np.int64]
    weights: Doubles
    covariances: Doubles
    price: float


def gather_readers(
    model: ir.Model,
    channels: Channels,
    layers: Mapping[ir.Node, LayerRows],
    samples: Collection[Sample],
    prices: Mapping[str, float],
) -> list[Reader]:
    """Returns the layers that read units, with the covariances of their rows.

    Args:
        model: The graph.
        channels: Its channels.
        layers: Those of its nodes that are known as rows.
        samples: Inputs like those that it will meet.
        prices: By a node's name, what an error at its result costs the answers, beside the variance of that result.
    """
    reading = [
        slab
        for slab in channels.slabs
        if slab.role is Role.READS and slab.node in layers and _has_units(channels, slab)
    ]
    moments = {layers[slab.node]: Moments() for slab in reading}
    for layer, rows, results in gather_rows(model, list(moments), samples, _ROWS):
        moments[layer].add(rows, results)
    readers = []
    for slab in reading:
        layer = layers[slab.node]
        found = moments[layer]
        covariances = blend_covariances(found.covariances(), found.count)
        price = prices.get(str(slab.node.name), 1.0) / max(found.variance(), 1e-30)
        columns = np.repeat(channels.units_of(slab), layer.taps)
        readers.append(Reader(columns, layer.weights, covariances, price))
    return readers


def blend_covariances(covariances: Doubles, rows: int) -> Doubles:
    """Draws covariances towards their diagonals, the more the fewer rows they were learned from.

    What few samples have in common others don't have: 28 rows of 1,280 features would say that 28 of these are enough.
    The part is ``min(1/2, depth / (depth + 4 rows))``, as in `blend_hessians`.
    """
    depth = covariances.shape[-1]
    part = min(0.5, depth / (depth + 4 * rows))
    diagonals = np.einsum("gii->gi", covariances)[:, :, None] * np.eye(depth)
    blended: Doubles = (1 - part) * covariances + part * diagonals
    return blended


class Moments:
    """Sums of rows, of their products, and of the squares of results."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: Doubles = np.zeros(0)
        self._products: Doubles = np.zeros(0)
        self._results: Doubles = np.zeros(0)
        self._squares: Doubles = np.zeros(0)

    def add(self, rows: Doubles, results: Doubles) -> None:
        """Adds rows, ``[n, groups, depth]``, and results, ``[n, groups, outputs]``."""
        by_group = np.moveaxis(rows, 1, 0)
        parts = (
            by_group.sum(axis=1),
            np.matmul(by_group.transpose(0, 2, 1), by_group),
            results.sum(axis=0),
            (results**2).sum(axis=0),
        )
        if not self.count:
            self._sums, self._products, self._results, self._squares = parts
        else:
            self._sums += parts[0]
            self._products += parts[1]
            self._results += parts[2]
            self._squares += parts[3]
        self.count += len(rows)

    def covariances(self) -> Doubles:
        """Returns the covariances, ``[groups, depth, depth]``."""
        mean = self._sums / self.count
        return self._products / self.count - mean[:, :, None] * mean[:, None, :]

    def means(self) -> Doubles:
        """Returns the means of the rows, ``[groups, depth]``."""
        return self._sums / self.count

    def variance(self) -> float:
        """Returns the variance of the results, summed over their channels."""
        return float((self._squares / self.count - (self._results / self.count) ** 2).sum())


def order_by_error(space: Space, readers: Sequence[Reader]) -> Order:
    """Orders units by what readers lose after the best repair by least squares, given those that went before.

    Of a reader with weights W and covariance C of its rows, cutting the columns g loses::

        sum over rows w of W of  w_g^T (C^-1_gg)^-1 w_g

    when what stays makes up for it; then W and C^-1 are those of what stays (Optimal Brain Surgeon, Hassibi and Stork,
    1993; for groups of columns, Kurtic et al., "ZipLM", 2023). Of spaces of more than 128 units some go at a time.

    Args:
        space: Whose units.
        readers: The layers; those that read none of the units have no say.
    """
    parts = [
        _Column(reader, group, space)
        for reader in readers
        if np.isin(reader.columns, space.units).any()
        for group in range(len(reader.weights))
    ]
    left, losses = list(space.units), [0.0]
    order: list[int] = []
    together = max(1, len(left) // _ROUNDS)
    while left:
        costs = np.sum([part.costs(left) for part in parts], axis=0)
        places = np.argsort(costs, kind="stable")[:together]
        units = [left[int(place)] for place in places]
        lost = max(sum(part.remove(units) for part in parts), 0.0)
        # What several lose together lies between them in the order of what each would lose.
        losses += [losses[-1] + lost * (n + 1) / len(units) for n in range(len(units))]
        order += units
        left = [unit for unit in left if unit not in set(units)]
    return Order(space, tuple(order), np.array(losses))


class _Column:
    """One group of a reader, its weights and the inverse of its covariance, as units go."""

    def __init__(self, reader: Reader, group: int, space: Space) -> None:
        covariance = reader.covariances[group]
        damped = covariance + np.eye(len(covariance)) * max(
            DAMPING * float(np.trace(covariance)) / len(covariance), 1e-30
        )
        self._inverse = np.linalg.inv(damped)
        self._weights = reader.weights[group].copy()
        self._price = reader.price
        self._places = {unit: np.flatnonzero(reader.columns == unit) for unit in space.units}

    def costs(self, units: Sequence[int]) -> Doubles:
        """Returns what each of ``units`` costs."""
        found = np.zeros(len(units))
        by_size: dict[int, list[int]] = {}
        for index, unit in enumerate(units):
            by_size.setdefault(self._places[unit].size, []).append(index)
        for size, indices in by_size.items():
            if size == 0:
                continue
            places = np.stack([self._places[units[index]] for index in indices])
            blocks = self._inverse[places[:, :, None], places[:, None, :]]
            weights = np.moveaxis(self._weights[:, places], 0, 2)
            found[indices] = (weights * np.linalg.solve(blocks, weights)).sum(axis=(1, 2))
        return found * self._price

    def remove(self, units: Sequence[int]) -> float:
        """Cuts units together, and returns what that costs."""
        places = np.concatenate([self._places[unit] for unit in units])
        if not places.size:
            return 0.0
        block, gone = self._inverse[np.ix_(places, places)], self._weights[:, places]
        pull = np.linalg.solve(block, self._inverse[places])
        cost = float((gone.T * np.linalg.solve(block, gone.T)).sum()) * self._price
        self._weights -= gone @ pull
        self._inverse -= self._inverse[:, places] @ pull
        # What is gone reads nothing, and nothing makes up for it by it.
        self._weights[:, places] = 0
        self._inverse[places] = 0
        self._inverse[:, places] = 0
        self._inverse[places, places] = 1
        return cost


def order_by_magnitude(space: Space, channels: Channels, power: int = 2) -> Order:
    """Orders units by the norm of the weights that make and read them, beside the mean norm of the space's units.

    It is the baseline (group norms: Fang et al., "DepGraph", 2023; filters' norms: Li et al., 2017).

    Args:
        space: Whose units.
        channels: The graph's.
        power: 2 for sums of squares, 1 for sums of magnitudes.
    """
    sums = np.zeros(len(space.units))
    for slab in channels.slabs:
        array = constant(slab.node.inputs[slab.index])
        if slab.role is Role.ALONG or slab.index > 2 or array is None or array.ndim < 2:
            continue
        roots = channels.units_of(slab)
        norms = np.moveaxis(np.abs(array.astype(np.float64)) ** power, slab.axis, 0)
        by_slice = norms.reshape(len(roots), -1).sum(axis=1)
        for place, unit in enumerate(space.units):
            sums[place] += by_slice[roots == unit].sum()
    sums = sums ** (1 / power)
    sums /= max(float(sums.mean()), 1e-30)
    places = np.argsort(sums, kind="stable")
    losses = np.concatenate([[0.0], np.cumsum(sums[places])])
    return Order(space, tuple(space.units[int(place)] for place in places), losses, True)


def _has_units(channels: Channels, slab: Slab) -> bool:
    return bool(np.isin(channels.units_of(slab), list(channels.units)).any())
