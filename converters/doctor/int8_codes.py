"""Values that are held in int8 codes, and how they are stored in uint8 with the same meaning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    activation_quantizers,
    grid_of,
    is_operator,
    label,
    readers,
    remove_unused,
)
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names

_MOVES = (
    *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape"),
    *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
# Operators on codes: (index of codes, index of their zero point) for each input, and the output's zero point.
_INTEGER: dict[str, tuple[tuple[tuple[int, int], ...], int]] = {
    "QLinearConv": (((0, 2),), 7),
    "QLinearMatMul": (((0, 2), (3, 5)), 7),
    "QGemm": (((0, 2), (3, 5)), 8),
    "QLinearAdd": (((0, 2), (3, 5)), 7),
    "QLinearMul": (((0, 2), (3, 5)), 7),
    "QLinearSigmoid": (((0, 2),), 4),
    "QLinearLeakyRelu": (((0, 2),), 4),
    "QLinearSoftmax": (((0, 2),), 4),
    "QLinearGlobalAveragePool": (((0, 2),), 4),
    "QLinearAveragePool": (((0, 2),), 4),
}
_SHIFT = 128


def store_as_uint8(graph: ir.Graph, makers: set[ir.Node] | None = None) -> int:
    """Adds 128 to int8 codes and their zero points, and makes them uint8; the numbers that they mean stay.

    Args:
        graph: Is changed.
        makers: Only groups of which a maker is among these; None: all.

    Returns:
        How many groups were changed; those that are blocked are not.
    """
    forget_names(graph)
    changed = 0
    for group in find_int8_groups(graph):
        if group.blocked or (makers is not None and not makers & set(group.makers)):
            continue
        for node, index in sorted(group.zero_points, key=lambda item: (label(item[0]), item[1])):
            _shift(graph, node, index)
        for value in group.values:
            value.dtype = ir.DataType.UINT8
        changed += 1
    for node in graph:
        if changed and _is_int8_operand(node):
            _shift(graph, node, 0)
            _shift(graph, node, 2)
    remove_unused(graph)
    return changed


class Int8Group:
    """Values in int8 codes that have to be stored alike, since nodes hand codes on among them.

    Attributes:
        values: The codes.
        makers: The nodes that make them.
        zero_points: Nodes with an input that is their zero point, and at which place.
        blocked: Whether some of them enter or leave the file, or are read as they are.
    """

    def __init__(self) -> None:
        self.values: dict[ir.Value, None] = {}
        self.makers: dict[ir.Node, None] = {}
        self.zero_points: set[tuple[ir.Node, int]] = set()
        self.blocked = False


def find_int8_groups(graph: ir.Graph) -> Iterator[Int8Group]:
    """Yields the activations that are held in int8, in groups that have to be stored alike."""
    seen: set[ir.Value] = set()
    for start in _int8_values(graph):
        if start in seen:
            continue
        group, waiting = Int8Group(), [start]
        while waiting:
            value = waiting.pop()
            if value in group.values:
                continue
            group.values[value] = None
            if value.is_graph_output() or value.is_graph_input() or value.is_initializer():
                group.blocked = True
            maker = value.producer()
            if maker is not None:
                waiting += _look(group, maker, value, writes=True)
            for reader in readers(value):
                waiting += _look(group, reader, value, writes=False)
        seen |= set(group.values)
        yield group


def _int8_values(graph: ir.Graph) -> Iterator[ir.Value]:
    for quantizer in activation_quantizers(graph):
        grid = grid_of(quantizer)
        if grid is not None and grid.dtype == np.int8:
            yield quantizer.outputs[0]
    for node in graph:
        if node.op_type in _INTEGER:
            zero = constant(_input(node, _INTEGER[node.op_type][1]))
            if zero is not None and zero.dtype == np.int8:
                yield node.outputs[0]


def _look(group: Int8Group, node: ir.Node, value: ir.Value, *, writes: bool) -> list[ir.Value]:
    """Notes what ``node`` does with the codes ``value``, and returns other codes that have to be stored like them."""
    if is_operator(node, QUANTIZE, DEQUANTIZE):
        if grid_of(node) is None:
            group.blocked = True
        group.zero_points.add((node, 2))
        if writes:
            group.makers[node] = None
        return []
    if node.op_type in _INTEGER:
        operands, output_zero = _INTEGER[node.op_type]
        if writes:
            group.makers[node] = None
            group.zero_points.add((node, output_zero))
        else:
            group.zero_points.update(
                (node, zero) for index, zero in operands if node.inputs[index] is value
            )
        return _alike(node, value, group)
    if is_operator(node, *_MOVES):
        others = [*node.outputs]
        others += [
            item for item in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if item
        ]
        if writes:
            group.makers[node] = None
        elif node.op_type != "Concat" and node.inputs[0] is not value:
            group.blocked = True
        return others
    group.blocked = True
    return []


def _alike(node: ir.Node, value: ir.Value, group: Int8Group) -> list[ir.Value]:
    """Returns the codes that ``node`` wants in the type of ``value``: all of its operands that are no weights."""
    operands, _ = _INTEGER[node.op_type]
    others = [node.outputs[0]] if node.op_type != "QGemm" or _input(node, 8) is not None else []
    for index, _zero in operands:
        other = _input(node, index)
        if other is None:
            continue
        if constant(other) is None:
            others.append(other)
        elif node.op_type in ("QLinearAdd", "QLinearMul"):
            group.blocked = True
    return [other for other in others if other is not value]


def _is_int8_operand(node: ir.Node) -> bool:
    """Returns whether ``node`` dequantizes an int8 constant that is no weight: its kernel wants both operands alike."""
    if not is_operator(node, DEQUANTIZE):
        return False
    codes, grid = constant(node.inputs[0]), grid_of(node)
    if codes is None or grid is None or codes.dtype != np.int8 or node.outputs[0].is_graph_output():
        return False
    users = readers(node.outputs[0])
    return bool(users) and not any(
        is_operator(user, *WEIGHTED, "LSTM", "GRU", "RNN", "Gather") for user in users
    )


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None


def _shift(graph: ir.Graph, node: ir.Node, index: int) -> None:
    """Adds 128 to an int8 constant of ``node``, a zero point or codes, and makes it uint8."""
    value = _input(node, index)
    array: npt.NDArray[np.generic] | None = constant(value)
    base = f"{node.outputs[0].name}_zero_point"
    if value is None:
        grid = grid_of(node)
        assert grid is not None
        array = grid.zero_point
        node.resize_inputs(index + 1)
        node.attributes.pop("output_dtype", None)
    elif value.name:
        base = value.name
    if array is None or array.dtype != np.int8:
        return
    shifted = (array.astype(np.int16) + _SHIFT).astype(np.uint8)
    node.replace_input_with(index, add_initializer(graph, f"{base}_uint8", shifted))
