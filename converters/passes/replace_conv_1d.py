"""ReplaceConv1D: makes a convolution over a sequence one over an image of height 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    constant,
    new_name,
    replace,
    skip,
)

# By attribute, what it is along a height of 1, at each end where it has two.
_WIDENED = {"dilations": [1], "kernel_shape": [1], "output_padding": [0], "strides": [1]}


class ReplaceConv1D(GraphPass):
    """Makes a convolution over a sequence one over an image of height 1.

    Rules, for x ``[N, C, L]`` and L in Conv, ConvTranspose, MaxPool, AveragePool:
        ``L(x, w, b) -> Squeeze(L(Unsqueeze(x, 2), Unsqueeze(w, 2), b), 2)``, w constant.
    """

    ops = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces ``node`` by three nodes."""
        source = node.inputs[0]
        if source is None or source.shape is None or source.shape.rank() != 3:
            return None
        if any(value.uses() for value in node.outputs[1:]):
            return skip(node, "its second output is used")
        inputs = list(node.inputs)
        if node.op_type.startswith("Conv"):
            weight = constant(node.inputs[1])
            if weight is None or node.inputs[1] is None:
                return skip(node, "its weights are computed")
            image = np.expand_dims(weight, 2)
            inputs[1] = add_initializer(graph, f"{node.inputs[1].name}_image", image)
        if "output_shape" in node.attributes:
            return skip(node, "it has an output_shape")
        axis = add_initializer(graph, f"{node.outputs[0].name}_axis", np.array([2], np.int64))
        widen = ir.node("Unsqueeze", [source, axis], name=f"{node.name}/Unsqueeze")
        _describe(graph, widen, f"{source.name}_image", source, source.shape)
        inputs[0] = widen.outputs[0]
        known = dict(node.metadata_props)
        layer = ir.node(node.op_type, inputs, _widen(node), name=node.name, metadata_props=known)
        made = node.outputs[0].shape
        _describe(graph, layer, f"{node.outputs[0].name}_image", source, made)
        narrow = ir.node("Squeeze", [layer.outputs[0], axis], name=f"{node.name}/Squeeze")
        replace(graph, node, widen, layer, narrow)
        return "became one over images of height 1"


def _describe(
    graph: ir.Graph, node: ir.Node, name: str, like: ir.Value, sequence: ir.Shape | None
) -> None:
    """Names what ``node`` makes: ``sequence`` as an image."""
    value = node.outputs[0]
    value.name = new_name(graph, name)
    value.dtype = like.dtype or ir.DataType.FLOAT
    if sequence is not None:
        value.shape = ir.Shape([*sequence[:2], 1, *sequence[2:]])


def _widen(node: ir.Node) -> dict[str, Sequence[int] | ir.Attr]:
    """Returns the attributes of ``node`` for a window over images."""
    attributes: dict[str, Sequence[int] | ir.Attr] = {}
    for name, found in node.attributes.items():
        if name == "pads":
            begin, end = found.as_ints()
            attributes[name] = [0, begin, 0, end]
        elif name in _WIDENED:
            attributes[name] = [*_WIDENED[name], *found.as_ints()]
        else:
            attributes[name] = found
    return attributes
