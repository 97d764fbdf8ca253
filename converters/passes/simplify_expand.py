"""SimplifyExpand: makes the target of an Expand a constant, whatever the exporter computed it from."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, constant, skip
from edgekit.converters.passes.simplify_reshape import Element, elements_of


class SimplifyExpand(GraphPass):
    """Makes the target of an Expand a constant, whatever the exporter computed it from.

    The target is followed back as `SimplifyReshape` does, so that a batch that is open stays open.

    Rules:
        ``Expand(x, computed) -> Expand(x, constant)``: an element that is the dimension of x at its place becomes 1.
    """

    ops = frozenset({"Expand"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the second input of ``node``."""
        source, target = node.inputs[0], node.inputs[1]
        if source is None or target is None or constant(target) is not None:
            return None
        elements = elements_of(target)
        if elements is None or source.shape is None:
            return skip(node, "its target cannot be followed back to known dimensions")
        before = len(elements) - source.shape.rank()
        numbers = []
        for place, element in enumerate(elements):
            axis = place - before
            if not isinstance(element, int):
                if axis < 0 or dimension(source, axis) != element:
                    return skip(
                        node, f"element {place} of its target {elements} is no dimension of its own"
                    )
                element = 1
            numbers.append(element)
        name = f"{node.outputs[0].name}_shape"
        node.replace_input_with(1, add_initializer(graph, name, np.array(numbers, np.int64)))
        return f"its target became the constant {numbers}"


def dimension(value: ir.Value, axis: int) -> Element | None:
    """Returns a dimension of ``value``: its number or its name, or None where neither is known.

    Of the result of a Reshape it is the name that the dimension has before, where it is the only open one in both:
    shape inference gives a new name to what -1 stands for.
    """
    assert value.shape is not None
    dim = value.shape[axis]
    if isinstance(dim, int):
        return dim
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    if source is None or source.shape is None:
        return dim.value
    known = [size for size in value.shape if isinstance(size, int)]
    known_before = [size for size in source.shape if isinstance(size, int)]
    names = [size.value for size in source.shape if not isinstance(size, int)]
    is_only_one = len(known) == value.shape.rank() - 1 and len(names) == 1
    if is_only_one and math.prod(known) == math.prod(known_before) != 0:
        return names[0]
    return dim.value
