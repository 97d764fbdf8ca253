"""Writes a quantized graph as the float network that it was made from."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.styles import Style


def write_float(model: ir.Model, style: Style) -> onnx.ModelProto:
    """Returns ``model`` without its records, with the clamps that were fused into ranges as nodes again."""
    file = ProtoGraph(model)
    for value in model.graph.initializers.values():
        if value.uses() or value.is_graph_output():
            file.copy_constant(value)
    for node in model.graph:
        file.nodes.append(ir.serde.serialize_node(node))
        restore_clamp(file, node)
    return file.finish()


def restore_clamp(file: ProtoGraph, node: ir.Node) -> None:
    """Adds the clamp that was fused into the range of what ``node`` makes, whose last node was just added."""
    clamp = get_clamp(node.outputs[0])
    if np.isinf([clamp.lo, clamp.hi]).all():
        return
    name = name_of(node.outputs[0])
    file.nodes[-1].output[0] = f"{name}:float"
    file.add_clamp(f"{name}:float", name, np.float32(clamp.lo), np.float32(clamp.hi))
