"""Grids of QuantizeLinear and DequantizeLinear nodes: how they are found, and how they are changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import add_initializer, constant

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# They hand values on as they are: the grids on both sides are one.
MOVES = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
# Operators with a weight at input 1, and the axis of its output channels (transB of Gemm is looked at).
WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}


@dataclass(frozen=True)
class Grid:
    """``real = (code - zero_point) * scale``.

    Attributes:
        scale: float32, a scalar or one for each channel.
        zero_point: In the codes' type, of the same shape.
        axis: Of the channels.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[Any]
    axis: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The codes' type."""
        return self.zero_point.dtype

    @property
    def is_single(self) -> bool:
        """Whether all values share one scale."""
        return self.scale.size == 1

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest real number, of a grid that is single."""
        info = np.iinfo(self.dtype)
        zero, scale = int(self.zero_point.reshape(-1)[0]), float(self.scale.reshape(-1)[0])
        return (info.min - zero) * scale, (info.max - zero) * scale

    def equals(self, other: Grid) -> bool:
        """Returns whether the same codes mean the same numbers."""
        return (
            self.dtype == other.dtype
            and self.scale.size == other.scale.size
            and bool((self.scale.reshape(-1) == other.scale.reshape(-1)).all())
            and bool((self.zero_point.reshape(-1) == other.zero_point.reshape(-1)).all())
        )


def is_operator(node: ir.Node | None, *op_types: str) -> bool:
    """Returns whether ``node`` is one of ONNX's own operators ``op_types``."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def grid_of(node: ir.Node | None) -> Grid | None:
    """Returns the grid of a QuantizeLinear or DequantizeLinear; None where it is computed, blocked or not of 8 bits."""
    if node is None or node.op_type not in (QUANTIZE, DEQUANTIZE) or len(node.inputs) < 2:
        return None
    scale = constant(node.inputs[1])
    if scale is None or scale.dtype != np.float32 or "block_size" in node.attributes:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero_point = constant(node.inputs[2])
    else:
        dtype = _codes_dtype(node)
        zero_point = None if dtype is None else np.zeros(scale.shape, dtype)
    if zero_point is None or zero_point.dtype not in (np.int8, np.uint8):
        return None
    steps = scale.astype(np.float32)
    if zero_point.size != steps.size or not steps.size:
        return None
    if not (np.isfinite(steps) & (steps > 0)).all():
        return None
    return Grid(steps, zero_point, node.attributes.get_int("axis", 1))


def _codes_dtype(node: ir.Node) -> np.dtype[np.generic] | None:
    """Returns the codes' type of a node without a zero point."""
    if node.op_type == QUANTIZE:
        written = node.attributes.get_int("output_dtype", 0)
        return np.dtype(np.int8 if written == ir.DataType.INT8 else np.uint8)
    value = node.inputs[0]
    codes = constant(value)
    if codes is not None:
        return codes.dtype
    producer = None if value is None else value.producer()
    if producer is not None and producer.op_type == QUANTIZE:
        grid = grid_of(producer)
        return None if grid is None else grid.dtype
    known = {ir.DataType.INT8: np.dtype(np.int8), ir.DataType.UINT8: np.dtype(np.uint8)}
    return None if value is None or value.dtype is None else known.get(value.dtype)


def set_grid(graph: ir.Graph, node: ir.Node, grid: Grid) -> None:
    """Gives a QuantizeLinear or DequantizeLinear another grid; initializers that others may share stay."""
    base = node.outputs[0].name or node.op_type
    scale = add_initializer(graph, f"{base}_scale", grid.scale)
    zero_point = add_initializer(graph, f"{base}_zero_point", grid.zero_point)
    node.resize_inputs(3)
    node.replace_input_with(1, scale)
    node.replace_input_with(2, zero_point)
    node.attributes.pop("output_dtype", None)
    if node.op_type == QUANTIZE:
        node.outputs[0].dtype = ir.DataType.from_numpy(grid.dtype)


