"""Gives layers of a cut graph the weights with which they answer most like those of the whole one (least squares)."""

from __future__ import annotations

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
from edgekit.converters.prune.channels.fit import HOLDS, Ahead, Fit
from edgekit.converters.prune.channels.observe import count_places, draw, run
from edgekit.converters.prune.channels.onward import Onward
from edgekit.converters.prune.channels.rows import Doubles, LayerRows, Places, find_rows

# Rows that a layer is fitted to.
_ROWS = 8192
Progress = Callable[[int, int | None], None]


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
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        onward = Onward(model, samples, Path(folder))
        for number, layer in enumerate(layers):
            name = str(layer.node.name)
            ahead = targets.ahead[name]
            rows, others, owners = _gather(onward, layer, ahead, targets)
            wanted = targets.read(name, kept.get(name)).reshape(others.shape)
            support = (supports or {}).get(name)
            fitted = Fit(layer, ahead, rows, others, wanted, support).solve(owners, holds)
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
    onward: Onward, layer: LayerRows, ahead: Ahead, targets: Targets
) -> tuple[Doubles, Doubles, npt.NDArray[np.int64]]:
    """Returns a layer's rows, what its results are added to, and the sample that each comes from."""
    rows, others, owners = [], [], []
    shape_of = layer.node.outputs[0].shape
    names = [layer.source, layer.result, *([ahead.other] if ahead.other else [])]
    assert shape_of is not None
    width = layer.bias.shape
    for index, values in onward.run(layer.node, names):
        result = values[layer.result]
        places = targets.draw(layer, result.shape, index)
        rows.append(layer.take_inputs(values[layer.source], result.shape, places))
        if ahead.other:
            others.append(layer.take_outputs(values[ahead.other], places))
        else:
            others.append(np.zeros((len(places), *width)))
        owners.append(np.full(len(places), index))
    return np.concatenate(rows), np.concatenate(others), np.concatenate(owners)


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
