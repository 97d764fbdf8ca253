"""Writes operators that compute on codes (QLinearConv and its kin) where ONNX Runtime has them.

Nothing is left to fuse. What it has none for reads and writes floats between DequantizeLinear and QuantizeLinear, as
in ``qdq``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.program import MAX_CODE, MIN_CODE, codes_name
from edgekit.converters.quantizable import activations
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
    stays_float,
)
from edgekit.converters.write_onnx.codes import decode, encode, grid_arrays, weight_arrays
from edgekit.converters.write_onnx.dynamic import add_product_codes, has_product_codes
from edgekit.converters.write_onnx.guard_weights import guard_weights
from edgekit.converters.write_onnx.nibbles import add_blocks, add_weight_codes
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.reals import is_real, serves_floats
from edgekit.converters.write_onnx.recurrent import add_codes, has_codes
from edgekit.converters.write_onnx.styles import Style
from edgekit.targets.errors import ModelError

_MICROSOFT = "com.microsoft"
# One computed input, and a grid of its own for the result.
_UNARY = frozenset({"AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax"})
_BINARY = frozenset({"Add", "Mul"})
# Codes go through the operator itself, where the result has its input's grid.
_MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "MaxPool",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def write_operators(model: ir.Model, style: Style) -> onnx.ModelProto:
    """Returns ``model`` with operators on codes; the codes of a value ``x`` are called ``codes_name(x)``."""
    return _Writer(model, style).write()


class _Writer:
    """Adds nodes in the graph's order; conversions between codes and floats where somebody reads the other kind."""

    def __init__(self, model: ir.Model, style: Style) -> None:
        self._model = model
        self._style = style
        self._file = ProtoGraph(model)
        # Names that hold the floats of a value, of its codes where it has some.
        self._floats: dict[ir.Value, str] = {}
        self._dequantized: set[str] = set()
        self._emitters: dict[str, Callable[[ir.Node], None]] = {
            "Concat": self._concat,
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            **dict.fromkeys(_BINARY, self._binary),
            **dict.fromkeys(_UNARY, self._unary),
            **dict.fromkeys(_MOVES, self._move),
        }

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        for value in graph.inputs:
            self._floats[value] = name_of(value)
            if _grid(value) is not None:
                self._quantize(value, name_of(value))
                self._floats[value] = f"{value.name}:dequantized"
        for node in graph:
            emit = self._emitters.get(node.op_type) if not node.domain else None
            if emit is not None and self._has_codes(node):
                emit(node)
            else:
                self._keep(node)
        for value in graph.outputs:
            if value in graph.inputs or value.is_initializer():
                self._float(value)
            elif _grid(value) is not None and not is_real(value):
                self._dequantize(value, name_of(value))
        return self._file.finish()

    def _has_codes(self, node: ir.Node) -> bool:
        """Whether ``node`` reads codes, or constants that have some, and its result has a grid."""
        if stays_float(node):
            return False
        if _grid(node.outputs[0]) is None or any(v.uses() for v in node.outputs[1:]):
            return False
        for value in node.inputs if node.op_type in ("Concat", "MatMul") else activations(node):
            if value is None or get_quantization(value) is None:
                return False
        if node.op_type in _MOVES:
            return _same_grid(node.inputs[0], node.outputs[0])
        if node.op_type in ("Conv", "Gemm"):
            weights = [value for value in node.inputs[1:] if value is not None]
            if not all(isinstance(get_quantization(v), WeightQuantization) for v in weights):
                return False
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            record = get_quantization(node.inputs[1]) if node.inputs[1] is not None else None
            return not (isinstance(record, WeightQuantization) and record.group)
        return True

    def _keep(self, node: ir.Node) -> None:
        """Adds ``node`` as it is, between floats."""
        proto = ir.serde.serialize_node(node)
        for index, value in enumerate(node.inputs):
            guarded = guard_weights(self._file, node, self._style) if index == 0 else None
            if guarded is not None:
                proto.input[index] = guarded
            elif (
                value is not None
                and not has_codes(value)
                and not has_product_codes(value, self._style)
                and not (stays_float(node) and is_real(value))
            ):
                proto.input[index] = self._float(value)
        add_codes(self._file, node, proto, self._style)
        add_product_codes(self._file, node, proto, self._style)
        self._file.nodes.append(proto)
        for index, value in enumerate(node.outputs):
            if _grid(value) is not None and stays_float(node):
                self._quantize(value, name_of(value))
            elif _grid(value) is not None:
                proto.output[index] = f"{value.name}:float"
                self._quantize(value, f"{value.name}:float")
            elif value.name:
                self._floats[value] = value.name

    def _float(self, value: ir.Value) -> str:
        """Returns the name of the floats of ``value``, which are made of its codes where it has some."""
        if value.is_initializer() and value not in self._floats:
            self._floats[value] = name_of(value)
            record = get_quantization(value)
            if record is None:
                self._file.copy_constant(value)
            elif isinstance(record, WeightQuantization) and record.group:
                add_blocks(self._file, name_of(value), record, self._style)
            elif isinstance(record, WeightQuantization) and serves_floats(value):
                self._file.add_constant(name_of(value), decode(record))
            else:
                self._dequantize(value, name_of(value))
        elif _grid(value) is not None:
            name = self._floats.setdefault(value, f"{value.name}:dequantized")
            self._dequantize(value, name)
        return self._floats[value]

    def _dequantize(self, value: ir.Value, name: str) -> None:
        """Adds what makes the floats ``name`` of the codes of ``value``, if nothing has yet."""
        if name in self._dequantized:
            return
        self._dequantized.add(name)
        record = get_quantization(value)
        attributes: dict[str, int] = {}
        if isinstance(record, WeightQuantization) and record.scale.size > 1:
            attributes["axis"] = record.axis
        node = f"{value.name}:dequantize" if name != value.name else f"{value.name}:dequantize:out"
        self._file.add_node("DequantizeLinear", self._codes(value), [name], node, "", **attributes)

    def _quantize(self, value: ir.Value, source: str) -> None:
        codes, *parameters = self._codes(value)
        target = self._bounded(value, codes)
        name = f"{value.name}:quantize"
        self._file.add_node("QuantizeLinear", [source, *parameters], [target], name)
        self._clip(value, target, codes)

    def _codes(self, value: ir.Value | None) -> list[str]:
        """Returns the names of the codes, the scale and the zero point of ``value``; adds those of a constant."""
        assert value is not None
        record, name = get_quantization(value), name_of(value)
        codes = codes_name(name)
        if isinstance(record, WeightQuantization):
            scale, zero_point, _ = weight_arrays(record)
            add_weight_codes(self._file, codes, record, self._style)
        else:
            assert isinstance(record, ActivationQuantization)
            scale, zero_point = grid_arrays(record, self._style)
            if value.is_initializer():
                if value.const_value is None:
                    raise ModelError(f"initializer {name!r} has no value")
                self._file.add_constant(
                    codes, encode(value.const_value.numpy(), record, self._style)
                )
        return [
            codes,
            self._file.add_constant(f"{name}:scale", scale),
            self._file.add_constant(f"{name}:zero_point", zero_point),
        ]

    def _bounded(self, value: ir.Value, codes: str) -> str:
        """Returns where codes go that have yet to be held within the bounds of ``value``."""
        record = _grid(value)
        assert record is not None
        return (
            codes if (record.lo, record.hi) == (MIN_CODE, MAX_CODE) else f"{value.name}:unbounded"
        )

    def _clip(self, value: ir.Value, source: str, codes: str) -> None:
        record = _grid(value)
        if source == codes or record is None:
            return
        bounds = [
            self._file.add_constant(
                f"{value.name}:{which}", np.array(code + self._style.shift, self._style.codes)
            )
            for which, code in (("lo", record.lo), ("hi", record.hi))
        ]
        self._file.add_node("Clip", [source, *bounds], [codes], f"{value.name}:clip")

    def _emit(
        self,
        node: ir.Node,
        op_type: str,
        inputs: Sequence[str],
        domain: str = _MICROSOFT,
        **attributes: Any,
    ) -> None:
        """Adds an operator that makes the codes of the first output of ``node``; its own attributes go with it."""
        value = node.outputs[0]
        codes = codes_name(name_of(value))
        target = self._bounded(value, codes)
        proto = ir.serde.serialize_node(node)
        own = {attribute.name: attribute for attribute in proto.attribute}
        added = onnx.helper.make_node(
            op_type, inputs, [target], name=node.name, domain=domain, **attributes
        )
        added.attribute.extend(own[name] for name in own.keys() - attributes.keys())
        self._file.opsets.setdefault(domain, 1)
        self._file.nodes.append(added)
        self._clip(value, target, codes)

    def _conv(self, node: ir.Node) -> None:
        x, weight = self._codes(node.inputs[0]), self._codes(node.inputs[1])
        bias = [] if len(node.inputs) < 3 else [self._codes(node.inputs[2])[0]]
        result = self._codes(node.outputs[0])[1:]
        self._emit(node, "QLinearConv", [*x, *weight, *result, *bias], "")

    def _gemm(self, node: ir.Node) -> None:
        x, weight = self._codes(node.inputs[0]), self._codes(node.inputs[1])
        bias = "" if len(node.inputs) < 3 else self._codes(node.inputs[2])[0]
        result = self._codes(node.outputs[0])[1:]
        # QGemm has no beta; a quantized Gemm's alpha and beta are 1.
        self._emit(node, "QGemm", [*x, *weight, bias, *result], alpha=1.0, beta=None)

    def _matmul(self, node: ir.Node) -> None:
        operands = [name for value in node.inputs for name in self._codes(value)]
        self._emit(node, "QLinearMatMul", [*operands, *self._codes(node.outputs[0])[1:]], "")

    def _binary(self, node: ir.Node) -> None:
        operands = [name for value in node.inputs for name in self._codes(value)]
        result = self._codes(node.outputs[0])[1:]
        self._emit(node, f"QLinear{node.op_type}", [*operands, *result])

    def _unary(self, node: ir.Node) -> None:
        inputs = [*self._codes(node.inputs[0]), *self._codes(node.outputs[0])[1:]]
        more: dict[str, Any] = {}
        if node.op_type == "Softmax":
            more["opset"] = self._model.graph.opset_imports[""]
        self._emit(node, f"QLinear{node.op_type}", inputs, **more)

    def _concat(self, node: ir.Node) -> None:
        operands = [name for value in node.inputs for name in self._codes(value)]
        self._emit(node, "QLinearConcat", [*self._codes(node.outputs[0])[1:], *operands])

    def _move(self, node: ir.Node) -> None:
        more = ["" if value is None else self._float(value) for value in node.inputs[1:]]
        self._emit(node, node.op_type, [self._codes(node.inputs[0])[0], *more], "")


def _grid(value: ir.Value) -> ActivationQuantization | None:
    record = get_quantization(value)
    return record if isinstance(record, ActivationQuantization) else None


def _same_grid(a: ir.Value | None, b: ir.Value) -> bool:
    first, second = None if a is None else _grid(a), _grid(b)
    if first is None or second is None:
        return False
    return (first.scale, first.zero_point) == (second.scale, second.zero_point)
