"""Gives layers of a cut graph the weights with which they answer most like those of the whole one (least squares)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate.observe import Sample
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names, only_consumer
from edgekit.converters.prune.channels.observe import count_places, draw, run
from edgekit.converters.prune.channels.rows import Doubles, LayerRows, Places, find_rows

# Rows that a layer is fitted to.
_ROWS = 8192
# Parts of the mean of a covariance's diagonal that hold weights where they are; the best on rows left out is taken.
HOLDS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# How often targets are set anew that a clamp hides.
_ROUNDS = 3

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Ahead:
    """What a layer's result goes through, as far as a fit takes it into account.

    Attributes:
        sum: The name of the sum that the result alone is part of, "" where there is none.
        other: What it is added to.
        low: Where a clamp behind it begins, -inf where there is none.
        high: Where it ends.
    """

    sum: str = ""
    other: str = ""
    low: float = -np.inf
    high: float = np.inf


def look_ahead(model: ir.Model) -> dict[str, Ahead]:
    """Returns what the result of each layer goes through, by the name of its node."""
    places = {node: place for place, node in enumerate(model.graph)}
    found = {}
    for node in model.graph:
        if find_rows(node) is None:
            continue
        value, total, other = node.outputs[0], "", ""
        reader = only_consumer(value)
        if reader is not None and reader.op_type == "Add" and not reader.domain:
            a, b = reader.inputs
            second = b if a is value else a
            maker = None if second is None else second.producer()
            # What is made later is fitted later, and makes up for this one.
            known = second is not None and constant(second) is None and second is not value
            early = maker is None or places[maker] < places[node]
            if known and early and second is not None and second.shape == value.shape:
                value, total, other = (
                    reader.outputs[0],
                    str(reader.outputs[0].name),
                    str(second.name),
                )
        low, high = _find_clamp(only_consumer(value))
        found[str(node.name)] = Ahead(total, other, low, high)
    return found


def _find_clamp(node: ir.Node | None) -> tuple[float, float]:
    if node is None or node.domain:
        return -np.inf, np.inf
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return -np.inf, np.inf
    bounds = [-np.inf, np.inf]
    for place, value in enumerate(node.inputs[1:3]):
        array = constant(value)
        if value is not None and (array is None or array.size != 1):
            return -np.inf, np.inf
        if array is not None:
            bounds[place] = float(array.reshape(-1)[0])
    return bounds[0], bounds[1]


class Targets:
    """What the layers of a whole graph give at the places that are looked at, in files of a folder.

    Attributes:
        ahead: What the results of layers go through, by the name of their node.
    """

    def __init__(
        self,
        model: ir.Model,
        samples: Collection[Sample],
        folder: Path,
        rows: int,
        progress: Progress | None,
    ) -> None:
        self._counts: dict[str, int] = {}
        self.ahead = look_ahead(model)
        layers = [layer for layer in map(find_rows, model.graph) if layer is not None]
        self._files = {str(layer.node.name): folder / f"{i}.rows" for i, layer in enumerate(layers)}
        self._widths: dict[str, int] = {}
        names = []
        for layer in layers:
            name = str(layer.node.name)
            # Of the whole graph: what is cut has shallower layers, at the same places.
            self._counts[name] = count_places(layer, len(samples), rows)
            ahead = self.ahead[str(layer.node.name)]
            names += [layer.result, *([ahead.sum] if ahead.sum else [])]
        for index, values in run(model, samples, names):
            for layer in layers:
                name = str(layer.node.name)
                result = values[layer.result]
                places = self.draw(layer, result.shape, index)
                taken = layer.take_outputs(values[self.ahead[name].sum or layer.result], places)
                flat = taken.reshape(len(taken), -1).astype(np.float32)
                self._widths[name] = flat.shape[1]
                with self._files[name].open("ab") as stream:
                    flat.tofile(stream)
            if progress is not None:
                progress(index + 1, len(samples))

    def draw(self, layer: LayerRows, shape: tuple[int, ...], index: int) -> Places:
        """Returns the places of a layer's result, of the whole graph or what is left of it, in a sample."""
        return draw(layer, shape, self._counts[str(layer.node.name)], index)

    def __contains__(self, name: object) -> bool:
        """Returns whether a node's results are known."""
        return name in self._widths

    def read(self, name: str, channels: npt.NDArray[np.int64] | None) -> Doubles:
        """Returns the results of a node, ``[n, channels]``, of some of its channels or of all."""
        rows = np.fromfile(self._files[name], np.float32).reshape(-1, self._widths[name])
        return (rows if channels is None else rows[:, channels]).astype(np.float64)


