"""Zeros that stay zeros while a network is trained, and masks that grow as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from edgekit.converters.prune.pattern import (
    Blocks,
    KeepOfGroup,
    Pattern,
    Unstructured,
    parse_pattern,
)
from edgekit.converters.prune.record import mark_pruned
from edgekit.data import Sample
from edgekit.distillation.batches import to_tensors
from edgekit.distillation.matrices import Matrix, find_matrices, weight_names
from edgekit.distillation.network import GraphNetwork
from edgekit.targets.errors import EdgekitError

Floats = npt.NDArray[np.float32]

# Weights of a layer below which zeros are not worth their accuracy, unless it is named.
FEWEST_WEIGHTS = 1024
# How often the solver makes zeros, and the share of the steps that it is done within.
_SOLVED, _SOLVED_UNTIL = 3, 0.2


class Zeros:
    """Weights of layers that are 0 and stay it.

    A trained weight is not exactly 0 by chance: what is when training begins was pruned.
    """

    def __init__(self, network: GraphNetwork) -> None:
        self._network = network
        self._kept: dict[str, torch.Tensor] = {}
        names = weight_names(network.nodes)
        for name, parameter in network.weights():
            if name in names and bool((parameter == 0).any()):
                self._kept[name] = parameter.detach() != 0

    def hold(self, name: str, kept: torch.Tensor) -> None:
        """Makes weights 0 where ``kept`` is false, and keeps them."""
        self._kept[name] = kept
        self.apply()

    def kept(self, name: str) -> torch.Tensor | None:
        """Returns where the weights of that name are not held, None where none of them is."""
        return self._kept.get(name)

    def apply(self) -> None:
        """Makes held weights 0 again."""
        with torch.no_grad():
            for name, kept in self._kept.items():
                self._network.weight(name).mul_(kept)

    def mask_gradients(self) -> None:
        """Takes away what would move a held weight."""
        for name, kept in self._kept.items():
            gradient = self._network.weight(name).grad
            if gradient is not None:
                gradient.mul_(kept)

    @property
    def share(self) -> float:
        """The share of all layers' weights that is held."""
        names = weight_names(self._network.nodes)
        count = sum(p.numel() for name, p in self._network.weights() if name in names)
        zeros = sum(int((~kept).sum()) for kept in self._kept.values())
        return float(zeros / max(count, 1))

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the masks, for `restore`."""
        return dict(self._kept)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes masks from `state`."""
        self._kept = dict(state)


@dataclass(frozen=True)
class Growth:
    """Zeros that become more while a network is trained, by a cubic schedule (Zhu and Gupta, arXiv:1710.01878).

    Attributes:
        pattern: Where zeros lie.
        zeros: The share of weights that is 0 at the end.
        layers: Names of the layers, or all dense ones of at least 1,024 weights.
        spread: Whether the share is that of all layers together, and falls on those that lose least by it; else each
            layer has it.
        until: The share of the steps after which no weight becomes 0 any more.
        times: How often masks grow.
        solver: Whether `sparsify` makes the zeros, in fewer and larger parts, the first before any step.
    """

    pattern: Pattern
    zeros: float
    layers: tuple[str, ...] = ()
    spread: bool = True
    until: float = 0.35
    times: int = 25
    solver: bool = False

    def steps(self, count: int) -> dict[int, float]:
        """Returns the share of zeros that is wanted from a step on, by that step, of ``count`` steps."""
        if isinstance(self.pattern, KeepOfGroup):
            return {0: self.zeros}
        until, times = (_SOLVED_UNTIL, _SOLVED) if self.solver else (self.until, self.times)
        times = max(min(times, int(count * until)), 1)
        found = {}
        for index in range(times):
            share = 1 - (1 - (index + 1) / times) ** 3
            found[int(index * until * count / times)] = self.zeros * share
        return found


