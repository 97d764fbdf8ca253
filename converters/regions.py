"""Finds parts of a graph that compute a function of one value, element by element: on codes, a table.

A hard-swish written as Add, Clip, Mul and Div, a chain of scalar sums and products, or a single Sigmoid: each
reads one computed value and gives one, so 256 codes of it say everything. What lies between stays unrounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.tables import (
    BINARY_FUNCTIONS,
    UNARY_OPERATORS,
    UnaryFunction,
    call_total,
    unary_function,
)


@dataclass(frozen=True, eq=False)
class Region:
    """Nodes that together compute one value from another, element by element.

    Attributes:
        source: The only computed value that is read.
        nodes: In graph order; the last one makes the result, and nothing else reads what the others make.
    """

    source: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def output(self) -> ir.Value:
        """The value that the last node makes."""
        return self.nodes[-1].outputs[0]

    @property
    def label(self) -> str:
        """The operators, joined by '+'."""
        return "+".join(node.op_type for node in self.nodes)

    def function(self) -> UnaryFunction:
        """Returns the function of an element, in float64."""
        steps = [(node.outputs[0], _step(node)) for node in self.nodes]

        def evaluate(x: float) -> float:
            known: dict[ir.Value, float] = {self.source: x}
            for value, step in steps:
                known[value] = step(known)
            return known[self.output]

        return evaluate


def find_regions(
    nodes: Iterable[ir.Node], is_border: Callable[[ir.Value], bool] = lambda value: False
) -> dict[ir.Node, Region]:
    """Returns the regions of a graph, as large as they can be, by their last node.

    Args:
        nodes: In graph order.
        is_border: Whether a value must be there for its own sake; no region goes across it.
    """
    order = list(nodes)
    borders: set[ir.Value] = set()
    while True:
        roots = _roots(order, borders, is_border)
        found = {value for node in roots for value in _needed(node, roots)} - borders
        if not found:
            return _collect(order, roots)
        borders |= found


def node_attributes(node: ir.Node) -> dict[str, float] | None:
    """Returns the numbers that a function of ``unary_function`` takes, or None where one of them is computed."""
    attributes: dict[str, float] = {}
    for name, attribute in node.attributes.items():
        if attribute.type is ir.AttributeType.FLOAT:
            attributes[name] = attribute.as_float()
        elif name == "approximate":
            attributes["tanh"] = float(attribute.as_string() == "tanh")
    if node.op_type == "Clip":
        for name, value in zip(("min", "max"), node.inputs[1:], strict=False):
            if value is None:
                continue
            bound = constant(value)
            if bound is None or bound.size != 1:
                return None
            attributes[name] = float(np.asarray(bound, np.float64).reshape(()))
    return attributes


def _operands(node: ir.Node) -> tuple[ir.Value, ...]:
    """Returns the computed operands of an elementwise node; nothing where it is no function of elements alone."""
    if node.domain or len(node.outputs) != 1 or node.outputs[0].dtype != ir.DataType.FLOAT:
        return ()
    if node.op_type in UNARY_OPERATORS:
        source = node.inputs[0]
        if source is None or constant(source) is not None or node_attributes(node) is None:
            return ()
        return (source,)
    if node.op_type not in BINARY_FUNCTIONS or len(node.inputs) != 2:
        return ()
    operands: list[ir.Value] = []
    rank = 0
    for value in node.inputs:
        if value is None:
            return ()
        array = constant(value)
        if array is None:
            operands.append(value)
        elif array.size != 1 or not np.isfinite(array).all():
            return ()
        else:
            rank = max(rank, array.ndim)
    shapes = {str(value.shape) for value in operands}
    known = all(value.shape is not None for value in operands)
    if len(operands) == 2 and (not known or len(shapes) != 1):
        return ()
    if rank > 0 and not (known and operands and rank <= len(operands[0].shape or ())):
        return ()
    return tuple(operands)


def _roots(
    order: list[ir.Node], borders: set[ir.Value], is_border: Callable[[ir.Value], bool]
) -> dict[ir.Node, ir.Value]:
    """Returns the one value that each elementwise node is a function of, where there is one."""
    roots: dict[ir.Node, ir.Value] = {}

    def root(value: ir.Value) -> ir.Value:
        maker = value.producer()
        if maker is None or maker not in roots or value in borders or is_border(value):
            return value
        return roots[maker]

    for node in order:
        found = {root(value) for value in _operands(node)}
        if len(found) == 1:
            roots[node] = found.pop()
    return roots


def _needed(node: ir.Node, roots: dict[ir.Node, ir.Value]) -> set[ir.Value]:
    """Returns the output of ``node`` where something besides its own region reads it and it must end there."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    inside = [reader for reader in readers if roots.get(reader) is roots[node]]
    if not inside or (len(inside) == len(readers) and not output.is_graph_output()):
        return set()
    return {output}


def _collect(order: list[ir.Node], roots: dict[ir.Node, ir.Value]) -> dict[ir.Node, Region]:
    regions: dict[ir.Node, Region] = {}
    places = {node: place for place, node in enumerate(order)}
    for node, source in roots.items():
        output = node.outputs[0]
        if not output.is_graph_output() and any(
            roots.get(use.node) is source for use in output.uses()
        ):
            continue
        members: set[ir.Node] = set()
        waiting = [node]
        while waiting:
            member = waiting.pop()
            if member in members:
                continue
            members.add(member)
            for value in _operands(member):
                maker = value.producer()
                if value is not source and maker is not None:
                    waiting.append(maker)
        regions[node] = Region(source, tuple(sorted(members, key=places.__getitem__)))
    return regions


def _step(node: ir.Node) -> Callable[[dict[ir.Value, float]], float]:
    """Returns what ``node`` does with the elements of its operands."""
    if node.op_type in UNARY_OPERATORS:
        source = node.inputs[0]
        assert source is not None
        function = unary_function(node.op_type, node_attributes(node) or {})
        return lambda known: call_total(function, known[source])
    left, right = node.inputs
    assert left is not None
    assert right is not None
    operator = BINARY_FUNCTIONS[node.op_type]
    numbers = {value: _number(value) for value in (left, right) if constant(value) is not None}

    def step(known: dict[ir.Value, float]) -> float:
        a, b = (numbers[value] if value in numbers else known[value] for value in (left, right))
        return call_total(operator, a, b)

    return step


def _number(value: ir.Value) -> float:
    """Returns the real value of a single constant: what its codes stand for, where it is quantized."""
    array = constant(value)
    assert array is not None
    real = float(np.asarray(array, np.float64).reshape(()))
    record = get_quantization(value)
    if not isinstance(record, ActivationQuantization):
        return real
    code = record.zero_point + round(float(np.float32(real) / record.scale))
    return float(record.scale) * (min(max(code, record.lo), record.hi) - record.zero_point)
