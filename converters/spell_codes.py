"""Writes codes that a model gives or takes, and that no grid of one scale describes, as arithmetic on floats.

Rules, for uint8, with a scale for each channel or one that is computed:
    ``QuantizeLinear(x, s, z) -> Cast(Clip(Round(x / s) + z, 0, 255))``, where the model gives the codes;
    ``DequantizeLinear(x, s, z) -> (Cast(x) - z) * s``, where the model takes them;
    ``DynamicQuantizeLinear(x)`` -> the same with the scale and the zero point that ONNX defines.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.own_operators import DOMAINS
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names, new_name
from edgekit.converters.read_onnx import infer_shapes

_LARGEST = 255.0


def spell_codes(model: ir.Model) -> bool:
    """Applies the rules to ``model``, in place, before its opset is converted; returns whether one did."""
    forget_names(model.graph)
    changed = False
    for node in tuple(model.graph):
        if node.domain not in DOMAINS:
            continue
        if node.op_type == "DynamicQuantizeLinear":
            _Speller(model.graph, node).write_dynamic()
        elif node.op_type == "QuantizeLinear" and _is_spelled(node, node.outputs[0]):
            _Speller(model.graph, node).write_quantize()
        elif node.op_type == "DequantizeLinear" and _is_spelled(node, node.inputs[0]):
            _Speller(model.graph, node).write_dequantize()
        else:
            continue
        changed = True
    forget_names(model.graph)
    if changed:
        infer_shapes(model)
    return changed


def _is_spelled(node: ir.Node, codes: ir.Value | None) -> bool:
    """Returns whether ``codes`` of the model's border are of uint8 and have several scales, or a computed one."""
    if codes is None or codes.dtype != ir.DataType.UINT8 or "block_size" in node.attributes:
        return False
    if not (codes.is_graph_input() or codes.is_graph_output()):
        return False
    scale = node.inputs[1]
    array = constant(scale)
    single = scale is not None and scale.shape is not None and scale.shape.rank() == 0
    return single if array is None else array.ndim == 1 and array.size > 1


class _Speller:
    """Adds float nodes in the place of one node."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self._graph = graph
        self._node = node

    def write_quantize(self) -> None:
        node = self._node
        codes = self._encode(node.inputs[0], self._along(1), self._zero_point())
        self._finish({0: codes})

    def write_dequantize(self) -> None:
        node = self._node
        centered = self._add("Sub", self._add("Cast", node.inputs[0], to=1), self._zero_point())
        self._finish({0: self._add("Mul", centered, self._along(1))})

    def write_dynamic(self) -> None:
        """Takes the range with 0 in it, as ONNX defines the operator."""
        x = self._node.inputs[0]
        zero = self._number(0.0)
        least = self._add("Min", self._add("ReduceMin", x, keepdims=0), zero)
        most = self._add("Max", self._add("ReduceMax", x, keepdims=0), zero)
        scale = self._add("Div", self._add("Sub", most, least), self._number(_LARGEST))
        start = self._add("Div", self._add("Sub", zero, least), scale)
        zero_point = self._add("Round", self._clip(start))
        whole = self._add("Cast", zero_point, to=int(ir.DataType.UINT8))
        self._finish({0: self._encode(x, scale, zero_point), 1: scale, 2: whole})

    def _encode(self, x: ir.Value | None, scale: ir.Value, zero_point: ir.Value) -> ir.Value:
        steps = self._add("Round", self._add("Div", x, scale))
        codes = self._clip(self._add("Add", steps, zero_point))
        return self._add("Cast", codes, to=int(ir.DataType.UINT8))

    def _clip(self, value: ir.Value) -> ir.Value:
        return self._add("Clip", value, self._number(0.0), self._number(_LARGEST))

    def _zero_point(self) -> ir.Value:
        """Returns the zero point as a float."""
        value = self._node.inputs[2] if len(self._node.inputs) > 2 else None
        if value is None:
            return self._number(0.0)
        array = constant(value)
        return self._add("Cast", value, to=1) if array is None else self._along(2)

    def _along(self, index: int) -> ir.Value:
        """Returns a scale or zero point as floats that broadcast along its dimension."""
        value, x = self._node.inputs[index], self._node.inputs[0]
        array = constant(value)
        assert value is not None
        if array is None:
            return value
        found = self._node.attributes.get("axis")
        rank = 0 if x is None or x.shape is None else x.shape.rank()
        if array.size > 1 and rank:
            axis = (1 if found is None else found.as_int()) % rank
            array = array.reshape(-1, *[1] * (rank - 1 - axis))
        return add_initializer(self._graph, f"{value.name}:float", array.astype(np.float32))

    def _number(self, number: float) -> ir.Value:
        return add_initializer(
            self._graph, f"{self._node.name}:number", np.array(number, np.float32)
        )

    def _add(self, op: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
        name = new_name(self._graph, f"{self._node.name}:{op.lower()}")
        node = ir.node(op, inputs, attributes, name=name)
        node.outputs[0].name = name
        self._graph.insert_before(self._node, node)
        return node.outputs[0]

    def _finish(self, results: dict[int, ir.Value]) -> None:
        """Lets ``results`` stand for the outputs of the node, with their names."""
        for index, result in results.items():
            old = self._node.outputs[index]
            result.type, result.shape = old.type, old.shape
            old.replace_all_uses_with(result, replace_graph_outputs=True)
            result.name, old.name = old.name, None
        self._graph.remove(self._node, safe=True)