def read_growth(
    prune: Mapping[str, float], layers: Iterable[str] = (), *, spread: bool = True
) -> Growth:
    """Reads ``{"unstructured": 0.83}``: the pattern, and the share of weights that becomes 0.

    Raises:
        EdgekitError: There is not one pattern, or its share is out of range.
    """
    if not isinstance(prune, Mapping) or len(prune) != 1:
        raise EdgekitError(
            f'prune names one pattern and its share of zeros, {{"4x32": 0.75}} say, not {prune!r}'
        )
    ((text, share),) = prune.items()
    pattern = parse_pattern(str(text))
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share < 1:
        raise EdgekitError(f"prune: the share of zeros must be between 0 and 1, not {share!r}")
    if isinstance(pattern, KeepOfGroup) and abs(1 - share - pattern.density) > 1e-6:
        raise EdgekitError(
            f"prune: {pattern} makes {1 - pattern.density:g} of the weights 0, not {share:g}"
        )
    return Growth(pattern, float(share), tuple(layers), spread)


def grow(
    network: GraphNetwork,
    zeros: Zeros,
    growth: Growth,
    share: float,
    batches: Sequence[Sequence[Sample]],
) -> None:
    """Makes ``share`` of the layers' weights 0: those whose products were smallest on ``batches``.

    A weight counts ``|w| * sqrt(mean x^2)`` (Sun et al., arXiv:2306.11695), blocks and groups the squares' sum.
    """
    matrices = choose_matrices(network, growth)
    powers = measure_inputs(network, matrices, batches)
    scores = {}
    for matrix in matrices:
        rows = matrix.fold(network.weight(matrix.name).detach().numpy())
        scores[matrix.name] = np.abs(rows.astype(np.float64)) * np.sqrt(powers[matrix.name] + 1e-30)
    if growth.spread and not isinstance(growth.pattern, KeepOfGroup):
        densities = spread_density(list(scores.values()), growth.pattern, 1 - share)
    else:
        densities = [1 - share] * len(matrices)
    for matrix, density in zip(matrices, densities, strict=True):
        kept = choose_kept(scores[matrix.name], growth.pattern, density)
        mask = torch.from_numpy(matrix.unfold(kept).astype(bool))
        before = zeros.kept(matrix.name)
        zeros.hold(matrix.name, mask if before is None else mask & before)
        mark_pruned(matrix.node, growth.pattern)


def spread_density(
    scores: Sequence[npt.NDArray[np.float64]], pattern: Pattern, density: float
) -> list[float]:
    """Returns the density of each layer, so that ``density`` of all their weights stay.

    What goes first is what is least beside all that its layer would have left: ``s^2 / sum of t^2 over t >= s`` (LAMP:
    Lee et al., arXiv:2010.07611). So a layer is never emptied, whatever the size of its scores.

    >>> spread_density([np.array([[1.0, 1.0]]), np.array([[9.0, 0.1]])], Unstructured(), 0.75)
    [1.0, 0.5]
    """
    parts = []
    for number, layer in enumerate(scores):
        squares = np.sort(_tile(layer, pattern).reshape(-1))
        left = np.cumsum(squares[::-1])[::-1]
        parts.append((squares / np.maximum(left, 1e-300), number, layer.size / squares.size))
    ranks = np.concatenate([rank for rank, _, _ in parts])
    sizes = np.concatenate([np.full(len(rank), size) for rank, _, size in parts])
    owners = np.concatenate([np.full(len(rank), number) for rank, number, _ in parts])
    order = np.argsort(-ranks, kind="stable")
    kept = order[np.cumsum(sizes[order]) <= density * sizes.sum() + 1e-6]
    counts = np.bincount(owners[kept], minlength=len(scores))
    return [float(count / len(rank)) for count, (rank, _, _) in zip(counts, parts, strict=True)]


