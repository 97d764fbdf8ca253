"""Makes the float network that a quantized file stands for: its own weights, and nothing rounded on the way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    activation_quantizers,
    grid_of,
    is_operator,
    readers,
    remove_unused,
)
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names, new_name

_CLIP_WITH_INPUTS = 11


def dequantize_activations(model: ir.Model) -> int:
    """Replaces each QuantizeLinear with its DequantizeLinear by a Clip to the grid's ends, in place.

    Constants that are float in the file are taken as they are.

    The ends stay, but of inputs: a grid that begins at 0 is how a fused Relu is written. Pairs whose grids differ,
    are computed or have several scales stay too.

    Returns:
        How many pairs were replaced.
    """
    graph = model.graph
    forget_names(graph)
    if model.opset_imports.get("", 0) < _CLIP_WITH_INPUTS:
        return 0
    replaced = 0
    for node in tuple(graph):
        real = node.inputs[0] if is_operator(node, QUANTIZE) else None
        if real is None or constant(real) is None or grid_of(node) is None:
            continue
        for pair in readers(node.outputs[0]):
            if is_operator(pair, DEQUANTIZE) and not pair.outputs[0].is_graph_output():
                pair.outputs[0].replace_all_uses_with(real)
    for quantizer in tuple(activation_quantizers(graph)):
        grid, codes, source = grid_of(quantizer), quantizer.outputs[0], quantizer.inputs[0]
        if grid is None or not grid.is_single or source is None:
            continue
        pairs = [
            node
            for node in readers(codes)
            if is_operator(node, DEQUANTIZE)
            and (own := grid_of(node)) is not None
            and own.equals(grid)
        ]
        if not pairs:
            continue
        base = codes.name or "codes"
        if source.is_graph_input():
            # No layer was fused into an input: what its grid cuts off is lost, not clamped.
            for node in pairs:
                _take_over(graph, node, source)
            replaced += 1
            continue
        low, high = (np.array(limit, np.float32) for limit in grid.limits)
        clip = ir.node(
            "Clip",
            [
                source,
                add_initializer(graph, f"{base}_low", low),
                add_initializer(graph, f"{base}_high", high),
            ],
            name=new_name(graph, f"{base}_clip"),
        )
        clip.outputs[0].name = new_name(graph, f"{base}_real")
        clip.outputs[0].dtype = source.dtype or ir.DataType.FLOAT
        clip.outputs[0].shape = codes.shape
        graph.insert_after(quantizer, clip)
        for node in pairs:
            _take_over(graph, node, clip.outputs[0])
        replaced += 1
    remove_unused(graph)
    forget_names(graph)
    return replaced


def fold_weights(model: ir.Model) -> None:
    """Replaces each constant behind a DequantizeLinear by its float values, in place."""
    graph = model.graph
    forget_names(graph)
    for node in tuple(graph):
        codes = constant(node.inputs[0]) if is_operator(node, DEQUANTIZE) else None
        scale = constant(node.inputs[1]) if codes is not None else None
        if codes is None or scale is None or "block_size" in node.attributes:
            continue
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        shape = [1] * codes.ndim
        if scale.size > 1:
            shape[node.attributes.get_int("axis", 1)] = -1
        real = codes.astype(np.float32)
        if zero is not None:
            real = real - zero.astype(np.float32).reshape(shape if zero.size > 1 else ())
        real = real * scale.astype(np.float32).reshape(shape if scale.size > 1 else ())
        value = add_initializer(graph, f"{node.outputs[0].name}_real", real.astype(np.float32))
        if not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(value)
    remove_unused(graph)
    forget_names(graph)


def _take_over(graph: ir.Graph, node: ir.Node, source: ir.Value) -> None:
    """Lets ``source`` stand for what ``node`` gives; a value that may be looked at keeps its name."""
    identity = ir.node("Identity", [source], name=node.name)
    output = node.outputs[0]
    made = identity.outputs[0]
    made.name, made.shape, made.dtype = output.name, output.shape, source.dtype or ir.DataType.FLOAT
    graph.insert_before(node, identity)
    output.name = None
    output.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