def activation_quantizers(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yields each QuantizeLinear of a computed value whose grid is known."""
    for node in graph:
        if is_operator(node, QUANTIZE) and constant(node.inputs[0]) is None and grid_of(node):
            yield node


def is_quantized(graph: ir.Graph) -> bool:
    """Returns whether any value of the graph is held in codes."""
    return any(
        node.op_type in (QUANTIZE, DEQUANTIZE)
        or node.op_type.startswith(("QLinear", "QGemm", "ConvInteger", "MatMulInteger"))
        for node in graph
    )


def source_of(value: ir.Value | None) -> ir.Node | None:
    """Returns the DequantizeLinear of an activation that makes ``value``, or None."""
    producer = None if value is None else value.producer()
    if not is_operator(producer, DEQUANTIZE) or producer is None:
        return None
    return None if constant(producer.inputs[0]) is not None else producer


def readers(value: ir.Value) -> list[ir.Node]:
    """Returns the nodes that read ``value``, each once, in no particular order."""
    found: dict[ir.Node, None] = {use.node: None for use in value.uses()}
    return list(found)


def label(node: ir.Node) -> str:
    """Returns the name by which a report calls ``node``."""
    return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def find_nodes(graph: ir.Graph, names: tuple[str, ...]) -> list[ir.Node]:
    """Returns the nodes that reports call by ``names``, in the graph's order."""
    wanted = set(names)
    return [node for node in graph if label(node) in wanted]


def remove_unused(graph: ir.Graph) -> None:
    """Removes initializers that nothing reads, and constants' DequantizeLinear nodes that nothing reads."""
    for node in reversed(tuple(graph)):
        dead = all(not value.uses() and not value.is_graph_output() for value in node.outputs)
        if dead and is_operator(node, QUANTIZE, DEQUANTIZE):
            graph.remove(node, safe=True)
    for name, value in tuple(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]


@dataclass(frozen=True)
class Weight:
    """The constant second operand of a product, in codes.

    Attributes:
        codes: As stored.
        grid: What they mean.
        holder: The node that reads the codes: a DequantizeLinear, or the QLinear operator itself.
        index: At which of its inputs.
    """

    codes: npt.NDArray[np.generic]
    grid: Grid
    holder: ir.Node
    index: int


# Integer products: inputs of activation, its zero point, weight, weight scale, weight zero point; output zero point.
QLINEAR_PRODUCTS = {
    "QLinearConv": (0, 2, 3, 4, 5, 7),
    "QLinearMatMul": (0, 2, 3, 4, 5, 7),
    "QGemm": (0, 2, 3, 4, 5, 8),
}


def weight_of(node: ir.Node) -> Weight | None:
    """Returns the weight of a Conv, ConvTranspose, Gemm or MatMul behind DequantizeLinear, or of a QLinear product."""
    if is_operator(node, *WEIGHTED) and len(node.inputs) > 1:
        value = node.inputs[1]
        holder = None if value is None else value.producer()
        # A transposition may stand between; the codes' layout is then not what the rules take it for.
        grid = grid_of(holder)
        if holder is None or grid is None or holder.op_type != DEQUANTIZE:
            return None
        codes = constant(holder.inputs[0])
        if codes is None or not _fits(grid, codes):
            return None
        return Weight(codes, grid, holder, 0)
    if node.op_type in QLINEAR_PRODUCTS:
        _, _, w, scale, zero, _ = QLINEAR_PRODUCTS[node.op_type]
        if len(node.inputs) <= zero:
            return None
        arrays = [constant(node.inputs[index]) for index in (w, scale, zero)]
        codes, scales, zeros = arrays
        if codes is None or scales is None or zeros is None or scales.dtype != np.float32:
            return None
        if codes.dtype not in (np.int8, np.uint8):
            return None
        if zeros.size not in (1, scales.size) or not scales.size or zeros.dtype != codes.dtype:
            return None
        zeros = (
            zeros.reshape(scales.shape)
            if zeros.size == scales.size
            else np.full(scales.shape, zeros.reshape(-1)[0])
        )
        axis = 0 if node.op_type == "QLinearConv" else channels_last_axis(node)
        grid = Grid(scales.astype(np.float32), zeros, axis)
        return Weight(codes, grid, node, w) if _fits(grid, codes) else None
    return None


def _fits(grid: Grid, codes: npt.NDArray[np.generic]) -> bool:
    """Returns whether there is one scale, or one for each index of the axis."""
    if grid.is_single:
        return True
    return -codes.ndim <= grid.axis < codes.ndim and codes.shape[grid.axis] == grid.scale.size


def channels_last_axis(node: ir.Node) -> int:
    """Returns the axis of the output channels in the weight of ``node``."""
    if node.op_type in ("Conv", "QLinearConv"):
        return 0
    if node.op_type in ("Gemm", "QGemm"):
        return 0 if node.attributes.get_int("transB", 0) else 1
    return -1 if node.op_type in ("MatMul", "QLinearMatMul") else 1


def is_depthwise(node: ir.Node, codes: npt.NDArray[np.generic]) -> bool:
    """Returns whether a convolution has one input channel for each group, and several groups."""
    if node.op_type not in ("Conv", "QLinearConv") or codes.ndim < 3:
        return False
    group = node.attributes.get_int("group", 1)
    return group > 1 and codes.shape[1] == 1 and codes.shape[0] % group == 0


def has_uint8_input(node: ir.Node) -> bool:
    """Returns whether a product's activation is held in uint8 codes."""
    if node.op_type in QLINEAR_PRODUCTS:
        zero = constant(node.inputs[QLINEAR_PRODUCTS[node.op_type][1]])
        return zero is not None and zero.dtype == np.uint8
    grid = grid_of(source_of(node.inputs[0]))
    return grid is not None and grid.dtype == np.uint8
