"""Gives a quantized value another grid, and all that depends on it: moves of its codes, biases of its readers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    MOVES,
    QUANTIZE,
    Grid,
    grid_of,
    is_operator,
    readers,
    set_grid,
)
from edgekit.converters.passes.rewrite import add_initializer, constant

_INT32 = np.iinfo(np.int32)


def make_grid(reach: tuple[float, float], like: Grid) -> Grid:
    """Returns the grid of the type and shape of ``like`` that holds ``reach`` and 0."""
    low, high = min(reach[0], 0.0), max(reach[1], 0.0)
    info = np.iinfo(like.dtype)
    scale = np.float32((high - low) / (info.max - info.min)) or np.float32(1)
    zero = int(np.clip(round(info.min - low / float(scale)), info.min, info.max))
    return Grid(
        np.array(scale, np.float32).reshape(like.scale.shape),
        np.array(zero, like.dtype).reshape(like.scale.shape),
        like.axis,
    )


def can_regrid(quantizer: ir.Node) -> bool:
    """Returns whether the codes of ``quantizer`` are read by DequantizeLinear nodes of its own grid alone."""
    grid, codes = grid_of(quantizer), quantizer.outputs[0]
    if grid is None or codes.is_graph_output() or not codes.uses():
        return False
    return all(
        is_operator(node, DEQUANTIZE) and (own := grid_of(node)) is not None and own.equals(grid)
        for node in readers(codes)
    )


def regrid(graph: ir.Graph, quantizer: ir.Node, grid: Grid) -> None:
    """Gives ``quantizer`` and what reads its codes another grid of one scale.

    Where a reader only moves values and quantizes them to the same grid again, that grid follows. int32 biases of
    layers that read the value have the scale ``input scale * weight scale``, which engines take for granted: they are
    rounded anew.
    """
    old = grid_of(quantizer)
    assert old is not None
    set_grid(graph, quantizer, grid)
    for reader in readers(quantizer.outputs[0]):
        set_grid(graph, reader, grid)
        result = reader.outputs[0]
        ratio = float(grid.scale.reshape(-1)[0]) / float(old.scale.reshape(-1)[0])
        for user in readers(result):
            if is_operator(user, "Conv", "Gemm", "ConvTranspose") and user.inputs[0] is result:
                scale_bias(graph, user, np.float64(ratio))
            if is_operator(user, *MOVES) and user.inputs[0] is result:
                for following in readers(user.outputs[0]):
                    own = grid_of(following)
                    if (
                        is_operator(following, QUANTIZE)
                        and own is not None
                        and own.equals(old)
                        and can_regrid(following)
                    ):
                        regrid(graph, following, grid)


def scale_bias(graph: ir.Graph, node: ir.Node, ratio: np.float64 | npt.NDArray[np.float64]) -> None:
    """Multiplies the scale of the int32 bias of ``node`` by ``ratio``, and divides its codes by it."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    holder = None if value is None else value.producer()
    if value is None or holder is None or not is_operator(holder, DEQUANTIZE):
        return
    codes, scale = constant(holder.inputs[0]), constant(holder.inputs[1])
    if codes is None or scale is None or codes.dtype != np.int32:
        return
    zero = constant(holder.inputs[2]) if len(holder.inputs) > 2 else None
    if zero is not None and zero.any():
        return
    ratios = np.broadcast_to(np.asarray(ratio, np.float64).reshape(-1), codes.shape)
    scales = (np.broadcast_to(scale.reshape(-1), codes.shape) * ratios).astype(np.float32)
    rounded = np.clip(np.rint(codes.astype(np.float64) / ratios), _INT32.min, _INT32.max).astype(
        np.int32
    )
    base = value.name or "bias"
    shared = len(value.uses()) > 1
    single = scale.size == 1 and np.asarray(ratio).size == 1
    new_scale = add_initializer(
        graph, f"{base}_scale", scales[:1].reshape(scale.shape) if single else scales
    )
    new_codes = add_initializer(graph, f"{base}_codes", rounded)
    attributes = {} if single else {"axis": 0}
    if shared:
        made = ir.node(
            DEQUANTIZE, [new_codes, new_scale], attributes, name=f"{base}_{node.name}_dequantize"
        )
        made.outputs[0].name = f"{base}_{node.name}"
        graph.insert_before(node, made)
        node.replace_input_with(2, made.outputs[0])
        return
    holder.replace_input_with(0, new_codes)
    holder.replace_input_with(1, new_scale)
    if len(holder.inputs) > 2 and holder.inputs[2] is not None:
        zeros = np.zeros(() if single else scales.shape, np.int32)
        holder.replace_input_with(2, add_initializer(graph, f"{base}_zero_point", zeros))
    if not single:
        holder.attributes["axis"] = ir.AttrInt64("axis", 0)
