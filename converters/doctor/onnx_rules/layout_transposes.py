"""Transposes that undo each other around what does not care about the order of axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    find_nodes,
    grid_of,
    is_operator,
    label,
    readers,
)
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import constant, forget_names

_UNARY = frozenset(
    {
        *(
            "Abs",
            "Cast",
            "Ceil",
            "Clip",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
        ),
        *(
            "Identity",
            "LeakyRelu",
            "Log",
            "Mish",
            "Neg",
            "Not",
            "Reciprocal",
            "Relu",
            "Round",
            "Selu",
        ),
        *("Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh"),
    }
)
_BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})


class LayoutTransposes(Rule[OnnxSubject]):
    """Exporters of channels-last networks leave a transposition after one convolution, its inverse before the next.

    Looked for is a region of elementwise operators, Q and DQ of one scale among them, that only transpositions by one
    permutation enter and only their inverses leave. Fix: all of them go.
    """

    id: ClassVar[str] = "layout-transposes"
    says: ClassVar[str] = (
        "Transposes around layers undo each other: they move every value for nothing, and may keep Q/DQ from fusing."
    )
    source: ClassVar[str] = "https://github.com/onnx/onnx-tensorflow/issues/782"
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Looks for regions."""
        found = []
        for sources, sinks, _ in _regions(subject.graph):
            names = tuple(label(node) for node in (*sources, *sinks))
            found.append(
                Finding(
                    self.id,
                    names,
                    f"{len(sources)} transpositions and {len(sinks)} that undo them, and nothing between needs them",
                    "export in NCHW, or remove both",
                    fixable=True,
                )
            )
        return found

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Removes the transpositions of each region."""
        graph = subject.graph
        forget_names(graph)
        fixed = 0
        for finding in findings:
            wanted = set(find_nodes(graph, finding.nodes))
            for sources, sinks, inside in _regions(graph):
                if not wanted & set(sources):
                    continue
                for node in (*sources, *sinks):
                    source = node.inputs[0]
                    assert source is not None
                    node.outputs[0].replace_all_uses_with(source)
                    graph.remove(node, safe=True)
                for node in inside:
                    for value in node.outputs:
                        value.shape = None
                fixed += 1
                break
        return fixed


_Region = tuple[list[ir.Node], list[ir.Node], list[ir.Node]]


def _regions(graph: ir.Graph) -> Iterable[_Region]:
    """Returns the transpositions that enter each region, those that leave it, and the nodes between."""
    seen: set[ir.Node] = set()
    found: list[_Region] = []
    for start in graph:
        if not is_operator(start, "Transpose") or start in seen:
            continue
        region = _grow(start)
        if region is not None:
            sources, sinks, _ = region
            if not seen & {*sources, *sinks}:
                seen |= {*sources, *sinks}
                found.append(region)
    return found


def _grow(start: ir.Node) -> _Region | None:
    """Returns the region that begins at ``start``, or None where it is open somewhere."""
    order = _permutation(start)
    if order is None or start.outputs[0].is_graph_output():
        return None
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    sources: dict[ir.Node, None] = {start: None}
    sinks: dict[ir.Node, None] = {}
    inside: dict[ir.Node, None] = {}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        if any(value.is_graph_output() for value in node.outputs):
            return None
        for reader in (reader for value in node.outputs for reader in readers(value)):
            if is_operator(reader, "Transpose") and _permutation(reader) == inverse:
                if reader.outputs[0].is_graph_output():
                    return None
                sinks[reader] = None
            elif reader not in inside:
                entering = _entering(reader, node)
                if entering is None:
                    return None
                inside[reader] = None
                waiting.append(reader)
                for maker in entering:
                    if maker in inside or maker in sources:
                        continue
                    if is_operator(maker, "Transpose") and _permutation(maker) == order:
                        sources[maker] = None
                    elif not _entering(maker, None):
                        return None
                    else:
                        inside[maker] = None
                        outer = _entering(maker, None)
                        if outer is None or any(
                            m not in sources and m not in inside for m in outer
                        ):
                            return None
                    waiting.append(maker)
    if not sinks or any(_dead_end(node) for node in inside):
        return None
    return list(sources), list(sinks), list(inside)


def _dead_end(node: ir.Node) -> bool:
    return not any(readers(value) for value in node.outputs)


def _entering(node: ir.Node, known: ir.Node | None) -> list[ir.Node] | None:
    """Returns the nodes that make the tensors which ``node`` works on by element; None where it minds their axes."""
    if is_operator(node, QUANTIZE, DEQUANTIZE):
        grid = grid_of(node)
        operands = node.inputs[:1] if grid is not None and grid.is_single else None
    elif is_operator(node, *_UNARY):
        bounds = node.inputs[1:]
        fine = all(value is None or constant(value) is not None for value in bounds)
        operands = node.inputs[:1] if fine else None
    elif is_operator(node, *_BINARY):
        operands = node.inputs
    else:
        operands = None
    if operands is None:
        return None
    makers = []
    for value in operands:
        array = constant(value)
        if array is not None:
            if array.size != 1:
                return None
            continue
        maker = None if value is None else value.producer()
        if maker is None:
            return None
        if maker is not known:
            makers.append(maker)
    return makers


def _permutation(node: ir.Node) -> tuple[int, ...] | None:
    order = node.attributes.get_ints("perm", None)
    if order is not None:
        return tuple(order)
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return tuple(reversed(range(source.shape.rank())))