@contextmanager
def keep_targets(
    model: ir.Model,
    samples: Collection[Sample],
    progress: Progress | None = None,
    *,
    rows: int = _ROWS,
) -> Iterator[Targets]:
    """Runs a whole graph over samples and keeps what its layers give while the context is open.

    Raises:
        CalibrationError: A sample does not fit the model.
        ModelError: ONNX Runtime cannot run it.
        EdgekitError: The disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        with name_full_disk(
            folder, "targets of the repair are kept there; free some space, or set TMPDIR"
        ):
            targets = Targets(model, samples, Path(folder), rows, progress)
        yield targets


@dataclass(frozen=True)
class Repair:
    """What fitting one layer did.

    Attributes:
        node: Its name.
        before: Error of its results behind the clamp, in parts of their variance.
        after: The same when it was fitted; both on rows that took no part.
        hold: What held the weights where they were.
    """

    node: str
    before: float
    after: float
    hold: float


def repair(
    model: ir.Model,
    targets: Targets,
    kept: Mapping[str, npt.NDArray[np.int64]],
    samples: Collection[Sample],
    touched: Collection[str],
    progress: Progress | None = None,
    supports: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    only: Collection[str] | None = None,
    holds: Sequence[float] = HOLDS,
) -> list[Repair]:
    """Fits each layer of ``model`` behind a cut anew, in place and in its order, to what the whole graph's layer gives.

    With x the rows that a layer meets in the cut graph, those before it being fitted already, z what the whole graph
    has there and W0 the weights as they are::

        min over W, b of  sum |f(W x + b + r) - f(z)|^2 + hold |W - W0|^2

    where f is the clamp behind the layer, and r what its result is added to. Where z lies beyond the clamp, a result
    beyond it is as good as any (Zhang et al., "Accelerating very deep convolutional networks", 2016). ``hold`` is the
    best of some on samples that are left out, and weights stay where none does better.

    Args:
        model: A graph that was cut.
        targets: Of the whole graph, with the same samples.
        kept: By a node's name, which of its result's channels are left.
        samples: Inputs like those that it will meet.
        touched: Names of nodes that were cut; what is not behind them still gives what it gave.
        progress: Called after each layer with the number done and of all.
        supports: By a node's name, which of its weights may be other than 0, ``[groups, outputs, depth]``. It is
            fitted too.
        only: Names of nodes; others are not fitted.
        holds: What is tried; a single one is taken as it is, and weights are fitted once.

    Raises:
        CalibrationError: A sample does not fit the model.
        ModelError: ONNX Runtime cannot run it.
    """
    forget_names(model.graph)
    behind = _find_behind(model, touched)
    layers = [
        layer
        for layer in map(find_rows, model.graph)
        if layer is not None
        and (layer.node in behind or layer.node.name in (supports or {}))
        and str(layer.node.name) in targets
        and (only is None or layer.node.name in only)
    ]
    done = []
    for number, layer in enumerate(layers):
        name = str(layer.node.name)
        ahead = targets.ahead[name]
        rows, others, owners = _gather(model, layer, ahead, samples, targets)
        wanted = targets.read(name, kept.get(name)).reshape(others.shape)
        support = (supports or {}).get(name)
        fitted = _Fit(layer, ahead, rows, others, wanted, support).solve(owners, holds)
        if fitted is not None:
            put_weights(model.graph, layer, fitted.weights, fitted.bias)
            done.append(Repair(name, fitted.before, fitted.after, fitted.hold))
        if progress is not None:
            progress(number + 1, len(layers))
    forget_names(model.graph)
    return done


def _find_behind(model: ir.Model, touched: Collection[str]) -> set[ir.Node]:
    """Returns the nodes that read what some nodes make, by way of others or not."""
    values: set[ir.Value] = set()
    found = set()
    for node in model.graph:
        behind = any(value in values for value in node.inputs if value is not None)
        if behind:
            found.add(node)
        if behind or node.name in touched:
            values.update(node.outputs)
    return found


def _gather(
    model: ir.Model, layer: LayerRows, ahead: Ahead, samples: Collection[Sample], targets: Targets
) -> tuple[Doubles, Doubles, npt.NDArray[np.int64]]:
    """Returns a layer's rows, what its results are added to, and the sample that each comes from."""
    rows, others, owners = [], [], []
    shape_of = layer.node.outputs[0].shape
    names = [layer.source, layer.result, *([ahead.other] if ahead.other else [])]
    assert shape_of is not None
    for index, values in run(model, samples, names):
        result = values[layer.result]
        places = targets.draw(layer, result.shape, index)
        rows.append(layer.take_inputs(values[layer.source], result.shape, places))
        if ahead.other:
            others.append(layer.take_outputs(values[ahead.other], places))
        else:
            others.append(np.zeros((len(places), *layer.bias.shape)))
        owners.append(np.full(len(places), index))
    return np.concatenate(rows), np.concatenate(others), np.concatenate(owners)


