"""Transpositions that undo each other around what does not care about the order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator

_UNARY = frozenset(
    {
        *("ABS", "DEQUANTIZE", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "NEG"),
        *("QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "RSQRT", "SQRT", "SQUARE", "TANH"),
    }
)
_BINARY = frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SUB", "SQUARED_DIFFERENCE"})


class TfliteLayoutTransposes(Rule[TfliteSubject]):
    """Converters from channels-first networks put a TRANSPOSE on both sides of each convolution.

    Looked for is a region of elementwise operators that only transpositions by one permutation enter and only their
    inverses leave. Fix: all of them go.
    """

    id: ClassVar[str] = "layout-transposes"
    says: ClassVar[str] = (
        "TRANSPOSE operators around layers undo each other: they move every value for nothing."
    )
    source: ClassVar[str] = "https://github.com/PINTO0309/onnx2tf"
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Looks for regions."""
        graph = subject.graph
        return [
            Finding(
                self.id,
                tuple(graph.label(op) for op in (*region.sources, *region.sinks)),
                f"{len(region.sources)} transpositions and {len(region.sinks)} that undo them, and nothing between "
                "needs them",
                "convert so that the network is channels-last all the way, or remove both",
                fixable=True,
            )
            for region in _regions(graph)
        ]

    def fix(self, subject: TfliteSubject, findings: Sequence[Finding]) -> int:
        """Removes the transpositions of each region, and turns the shapes inside."""
        fixed = 0
        for finding in findings:
            graph = subject.graph
            wanted = {op.index for op in graph.find(finding.nodes)}
            for region in _regions(graph):
                if wanted & {op.index for op in region.sources}:
                    _remove(subject, graph, region)
                    fixed += 1
                    break
        return fixed


@dataclass(frozen=True)
class _Region:
    sources: tuple[Operator, ...]
    sinks: tuple[Operator, ...]
    inside: tuple[Operator, ...]
    inverse: tuple[int, ...]


def _remove(subject: TfliteSubject, graph: TfliteGraph, region: _Region) -> None:
    moved = {op.outputs[0]: op.inputs[0] for op in (*region.sources, *region.sinks)}

    def origin(index: int) -> int:
        while index in moved:
            index = moved[index]
        return index

    with subject.change() as model:
        part = model.subgraphs[0]
        for op in part.operators:
            op.inputs = np.array([origin(int(index)) for index in op.inputs], np.int32)
        for op in region.inside:
            for index in op.outputs:
                tensor = part.tensors[index]
                tensor.shape = np.asarray(tensor.shape)[list(region.inverse)]
                if tensor.shapeSignature is not None and len(tensor.shapeSignature):
                    tensor.shapeSignature = np.asarray(tensor.shapeSignature)[list(region.inverse)]
        gone = {op.index for op in (*region.sources, *region.sinks)}
        part.operators = [op for index, op in enumerate(part.operators) if index not in gone]


def _regions(graph: TfliteGraph) -> list[_Region]:
    seen: set[int] = set()
    found = []
    for start in graph.file.operators:
        if start.index in seen or _permutation(graph, start) is None:
            continue
        region = _grow(graph, start)
        if region is not None and not seen & {op.index for op in (*region.sources, *region.sinks)}:
            seen |= {op.index for op in (*region.sources, *region.sinks)}
            found.append(region)
    return found


def _grow(graph: TfliteGraph, start: Operator) -> _Region | None:
    """Returns the region that begins at ``start``, or None where it is open somewhere."""
    order = _permutation(graph, start)
    if order is None:
        return None
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    sources: dict[int, Operator] = {start.index: start}
    sinks: dict[int, Operator] = {}
    inside: dict[int, Operator] = {}
    waiting = [start]
    while waiting:
        op = waiting.pop()
        result = graph.result(op)
        users = graph.users(result)
        if graph.is_output(result) or not users or len(op.outputs) != 1:
            return None
        for user in users:
            if _permutation(graph, user) == inverse:
                if graph.is_output(graph.result(user)):
                    return None
                sinks[user.index] = user
            elif user.index not in inside:
                makers = _entering(graph, user)
                if makers is None:
                    return None
                inside[user.index] = user
                waiting.append(user)
                # Other makers have to be reached from a source as well, which is checked at the end.
                for maker in makers:
                    if _permutation(graph, maker) == order and maker.index not in sources:
                        sources[maker.index] = maker
                        waiting.append(maker)
    reached = {**sources, **inside}
    for op in inside.values():
        makers = _entering(graph, op)
        if makers is None or any(maker.index not in reached for maker in makers):
            return None
    if not sinks:
        return None
    return _Region(tuple(sources.values()), tuple(sinks.values()), tuple(inside.values()), inverse)


def _entering(graph: TfliteGraph, op: Operator) -> list[Operator] | None:
    """Returns the makers of the tensors that ``op`` works on by element; None where it minds their axes."""
    places: tuple[int, ...]
    if op.code in _UNARY:
        places = (0,)
    elif op.code in _BINARY:
        places = (0, 1)
    else:
        return None
    makers = []
    for place in places:
        tensor = graph.operand(op, place)
        if tensor is None or (tensor.grid is not None and tensor.grid.scale.size != 1):
            return None
        if tensor.data is not None:
            if tensor.data.size != 1:
                return None
            continue
        maker = graph.maker(tensor)
        if maker is None or tensor.shape != graph.result(op).shape:
            return None
        makers.append(maker)
    return makers


def _permutation(graph: TfliteGraph, op: Operator) -> tuple[int, ...] | None:
    order = graph.operand(op, 1) if op.code == "TRANSPOSE" else None
    if order is None or order.data is None:
        return None
    axes = tuple(int(axis) for axis in order.data.reshape(-1))
    return axes if sorted(axes) == list(range(len(axes))) else None
