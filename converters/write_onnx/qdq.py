"""Writes float operators between pairs of QuantizeLinear and DequantizeLinear, which an engine fuses."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.converters.program import MAX_CODE, MIN_CODE, codes_name
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    WideSteps,
    get_quantization,
    get_wide_steps,
    stays_float,
)
from edgekit.converters.write_onnx.codes import (
    Array,
    bound,
    decode,
    encode,
    grid_arrays,
    weight_arrays,
)
from edgekit.converters.write_onnx.dynamic import add_product_codes, has_product_codes
from edgekit.converters.write_onnx.guard_weights import guard_weights
from edgekit.converters.write_onnx.nibbles import add_blocks, add_weight_codes
from edgekit.converters.write_onnx.proto_graph import ProtoGraph, name_of
from edgekit.converters.write_onnx.reals import serves_floats
from edgekit.converters.write_onnx.recurrent import add_codes, has_codes
from edgekit.converters.write_onnx.styles import Style
from edgekit.targets.errors import ModelError

_MICROSOFT = "com.microsoft"
_FIRST_WIDE_OPSET = 21


def write_qdq(model: ir.Model, style: Style) -> onnx.ModelProto:
    """Returns ``model`` with a pair wherever a value carries a record.

    A value ``x`` keeps its name behind its DequantizeLinear; its codes are called ``codes_name(x)``. An input of
    the model, and what a node that stays float makes, keeps its own name and is dequantized as ``x:dequantized``,
    which nodes on codes read; nodes that stay float read ``x`` as it is. Values without a record stay float32.
    """
    return _Writer(model, style).write()


class _Writer:
    """Adds nodes and constants to a file, in the graph's order."""

    def __init__(self, model: ir.Model, style: Style) -> None:
        self._model = model
        self._style = style
        self._file = ProtoGraph(model)
        # What nodes on codes read in place of a value that is there in floats.
        self._rounded: dict[str, str] = {}
        # 16 bits came to the operators of ONNX itself late.
        late = style.is_wide and model.graph.opset_imports[""] < _FIRST_WIDE_OPSET
        self._domain = _MICROSOFT if late else ""

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        for value in graph.initializers.values():
            if value.uses() or value.is_graph_output():
                self._add_initializer(value)
        for value in graph.inputs:
            self._round_real(value)
        for node in graph:
            self._add_node(node)
        return self._file.finish()

    def _add_initializer(self, value: ir.Value) -> None:
        if has_codes(value) or has_product_codes(value, self._style):
            return
        record, name = get_quantization(value), name_of(value)
        if value.const_value is None:
            raise ModelError(f"initializer {name!r} has no value")
        if isinstance(record, WeightQuantization):
            is_float_bias = record.codes.dtype == "int32" and not self._style.integer_bias
            wide = self._style.engine == "onnxruntime" and all(
                get_wide_steps(use.node) is not None for use in value.uses()
            )
            if is_float_bias or (serves_floats(value) and not wide):
                self._file.add_constant(name, decode(record))
                return
            if record.group:
                add_blocks(self._file, name, record, self._style)
                return
            scale, zero_point, axis = weight_arrays(record)
            add_weight_codes(self._file, codes_name(name), record, self._style)
            self._dequantize(name, scale, zero_point, axis)
        elif isinstance(record, ActivationQuantization):
            codes = encode(value.const_value.numpy(), record, self._style)
            self._file.add_constant(codes_name(name), codes)
            self._dequantize(name, *grid_arrays(record, self._style), None)
        else:
            self._file.copy_constant(value)

    def _round_real(self, value: ir.Value) -> None:
        """Adds the pair of a value that is there in floats, where it has codes too."""
        record = get_quantization(value)
        if isinstance(record, ActivationQuantization):
            name = name_of(value)
            result = f"{name}:dequantized"
            self._round_trip(name, name, result, record)
            self._rounded[name] = result

    def _add_node(self, node: ir.Node) -> None:
        proto = ir.serde.serialize_node(node)
        steps = get_wide_steps(node)
        if steps is not None and self._style.engine == "onnxruntime":
            if proto.op_type in ("Gemm", "MatMul"):
                self._part_weights(proto)
            self._add_wide(proto, steps)
            for value in node.outputs:
                self._round_real(value)
            return
        if stays_float(node):
            guarded = guard_weights(self._file, node, self._style)
            if guarded is not None:
                proto.input[0] = guarded
            add_codes(self._file, node, proto, self._style)
            add_product_codes(self._file, node, proto, self._style)
            self._file.nodes.append(proto)
            for value in node.outputs:
                self._round_real(value)
            return
        self._file.nodes.append(proto)
        for index, name in enumerate(proto.input):
            proto.input[index] = self._rounded.get(name, name)
        for index, value in enumerate(node.outputs):
            record = get_quantization(value)
            if isinstance(record, ActivationQuantization):
                name = name_of(value)
                proto.output[index] = f"{name}:float"
                self._round_trip(name, self._bounded(f"{name}:float", name, record), name, record)

    def _add_wide(self, proto: onnx.NodeProto, steps: WideSteps) -> None:
        """Adds a layer whose input and output have pairs of 16 bits, which ONNX Runtime has of a domain of its own."""
        result = proto.output[0]
        self._round_wide(proto.input[0], f"{result}:input", steps.input)
        proto.input[0] = f"{result}:input"
        proto.output[0] = f"{result}:float"
        self._file.nodes.append(proto)
        self._round_wide(f"{result}:float", result, steps.output)

    def _part_weights(self, proto: onnx.NodeProto) -> None:
        """Puts a Flatten, which moves nothing, between the weights' DequantizeLinear and the product.

        ONNX Runtime 1.32 makes one MatMulNBits of both otherwise, which gives the rows codes of 8 bits.
        """
        name = f"{proto.output[0]}:weights"
        self._file.add_node("Flatten", [proto.input[1]], [name], f"{name}:flatten", axis=1)
        proto.input[1] = name

    def _round_wide(self, source: str, result: str, step: np.float32) -> None:
        zero_point = np.array(0, np.int16)
        parameters = self._parameters(f"{result}:wide", np.array(step, np.float32), zero_point)
        codes = f"{result}:wide"
        self._file.add_node(
            "QuantizeLinear", [source, *parameters], [codes], f"{codes}:quantize", _MICROSOFT
        )
        self._file.add_node(
            "DequantizeLinear", [codes, *parameters], [result], f"{codes}:dequantize", _MICROSOFT
        )

    def _bounded(self, source: str, name: str, record: ActivationQuantization) -> str:
        """Clips to the record's bounds where saturation does not do it already; int16 saturates elsewhere."""
        saturates = self._style.codes != "int16" or record.zero_point == 0
        if saturates and (record.lo, record.hi) == (MIN_CODE, MAX_CODE):
            return source
        bounds = [
            self._file.add_constant(f"{name}:{which}", bound(record, code))
            for which, code in (("lo", record.lo), ("hi", record.hi))
        ]
        result = f"{name}:bounded"
        self._file.add_node("Clip", [source, *bounds], [result], f"{name}:clip")
        return result

    def _round_trip(
        self, name: str, source: str, result: str, record: ActivationQuantization
    ) -> None:
        """Quantizes ``source`` to ``codes_name(name)`` and dequantizes that to ``result``."""
        parameters = self._parameters(name, *grid_arrays(record, self._style))
        codes = codes_name(name)
        for op_type, ends, label in (
            ("QuantizeLinear", (source, codes), "quantize"),
            ("DequantizeLinear", (codes, result), "dequantize"),
        ):
            inputs, node = [ends[0], *parameters], f"{name}:{label}"
            self._file.add_node(op_type, inputs, [ends[1]], node, self._domain)

    def _dequantize(self, name: str, scale: Array, zero_point: Array, axis: int | None) -> None:
        """Dequantizes the constant ``codes_name(name)`` to ``name``."""
        inputs = [codes_name(name), *self._parameters(name, scale, zero_point)]
        attributes: dict[str, int] = {} if axis is None else {"axis": axis}
        node = f"{name}:dequantize"
        domain = self._domain if zero_point.dtype == self._style.codes else ""
        self._file.add_node("DequantizeLinear", inputs, [name], node, domain, **attributes)

    def _parameters(self, name: str, scale: Array, zero_point: Array) -> list[str]:
        return [
            self._file.add_constant(f"{name}:scale", scale),
            self._file.add_constant(f"{name}:zero_point", zero_point),
        ]
