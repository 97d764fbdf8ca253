"""Writes products of whole numbers as products of numbers: what ``onnxruntime.quantization.quantize_dynamic`` makes.

``Cast(MatMulInteger(DynamicQuantizeLinear(x), w)) * (s_x * s_w)`` is ``MatMul(x, w)`` whose rows get codes when the
network runs. How they get them is the runtime's affair; the codes of ``w`` stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.own_operators import DOMAINS, PairAdder, refuse
from edgekit.converters.passes.rewrite import (
    add_initializer,
    constant,
    forget_names,
    new_name,
    only_consumer,
)
from edgekit.converters.read_onnx import infer_shapes

_FLOAT_OPERATORS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
# Whole numbers below it are float32 numbers, and so is every sum of them.
_EXACT = 1 << 24
_LARGEST_CODE = 255


@dataclass
class DynamicLayers:
    """The layers whose inputs get codes when the network runs, by their names.

    Attributes:
        products: Products of a matrix.
        convolutions: Convolutions.
        rewritten: Whether the model held anything of the kind.
    """

    products: set[str] = field(default_factory=set)
    convolutions: set[str] = field(default_factory=set)
    rewritten: bool = False


def write_products(model: ir.Model) -> DynamicLayers:
    """Takes MatMulInteger, ConvInteger and their kin out of ``model``, in place, before its opset is converted.

    Sums that are read as whole numbers become sums of floats where these are exact. Weights are behind
    DequantizeLinear.

    Raises:
        ModelError: Sums could exceed what float32 holds exactly, or a scale is computed; names the node.
    """
    forget_names(model.graph)
    writer = _Writer(model)
    changed = [writer.write(node) for node in tuple(model.graph) if node.domain in DOMAINS]
    forget_names(model.graph)
    if any(changed):
        writer.remove_unused()
        infer_shapes(model)
    writer.layers.rewritten = any(changed)
    return writer.layers


@dataclass(frozen=True)
class _Scaled:
    """The float product that a product of whole numbers stands for: its last node and its second scale."""

    last: ir.Node
    scale: npt.NDArray[np.float32]


class _Writer(PairAdder):
    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self.layers = DynamicLayers()
        self._left: list[ir.Node] = []

    def write(self, node: ir.Node) -> bool:
        """Writes ``node`` as a float operator; returns whether it had to."""
        if node.op_type in _FLOAT_OPERATORS:
            found = _find_scaled(node)
            if found is None:
                self._write_sums(node)
            else:
                source = _maker(node.inputs[0], "DynamicQuantizeLinear")
                assert source is not None
                self._write_layer(node, source.inputs[0], 1, found.scale, 3, found.last)
        elif node.op_type == "DynamicQuantizeMatMul":
            self._write_layer(node, node.inputs[0], 1, self.read_scale(node, 2), 3, node, bias=4)
        elif node.op_type == "MatMulIntegerToFloat":
            self._write_to_float(node)
        else:
            return False
        return True

    def remove_unused(self) -> None:
        """Removes nodes that were needed for whole numbers alone."""
        waiting = list(self._left)
        while waiting:
            node = waiting.pop()
            if node.graph is None or any(
                value.uses() or value.is_graph_output() for value in node.outputs
            ):
                continue
            makers = [value.producer() for value in node.inputs if value is not None]
            self.graph.remove(node, safe=True)
            waiting.extend(maker for maker in makers if maker is not None)

    def _write_to_float(self, node: ir.Node) -> None:
        """MatMulIntegerToFloat: rows with a computed scale are those of DynamicQuantizeLinear."""
        source = _maker(node.inputs[0], "DynamicQuantizeLinear")
        scale = self.read_scale(node, 3)
        if source is not None and node.inputs[2] is source.outputs[1]:
            self._write_layer(node, source.inputs[0], 1, scale, 5, node, bias=6)
            return
        codes = node.inputs[0]
        assert codes is not None
        if constant(node.inputs[2]) is None:
            raise refuse(node, "the scale of its rows is computed")
        if self.read_scale(node, 2).size != 1:
            raise refuse(node, "each of its rows has a scale of its own")
        zero_point = self.read_zero_point(node, 4, codes.dtype)
        grid = self.add_grid(node, self.read_scale(node, 2), zero_point)
        self._write_layer(node, self.dequantize(node, codes, grid), 1, scale, 5, node, bias=6)
        self.layers.products.discard(str(node.name))

    def _write_layer(
        self,
        node: ir.Node,
        source: ir.Value | None,
        weight: int,
        scale: npt.NDArray[np.float32],
        zero_point: int,
        last: ir.Node,
        bias: int | None = None,
    ) -> None:
        """Puts a float layer in the place of ``last``; its weights are at the index ``weight`` of ``node``."""
        op = _FLOAT_OPERATORS.get(node.op_type, "MatMul")
        codes = constant(node.inputs[weight])
        if codes is None:
            raise refuse(node, "its second operand is computed")
        zero = self.read_zero_point(node, zero_point, ir.DataType.from_numpy(codes.dtype))
        axis = 0 if op == "Conv" else codes.ndim - 1
        numbers = self.dequantize_constant(node, codes, scale, zero, axis)
        layer = ir.node(op, [source, numbers], dict(node.attributes), name=node.name)
        offset = node.inputs[bias] if bias is not None and bias < len(node.inputs) else None
        result = layer
        self.graph.insert_before(last, layer)
        if offset is not None:
            _describe(layer.outputs[0], new_name(self.graph, f"{node.name}:product"))
            result = ir.node("Add", [layer.outputs[0], offset], name=f"{node.name}:bias")
            self.graph.insert_before(last, result)
        self._take_place(last, result)
        (self.layers.convolutions if op == "Conv" else self.layers.products).add(str(node.name))
        self._left.append(node)

    def _take_place(self, last: ir.Node, result: ir.Node) -> None:
        """Gives what ``last`` makes to ``result``, and forgets ``last``."""
        old, new = last.outputs[0], result.outputs[0]
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, None
        self._left.append(last)

    def _write_sums(self, node: ir.Node) -> None:
        """Writes whole sums as float sums, between Casts."""
        op = _FLOAT_OPERATORS[node.op_type]
        codes = constant(node.inputs[1])
        rows = constant(node.inputs[0])
        if codes is None or rows is not None:
            raise refuse(node, "its first operand is constant, or its second is computed")
        zero = self.read_zero_point(node, 3, ir.DataType.from_numpy(codes.dtype)).astype(np.int64)
        if op == "MatMul" and zero.size > 1 and codes.ndim > 1:
            zero = zero.reshape(*zero.shape[:-1], 1, -1) if zero.ndim > 1 else zero
        else:
            zero = zero.reshape(-1, *[1] * (codes.ndim - 1)) if op == "Conv" else zero
        centered = codes.astype(np.int64) - zero
        axes = tuple(range(1, centered.ndim)) if op == "Conv" else max(centered.ndim - 2, 0)
        if _LARGEST_CODE * np.abs(centered).sum(axis=axes).max(initial=0) > _EXACT:
            raise refuse(node, "its sums are read as whole numbers, and float32 cannot hold them")
        dtype = None if node.inputs[0] is None else node.inputs[0].dtype
        offset = self.read_zero_point(node, 2, dtype).astype(np.float32)
        if op == "MatMul" and offset.ndim == 1 and offset.size > 1:
            offset = offset.reshape(-1, 1)
        weight = add_initializer(self.graph, f"{node.name}:weight", centered.astype(np.float32))
        shift = add_initializer(
            self.graph, f"{node.name}:offset", offset.reshape(()) if offset.size == 1 else offset
        )
        steps = [
            ir.node("Cast", [node.inputs[0]], {"to": 1}, name=f"{node.name}:cast"),
        ]
        steps.append(ir.node("Sub", [steps[-1].outputs[0], shift], name=f"{node.name}:centered"))
        steps.append(
            ir.node(op, [steps[-1].outputs[0], weight], dict(node.attributes), name=node.name)
        )
        steps.append(ir.node("Cast", [steps[-1].outputs[0]], {"to": 6}, name=f"{node.name}:whole"))
        for step in steps[:-1]:
            _describe(step.outputs[0], new_name(self.graph, str(step.name)))
        for step in steps:
            self.graph.insert_before(node, step)
        self._take_place(node, steps[-1])
        steps[-1].outputs[0].dtype = ir.DataType.INT32


def _find_scaled(node: ir.Node) -> _Scaled | None:
    """Returns the product with its scales that a product of codes ends in: ``Cast(node) * (s_x * s_w)``."""
    source = _maker(node.inputs[0], "DynamicQuantizeLinear")
    if source is None or len(node.inputs) < 3 or node.inputs[2] is not source.outputs[2]:
        return None
    cast = only_consumer(node.outputs[0])
    if cast is None or cast.op_type != "Cast" or cast.attributes["to"].as_int() != 1:
        return None
    last = only_consumer(cast.outputs[0])
    if last is None or last.op_type != "Mul":
        return None
    factor = last.inputs[1] if last.inputs[0] is cast.outputs[0] else last.inputs[0]
    scales = _maker(factor, "Mul")
    if scales is None or source.outputs[1] not in scales.inputs:
        return None
    other = scales.inputs[1] if scales.inputs[0] is source.outputs[1] else scales.inputs[0]
    scale = constant(other)
    return None if scale is None else _Scaled(last, scale.astype(np.float32).reshape(-1))


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Returns the node that makes ``value``, where it is of that type."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _describe(value: ir.Value, name: str) -> None:
    value.name, value.type = name, ir.TensorType(ir.DataType.FLOAT)
