"""SimplifyReshape: makes the target of a Reshape a constant, whatever the exporter computed it from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    attribute,
    constant,
    skip,
)

# An element of a shape: a number, or the name of a dimension that is not known yet.
Element = int | str


class SimplifyReshape(GraphPass):
    """Makes the target of a Reshape a constant, whatever the exporter computed it from.

    The target is followed back through Concat, Gather, Slice, Squeeze, Unsqueeze, Cast and Shape.

    Rules:
        ``Reshape(x, computed) -> Reshape(x, constant)``: an element that is dimension i of x, at place i, becomes 0
        (copied), and one other unknown element becomes -1.
    """

    ops = frozenset({"Reshape"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the second input of ``node``."""
        source, target = node.inputs[0], node.inputs[1]
        if source is None or target is None or constant(target) is not None:
            return None
        elements = elements_of(target)
        if elements is None:
            shape = node.outputs[0].shape
            elements = None if shape is None else _elements_of_shape(list(shape))
        if elements is None or attribute(node, "allowzero", 0):
            return skip(node, "its target cannot be followed back to known dimensions")
        dims = [] if source.shape is None else _elements_of_shape(list(source.shape)) or []
        numbers = [
            element if isinstance(element, int) else 0 if dims[i : i + 1] == [element] else -1
            for i, element in enumerate(elements)
        ]
        if numbers.count(-1) > 1:
            return skip(node, f"its target {elements} has more than one unknown dimension")
        name = f"{node.outputs[0].name}_shape"
        node.replace_input_with(1, add_initializer(graph, name, np.array(numbers, np.int64)))
        return f"its target became the constant {numbers}"


def elements_of(value: ir.Value | None) -> list[Element] | None:
    """Returns the elements of a scalar or vector of dimensions, or None where they cannot be followed."""
    array = constant(value)
    if array is not None:
        return [int(element) for element in array.reshape(-1)] if array.ndim <= 1 else None
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Shape":
        source = node.inputs[0]
        if source is None or source.shape is None:
            return None
        end = node.attributes.get("end")
        dims = list(source.shape)[
            attribute(node, "start", 0) : None if end is None else end.as_int()
        ]
        return _elements_of_shape(dims)
    parts = [
        elements_of(source) for source in node.inputs[: None if node.op_type == "Concat" else 1]
    ]
    if any(part is None for part in parts):
        return None
    whole = [element for part in parts if part is not None for element in part]
    rest = [constant(source) for source in node.inputs[1:]]
    match node.op_type:
        case "Concat" | "Squeeze" | "Unsqueeze" | "Cast" | "Identity":
            return whole
        case "Gather" if rest[0] is not None:
            picked = np.arange(len(whole))[rest[0].reshape(-1).astype(np.int64)]
            return [whole[int(i)] for i in picked]
        case "Slice" if all(array is not None and array.size == 1 for array in rest):
            begin, end_, *more = (int(array.reshape(-1)[0]) for array in rest if array is not None)
            return whole[begin : end_ : more[1] if len(more) > 1 else 1]
        case _:
            return None


def _elements_of_shape(dims: Sequence[int | ir.SymbolicDim]) -> list[Element] | None:
    """Returns the dimensions as elements; None where one has neither a number nor a name."""
    elements = [dim if isinstance(dim, int) else dim.value for dim in dims]
    return None if any(e is None for e in elements) else [e for e in elements if e is not None]
