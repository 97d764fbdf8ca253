"""Several sizes of one network: what differs between them, and the quantized graph bound to each.

A network whose inputs leave dimensions open is bound to each size and simplified by itself. The same operators come
out, and constants that depend on no size are the same; so one of them is calibrated and quantized, and the others are
made of it by putting in what differs: shapes, whole numbers that say shapes, and attributes such as pads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.fix_shapes import Shapes, open_inputs
from edgekit.converters.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
    forget_names,
    new_name,
)
from edgekit.converters.quantization import keep_float
from edgekit.converters.size_names import SIZES_KEY, describe_shapes
from edgekit.targets.errors import ModelError

# Of a constant: the name of the node that reads it, and which of its inputs it is.
Place = tuple[str, int]
Integers = npt.NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Binding:
    """What is different in a network at one size, as against its first.

    Attributes:
        inputs: Shapes of the inputs, by name.
        shapes: Shapes of the results of nodes, by name; those that are known.
        constants: Whole numbers that depend on the size.
        attributes: Those that depend on the size, by the name of the node.
    """

    inputs: Mapping[str, ir.Shape]
    shapes: Mapping[str, ir.Shape]
    constants: Mapping[Place, Integers]
    attributes: Mapping[str, Mapping[str, ir.Attr]]


def find_bindings(graphs: Sequence[ir.Model], sizes: Sequence[Shapes]) -> tuple[Binding, ...]:
    """Returns what is different in each of ``graphs``, bound to ``sizes``, as against the first; see `find_binding`."""
    for graph, size in zip(graphs, sizes, strict=True):
        if len(sizes) > 1 and open_inputs(graph):
            names = ", ".join(str(value.name) for value in open_inputs(graph))
            raise ModelError(
                f"size {describe_shapes(size)} leaves dimensions of {names} open: give all of them"
            )
    return tuple(
        find_binding(graphs[0], graph, describe_shapes(size))
        for graph, size in zip(graphs[1:], sizes[1:], strict=True)
    )


def find_binding(first: ir.Model, other: ir.Model, where: str) -> Binding:
    """Returns what is different in ``other``, the same network at another size.

    Args:
        first: Bound to the first size, and simplified.
        other: Bound to the other and simplified alike.
        where: How errors name the other size.

    Raises:
        ModelError: Another network came out, or its float constants depend on the size; names the node.
    """
    constants: dict[Place, Integers] = {}
    attributes: dict[str, Mapping[str, ir.Attr]] = {}
    nodes, others = list(first.graph), list(other.graph)
    for node, twin in zip(nodes, others, strict=False):
        wrong = f"node '{node.name}' ({node.op_type}) is another at size {where} than at the first"
        if _outline(node) != _outline(twin):
            raise ModelError(f"{wrong}: deploy the sizes apart")
        constants.update(_differing_constants(node, twin, wrong))
        differing = {
            name: attr
            for name, attr in twin.attributes.items()
            if name not in node.attributes or not _same(attr, node.attributes[name])
        }
        if differing:
            attributes[node.name or ""] = differing
    if len(nodes) != len(others):
        raise ModelError(
            f"at size {where} the network has {len(others)} operators, at the first {len(nodes)}: deploy the sizes "
            "apart"
        )
    return Binding(
        {str(value.name): _shape(value) for value in other.graph.inputs},
        {
            str(value.name): value.shape
            for node in other.graph
            for value in node.outputs
            if value.shape is not None
        },
        constants,
        attributes,
    )


def bind_size(model: ir.Model, binding: Binding) -> ir.Model:
    """Returns ``model``, made from the first size, at another one: the same records, operators and weights."""
    result = model.clone()
    graph = result.graph
    for value in graph.inputs:
        value.shape = binding.inputs[str(value.name)]
    for node in graph:
        for name, attr in binding.attributes.get(node.name or "", {}).items():
            node.attributes[name] = attr
        for value in node.outputs:
            value.shape = binding.shapes.get(str(value.name))
        for index in range(len(node.inputs)):
            array = binding.constants.get((node.name or "", index))
            if array is not None:
                node.replace_input_with(
                    index, add_initializer(graph, f"{node.name}_{index}", array)
                )
    _drop_unused_initializers(graph)
    forget_names(graph)
    return result


def open_sizes(model: ir.Model, source: ir.Model, bindings: Sequence[Binding]) -> ir.Model:
    """Returns ``model``, made from the first size, with what depends on the size left open.

    Whole numbers that say shapes are made to hold for every size: as 0 or -1 of a Reshape, or taken from the shape of a
    value that has them. The result is the same at each of the sizes; at others it is likely what the source model is.

    Args:
        model: Made from the first size.
        source: The network as it was read, whose inputs name their open dimensions.
        bindings: Of the other sizes.

    Raises:
        ModelError: A node depends on the size in another way; names it.
    """
    result = model.clone()
    graph = result.graph
    for node in graph:
        if any(node.name in binding.attributes for binding in bindings):
            raise ModelError(
                f"node '{node.name}' ({node.op_type}) has other attributes at each size, which one ONNX file cannot "
                "hold: give one size, or format native"
            )
    known = _Dimensions(graph, bindings)
    names = {str(value.name): value.shape for value in source.graph.inputs}
    for node in tuple(graph):
        for index in range(len(node.inputs)):
            place = (node.name or "", index)
            if any(place in binding.constants for binding in bindings):
                first = constant(node.inputs[index])
                assert first is not None
                versions = [first, *(binding.constants.get(place, first) for binding in bindings)]
                value = _open_constant(graph, node, index, versions, known)
                node.replace_input_with(index, value)
    result.metadata_props[SIZES_KEY] = _list_sizes(graph, bindings)
    for value in graph.inputs:
        value.shape = _open_input(value, names.get(str(value.name)), bindings)
    for node in graph:
        for value in node.outputs:
            value.shape = _open_shape(value, bindings)
    _drop_unused_initializers(graph)
    forget_names(graph)
    return result


class _Dimensions:
    """The shapes that values of a graph have at each size."""

    def __init__(self, graph: ir.Graph, bindings: Sequence[Binding]) -> None:
        self._shapes: dict[ir.Value, list[ir.Shape]] = {}
        for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
            name = str(value.name)
            others = [binding.inputs.get(name, binding.shapes.get(name)) for binding in bindings]
            if value.shape is not None and all(shape is not None for shape in others):
                known = [shape for shape in others if shape is not None]
                self._shapes[value] = [value.shape, *known]

    def of(self, value: ir.Value | None, axis: int) -> list[int] | None:
        """Returns dimension ``axis`` of ``value`` at each size, None where it is not known at all of them."""
        shapes = self._shapes.get(value) if value is not None else None
        if shapes is None or axis >= min(shape.rank() for shape in shapes):
            return None
        sizes = [shape[axis] for shape in shapes]
        return (
            [size for size in sizes if isinstance(size, int)]
            if all(isinstance(size, int) for size in sizes)
            else None
        )

    def find(
        self, graph: ir.Graph, node: ir.Node, wanted: list[int]
    ) -> tuple[ir.Value, int] | None:
        """Returns a value from before ``node``, its inputs first, and its dimension that is ``wanted`` at each size."""
        before: list[ir.Value] = [*graph.inputs]
        for other in graph:
            if other is node:
                break
            before.extend(other.outputs)
        own = [value for value in node.inputs if value is not None]
        for value in (*own, *reversed(before)):
            for axis in range(0 if value.shape is None else value.shape.rank()):
                if self.of(value, axis) == wanted:
                    return value, axis
        return None


def _open_constant(
    graph: ir.Graph,
    node: ir.Node,
    index: int,
    versions: Sequence[npt.NDArray[np.generic]],
    known: _Dimensions,
) -> ir.Value:
    """Returns what input ``index`` of ``node`` is in a network for all sizes."""
    wrong = ModelError(
        f"node '{node.name}' ({node.op_type}) depends on the size in a way that one ONNX file cannot hold: give one "
        "size, or format native"
    )
    if any(array.shape != versions[0].shape or array.ndim != 1 for array in versions):
        raise wrong
    columns = [[int(array[axis]) for array in versions] for axis in range(len(versions[0]))]
    numbers: list[int | None] = [column[0] if len(set(column)) == 1 else None for column in columns]
    if node.op_type == "Reshape" and index == 1 and not attribute(node, "allowzero", 0):
        output = node.outputs[0]
        for axis, column in enumerate(columns):
            if numbers[axis] is None and known.of(node.inputs[0], axis) == column:
                numbers[axis] = 0
            made = known.of(output, axis)
            if numbers[axis] == -1 and made is not None and len(set(made)) == 1:
                numbers[axis] = made[0]
        if numbers.count(None) == 1 and -1 not in numbers:
            numbers[numbers.index(None)] = -1
    if None not in numbers:
        return add_initializer(graph, f"{node.name}_{index}", np.array(numbers, versions[0].dtype))
    if versions[0].dtype != np.int64:
        raise wrong
    parts: list[ir.Value] = []
    for number, column in zip(numbers, columns, strict=True):
        if number is not None:
            parts.append(
                add_initializer(graph, f"{node.name}_{index}", np.array([number], np.int64))
            )
            continue
        found = known.find(graph, node, column)
        if found is None:
            raise wrong
        parts.append(_dimension(graph, node, *found))
    return _insert(graph, node, "Concat", parts, {"axis": 0})


def _dimension(graph: ir.Graph, node: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    """Returns dimension ``axis`` of ``value`` as an array of one element, computed before ``node``."""
    shape = _insert(graph, node, "Shape", [value], {})
    place = add_initializer(graph, f"{node.name}_axis", np.array([axis], np.int64))
    return _insert(graph, node, "Gather", [shape, place], {"axis": 0})


def _insert(
    graph: ir.Graph,
    node: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value],
    attributes: Mapping[str, int],
) -> ir.Value:
    """Puts an operator on whole numbers before ``node`` and returns its result."""
    name = new_name(graph, f"{node.name}_{kind.lower()}")
    output = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64))
    made = ir.node(kind, inputs=inputs, attributes=attributes, outputs=[output], name=name)
    keep_float(made)
    graph.insert_before(node, made)
    return output


def _list_sizes(graph: ir.Graph, bindings: Sequence[Binding]) -> str:
    first = {str(value.name): _shape(value) for value in graph.inputs}
    rows = [
        {
            name: [dim if isinstance(dim, int) else 1 for dim in shape]
            for name, shape in size.items()
        }
        for size in (first, *(binding.inputs for binding in bindings))
    ]
    return json.dumps(rows)


def _open_input(value: ir.Value, given: ir.Shape | None, bindings: Sequence[Binding]) -> ir.Shape:
    """Returns the shape of an input whose differing dimensions are called as in the source model."""
    shape = _open_shape(value, bindings)
    assert shape is not None
    if given is None or given.rank() != shape.rank():
        return shape
    return ir.Shape(
        given[axis] if isinstance(dim, ir.SymbolicDim) else dim for axis, dim in enumerate(shape)
    )


def _open_shape(value: ir.Value, bindings: Sequence[Binding]) -> ir.Shape | None:
    """Returns the shape of ``value`` with None for each dimension that differs between sizes."""
    if value.shape is None:
        return None
    name = str(value.name)
    dims: list[int | str | ir.SymbolicDim | None] = list(value.shape)
    for binding in bindings:
        other = binding.inputs.get(name, binding.shapes.get(name))
        if other is None or other.rank() != len(dims):
            return None
        dims = [dim if dim == size else None for dim, size in zip(dims, other, strict=True)]
    return ir.Shape(dims)


def _shape(value: ir.Value) -> ir.Shape:
    if value.shape is None:
        raise ModelError(f"input '{value.name}' has no shape; a size needs one")
    return value.shape


def _outline(node: ir.Node) -> tuple[object, ...]:
    """Returns what a node is at every size."""
    inputs = [
        None if value is None else "constant" if constant(value) is not None else str(value.name)
        for value in node.inputs
    ]
    outputs = [str(value.name) for value in node.outputs]
    return node.name, node.op_type, node.domain, inputs, outputs


def _differing_constants(
    node: ir.Node, twin: ir.Node, wrong: str
) -> Iterator[tuple[Place, Integers]]:
    """Yields the whole numbers that ``twin`` reads and ``node`` does not."""
    for index, (value, other) in enumerate(zip(node.inputs, twin.inputs, strict=True)):
        ours, theirs = constant(value), constant(other)
        if ours is None or theirs is None:
            continue
        if ours.dtype == theirs.dtype and np.array_equal(ours, theirs):
            continue
        if ours.dtype != theirs.dtype or not np.issubdtype(theirs.dtype, np.signedinteger):
            raise ModelError(
                f"{wrong}: its constant '{value.name if value else ''}' depends on the size; deploy the sizes apart"
            )
        yield (node.name or "", index), cast("Integers", theirs)


def _same(a: ir.Attr, b: ir.Attr) -> bool:
    if a.type != b.type:
        return False
    if a.type == ir.AttributeType.TENSOR:
        return np.array_equal(a.as_tensor().numpy(), b.as_tensor().numpy())
    return bool(a.value == b.value)


def _drop_unused_initializers(graph: ir.Graph) -> None:
    for name, value in tuple(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
