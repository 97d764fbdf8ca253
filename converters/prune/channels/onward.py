"""Runs a graph over samples layer after layer: what lies behind the last one is kept in files, not computed again."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.calibrate.observe import Sample, check_sample, make_session
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.prune.channels.observe import Results, run_one

# What is kept of all samples, in bytes; where there would be more, the way there is gone again.
_MOST_BYTES = 1 << 30


class Onward:
    """A graph whose nodes get other weights, one after the other in its order, and what they read by then.

    Args:
        model: The graph. Its nodes stay; weights of those behind the last one that was asked for may change.
        samples: What it is run over.
        folder: For what is kept.
    """

    def __init__(self, model: ir.Model, samples: Collection[Sample], folder: Path) -> None:
        self._model, self._samples, self._folder = model, samples, folder
        self._places = {node: place for place, node in enumerate(model.graph)}
        # Values that were made and are still read, by name, and how many nodes lie before.
        self._kept: tuple[str, ...] = ()
        self._done = 0

    def run(self, node: ir.Node, names: Sequence[str]) -> Iterator[tuple[int, Results]]:
        """Yields, for each sample, its place and the values of some names: inputs, what ``node`` reads or gives.

        Nodes are asked for in the graph's order, each at most once, and the samples gone through to the end.

        Raises:
            CalibrationError: A sample does not fit the model.
            ModelError: ONNX Runtime cannot run it.
            EdgekitError: The disk is full.
        """
        place = self._places[node]
        ahead = self._find_front(place)
        moves = ahead is not None
        fresh = [] if ahead is None else [name for name in ahead if name not in self._kept]
        inputs = {str(value.name) for value in self._model.graph.inputs}
        given = inputs | set(self._kept)
        wanted = [name for name in dict.fromkeys((*names, *fresh)) if name not in given]
        session = make_session(self._cut(wanted), []) if wanted else None
        feeds = [] if session is None else [value.name for value in session.get_inputs()]
        for index, sample in enumerate(self._samples):
            check_sample(self._model, sample, index)
            needed = dict.fromkeys((*feeds, *names))
            known: Results = {
                name: np.load(self._file(index, name)) for name in needed if name in self._kept
            }
            known = {**sample, **known}
            found = (
                []
                if session is None
                else run_one(session, wanted, {name: known[name] for name in feeds})
            )
            values: Results = {**known, **dict(zip(wanted, found, strict=True))}
            with name_full_disk(self._folder, "what layers read is kept there; set TMPDIR"):
                for name in fresh:
                    np.save(self._file(index, name), values[name])
            yield index, values
        if moves and ahead is not None:
            for name in set(self._kept) - set(ahead):
                for index in range(len(self._samples)):
                    self._file(index, name).unlink()
            self._kept, self._done = ahead, place

    def _file(self, index: int, name: str) -> Path:
        return self._folder / f"{index}-{name.encode().hex()}.npy"

    def _find_front(self, place: int) -> tuple[str, ...] | None:
        """Returns what nodes before a place make and others read; None where it is too much to keep."""
        found, size = [], 0.0
        for node, own in self._places.items():
            if own >= place:
                continue
            for value in node.outputs:
                if all(self._places.get(use.node, place) < place for use in value.uses()):
                    continue
                sizes = list(value.shape) if value.shape is not None else [None]
                known = [size for size in sizes if isinstance(size, int)]
                # A first dimension that is open is that of the samples.
                if value.shape is None or len(known) < len(sizes) - 1:
                    return None
                size += 4.0 * math.prod(known) * len(self._samples)
                found.append(str(value.name))
        return tuple(found) if size <= _MOST_BYTES else None

    def _cut(self, wanted: Sequence[str]) -> ir.Model:
        """Returns the part of the graph that makes some values of what is kept."""
        part = self._model.clone()
        made = {str(value.name): value for node in part.graph for value in node.outputs}
        for name in self._kept:
            old = made[name]
            old.name = f"{name}:behind"
            fresh = ir.Value(name=name, shape=old.shape, type=old.type)
            ir.convenience.replace_all_uses_with(old, fresh)
            part.graph.inputs.append(fresh)
        part.graph.outputs.clear()
        part.graph.outputs.extend(made[name] for name in wanted)
        common.RemoveUnusedNodesPass()(part)
        used = {value for node in part.graph for value in _reads(node)}
        for value in list(part.graph.inputs):
            if value not in used:
                part.graph.inputs.remove(value)
        return part


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """Yields what a node and the nodes inside it read."""
    for value in node.inputs:
        if value is not None:
            yield value
    for attribute in node.attributes.values():
        for graph in (
            ir.Attr.as_graphs(attribute) if attribute.type == ir.AttributeType.GRAPHS else ()
        ):
            for inner in graph:
                yield from _reads(inner)
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _reads(inner)