@dataclass(frozen=True)
class _Fitted:
    weights: Doubles
    bias: Doubles
    before: float
    after: float
    hold: float


class _Fit:
    """Rows ``[n, groups, depth]`` of a layer and what it is to give, ``[n, groups, outputs]``."""

    def __init__(
        self,
        layer: LayerRows,
        ahead: Ahead,
        rows: Doubles,
        others: Doubles,
        wanted: Doubles,
        support: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._support = support
        self._weights, self._bias = layer.weights, layer.bias
        self._has_bias = len(layer.node.inputs) > 2 and layer.node.inputs[2] is not None
        self._ahead, self._rows, self._others, self._wanted = ahead, rows, others, wanted

    @property
    def _is_clamped(self) -> bool:
        return bool(np.isfinite([self._ahead.low, self._ahead.high]).any())

    def solve(
        self, owners: npt.NDArray[np.int64], holds: Sequence[float] = HOLDS
    ) -> _Fitted | None:
        """Returns the fitted weights, None where those that there are do as well."""
        whole = np.ones(len(owners), bool)
        if len(holds) == 1:
            ((weights, bias),) = self._fit(whole, holds, 1)
            return _Fitted(weights, bias, math.nan, math.nan, holds[0])
        learning = owners % 2 == 0
        if learning.all() or not learning.any():
            learning = np.arange(len(owners)) % 2 == 0
        scores = [0.0] * len(holds)
        before = 0.0
        for part in (learning, ~learning):
            before += self._score(self._weights, self._bias, ~part)
            for place, (weights, bias) in enumerate(self._fit(part, holds, 1)):
                scores[place] += self._score(weights, bias, ~part)
        best = int(np.argmin(scores))
        if not scores[best] < before:
            return None
        ((weights, bias),) = self._fit(whole, (holds[best],), _ROUNDS)
        return _Fitted(weights, bias, before / 2, scores[best] / 2, holds[best])

    def _fit(
        self, part: npt.NDArray[np.bool_], holds: Sequence[float], rounds: int
    ) -> list[tuple[Doubles, Doubles]]:
        rows = np.ascontiguousarray(np.moveaxis(self._rows[part], 1, 0))
        mean = (
            rows.mean(axis=1, keepdims=True)
            if self._has_bias
            else np.zeros((len(rows), 1, rows.shape[2]))
        )
        centred = rows - mean
        products = np.matmul(centred.transpose(0, 2, 1), centred) / rows.shape[1]
        scale = np.maximum(np.einsum("gii->g", products) / products.shape[1], 1e-30)
        unit = np.eye(products.shape[1])
        found = []
        for hold in holds:
            damped = products + (hold * scale)[:, None, None] * unit
            weights, bias = self._weights, self._bias
            for _ in range(rounds if self._is_clamped else 1):
                wanted = np.moveaxis(self._reachable(weights, bias, part), 1, 0)
                middle = wanted.mean(axis=1, keepdims=True) if self._has_bias else 0.0
                right = np.matmul(centred.transpose(0, 2, 1), wanted - middle) / rows.shape[1]
                right += (hold * scale)[:, None, None] * self._weights.transpose(0, 2, 1)
                solved = self._solve(damped, right)
                weights = solved.transpose(0, 2, 1)
                if self._has_bias:
                    bias = (middle - np.matmul(mean, solved))[:, 0]
            found.append((weights, bias))
        return found

    def _solve(self, products: Doubles, right: Doubles) -> Doubles:
        """Returns weights, ``[groups, depth, outputs]``, those that are to be 0 left out of the equations."""
        if self._support is None:
            return np.asarray(np.linalg.solve(products, right), np.float64)
        found = np.zeros(right.shape)
        for group, support in enumerate(self._support):
            kinds, which = np.unique(support, axis=0, return_inverse=True)
            for kind, columns in enumerate(kinds):
                outputs = np.flatnonzero(which.reshape(-1) == kind)
                part = products[group][np.ix_(columns, columns)]
                place = np.ix_(columns, outputs)
                found[group][place] = np.linalg.solve(part, right[group][place])
        return found

    def _reachable(self, weights: Doubles, bias: Doubles, part: npt.NDArray[np.bool_]) -> Doubles:
        """Returns what a layer is to give: where the clamp hides it, what it gives already."""
        others, wanted = self._others[part], self._wanted[part]
        low, high = self._ahead.low, self._ahead.high
        if self._is_clamped:
            given = self._apply(weights, bias, part)
            wanted = np.where(wanted <= low, np.minimum(given, low), wanted)
            wanted = np.where(wanted >= high, np.maximum(given, high), wanted)
        return wanted - others

    def _apply(self, weights: Doubles, bias: Doubles, part: npt.NDArray[np.bool_]) -> Doubles:
        given = np.matmul(np.moveaxis(self._rows[part], 1, 0), weights.transpose(0, 2, 1))
        found: Doubles = np.moveaxis(given, 0, 1) + bias + self._others[part]
        return found

    def _score(self, weights: Doubles, bias: Doubles, part: npt.NDArray[np.bool_]) -> float:
        """Returns the error behind the clamp in parts of the variance there."""
        ahead = self._ahead
        given = np.clip(self._apply(weights, bias, part), ahead.low, ahead.high)
        wanted = np.clip(self._wanted[part], ahead.low, ahead.high)
        spread = ((wanted - wanted.mean(axis=0)) ** 2).mean(axis=0).sum()
        return float(((given - wanted) ** 2).mean(axis=0).sum() / max(spread, 1e-30))


def put_weights(graph: ir.Graph, layer: LayerRows, weights: Doubles, bias: Doubles) -> None:
    """Gives a node weights and bias of its own."""
    node = layer.node
    for index, array in ((1, layer.spell(weights)), (2, bias.reshape(-1).astype(np.float32))):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            continue
        old = constant(value)
        shape = array.shape if old is None or index == 1 else _as_wide(old.shape, array.size)
        node.replace_input_with(
            index, add_initializer(graph, str(value.name), array.reshape(shape))
        )


def _as_wide(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return (*[1] * (len(shape) - 1), size)