def _tile(scores: npt.NDArray[np.float64], pattern: Pattern) -> npt.NDArray[np.float64]:
    """Returns the sum of squares of each block of weights."""
    if not isinstance(pattern, Blocks):
        return scores**2
    rows, columns = scores.shape
    height, width = pattern.rows, pattern.columns
    padded = np.pad(scores**2, ((0, -rows % height), (0, -columns % width)))
    tiles = padded.reshape(padded.shape[0] // height, height, -1, width)
    return cast("npt.NDArray[np.float64]", tiles.sum(axis=(1, 3)))


def choose_matrices(network: GraphNetwork, growth: Growth) -> list[Matrix]:
    """Returns the layers that get zeros.

    Raises:
        EdgekitError: A named one is not there, or there is none.
    """
    found = [matrix for matrix in find_matrices(network.nodes) if matrix.name in network.trained]
    if growth.layers:
        known = {matrix.node.name for matrix in found}
        for name in growth.layers:
            if name not in known:
                raise EdgekitError(f"prune: '{name}' is no dense layer of the network")
        chosen = [matrix for matrix in found if matrix.node.name in growth.layers]
    else:
        chosen = [matrix for matrix in found if np.prod(matrix.shape) >= FEWEST_WEIGHTS]
    if not chosen:
        raise EdgekitError(f"prune: no dense layer of the network has {FEWEST_WEIGHTS} weights")
    # Layers that share weights have them once.
    return list({matrix.name: matrix for matrix in chosen}.values())


def measure_inputs(
    network: GraphNetwork, matrices: Sequence[Matrix], batches: Sequence[Sequence[Sample]]
) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the mean square of what each weight along k multiplies, by channel of the layer's input: ``[k]``."""
    sums = {matrix.name: np.zeros(0) for matrix in matrices}
    wanted = {
        str(source.name): [m for m in matrices if m.node.inputs[0] is source]
        for source in {matrix.node.inputs[0] for matrix in matrices}
        if source is not None
    }
    with torch.no_grad():
        for samples in batches:
            inputs = to_tensors(samples)
            values = network(inputs, tuple(wanted))
            for name, readers in wanted.items():
                tensor = values[name] if name in values else inputs[name]
                for matrix in readers:
                    mean = _channel_power(tensor, matrix)
                    sums[matrix.name] = mean + (sums[matrix.name] if sums[matrix.name].size else 0)
    return {name: total / max(len(batches), 1) for name, total in sums.items()}


def _channel_power(tensor: torch.Tensor, matrix: Matrix) -> npt.NDArray[np.float64]:
    is_image = matrix.node.op_type.startswith("Conv")
    dims = [dim for dim in range(tensor.ndim) if dim != (1 if is_image else tensor.ndim - 1)]
    power = tensor.float().pow(2).mean(dim=dims).double().numpy()
    depth = int(np.prod(matrix.shape)) // matrix.shape[matrix.axis]
    inner = matrix.shape[1] if matrix.axis == 0 else matrix.shape[0]
    if power.size != inner:
        # Groups of channels are alike to their rows.
        power = power.reshape(-1, inner).mean(axis=0)
    return np.tile(power, depth // inner)


def choose_kept(
    scores: npt.NDArray[np.float64], pattern: Pattern, density: float
) -> npt.NDArray[np.bool_]:
    """Returns which weights ``[n, k]`` stay: those of the largest scores that the pattern allows.

    >>> choose_kept(np.array([[3.0, 1.0, 2.0, 4.0]]), KeepOfGroup(2, 4), 0.5)
    array([[ True, False, False,  True]])
    """
    if isinstance(pattern, Unstructured):
        return _largest(scores, density)
    height, width = (
        pattern.rows,
        pattern.columns if isinstance(pattern, Blocks) else pattern.group,
    )
    rows, columns = scores.shape
    padded = np.pad(scores**2, ((0, -rows % height), (0, -columns % width)))
    tiles = padded.reshape(padded.shape[0] // height, height, -1, width)
    if isinstance(pattern, Blocks):
        chosen = _largest(tiles.sum(axis=(1, 3)), density)
        kept = np.broadcast_to(chosen[:, None, :, None], tiles.shape)
    else:
        ranks = np.argsort(np.argsort(-tiles.sum(axis=1), axis=-1, kind="stable"), axis=-1)
        kept = np.broadcast_to((ranks < pattern.keep)[:, None], tiles.shape)
    return np.ascontiguousarray(kept.reshape(padded.shape)[:rows, :columns])


def _largest(scores: npt.NDArray[np.float64], density: float) -> npt.NDArray[np.bool_]:
    count = round(scores.size * density)
    order = np.argsort(-scores.reshape(-1), kind="stable")
    kept = np.zeros(scores.size, bool)
    kept[order[:count]] = True
    return kept.reshape(scores.shape)
