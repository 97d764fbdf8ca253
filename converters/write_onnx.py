"""Writes a quantized graph as ONNX in QDQ form, for ONNX Runtime and whatever reads the same."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime

from edgekit.converters.program import MAX_CODE, MIN_CODE, codes_name
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
)
from edgekit.targets.errors import ModelError

Activations = Literal["uint8", "int8"]

# Of the files that this module writes.
PRODUCER = "edgekit"
_MAX_PROTOBUF_BYTES = 2**31 - 1
_FIRST_PER_CHANNEL_OPSET = 13


def write_onnx(model: ir.Model, path: str | Path, *, activations: Activations) -> Path:
    """Writes ``model`` with a QuantizeLinear and DequantizeLinear wherever a value carries a record.

    A value ``x`` keeps its name behind its DequantizeLinear; its codes are called ``codes_name(x)``. An input of
    the model keeps its own name and is dequantized as ``x:dequantized``. Values without a record
    stay float32. The same model gives the same bytes.

    Args:
        model: Float operators whose values carry the records of ``edgekit.converters.quantization``.
        path: The file; where a file would pass protobuf's limit, initializers go to ``data_path(path)``.
        activations: How codes are stored: as they are, or shifted by 128. The numbers are the same; x86 wants
            uint8, Arm int8.

    Returns:
        The path of the file.

    Raises:
        ModelError: The result is not valid ONNX or ONNX Runtime cannot load it.
    """
    path = Path(path)
    proto = _Writer(model, activations).write()
    large = proto.ByteSize() > _MAX_PROTOBUF_BYTES
    if large:
        data = data_path(path)
        data.unlink(missing_ok=True)
        onnx.save_model(proto, path, save_as_external_data=True, location=data.name)
    else:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path) if large else proto, full_check=True)
        onnxruntime.InferenceSession(str(path), _unoptimized(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the checker and ONNX Runtime raise unrelated classes
        raise ModelError(f"the int8 ONNX form of {path.name} is not valid: {error}") from error
    return path


def data_path(path: Path) -> Path:
    """Returns where `write_onnx` puts what is too large for the file ``path``."""
    return path.with_name(path.name + ".data")


def size_of_onnx(path: Path) -> int:
    """Returns the bytes of ``path`` and, where there is one, of its `data_path`."""
    return sum(file.stat().st_size for file in (path, data_path(path)) if file.exists())


def _unoptimized() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return options


class _Writer:
    """Builds the model proto beside the graph, which stays as it is."""

    def __init__(self, model: ir.Model, activations: Activations) -> None:
        self._model = model
        self._shift = 128 if activations == "uint8" else 0
        self._code_dtype = np.dtype(activations)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._renamed: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        graph = self._model.graph
        opset = graph.opset_imports.get("", 0)
        if opset < _FIRST_PER_CHANNEL_OPSET:
            raise ModelError(
                f"the model has opset {opset}; scales for each channel need opset "
                f"{_FIRST_PER_CHANNEL_OPSET} or newer: export it so, or convert it with onnx.version_converter"
            )
        for value in graph.initializers.values():
            if value.uses() or value.is_graph_output():
                self._add_initializer(value)
        for value in graph.inputs:
            self._add_input(value)
        for node in graph:
            self._add_node(node)
        proto = onnx.ModelProto()
        proto.ir_version = self._model.ir_version
        proto.producer_name = PRODUCER
        proto.graph.name = graph.name or "graph"
        proto.graph.node.extend(self._nodes)
        proto.graph.initializer.extend(self._initializers)
        # Before IR version 4 initializers had to be inputs too.
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        proto.graph.input.extend(ir.serde.serialize_value(value) for value in inputs)
        proto.graph.output.extend(ir.serde.serialize_value(value) for value in graph.outputs)
        proto.opset_import.extend(
            onnx.helper.make_opsetid(domain, version)
            for domain, version in sorted(self._model.opset_imports.items())
        )
        proto.functions.extend(
            ir.serde.serialize_function(function) for function in self._model.functions.values()
        )
        return proto

    def _add_initializer(self, value: ir.Value) -> None:
        record = get_quantization(value)
        name = _name(value)
        if value.const_value is None:
            raise ModelError(f"initializer {name!r} has no value")
        if isinstance(record, WeightQuantization):
            per_channel = record.scale.size > 1
            scale: npt.NDArray[np.float32] = record.scale.astype(np.float32)
            scale = scale.reshape((-1,) if per_channel else ())
            zero_point = np.zeros(scale.shape, record.codes.dtype)
            self._add_constant(codes_name(name), record.codes)
            axis = record.axis if per_channel else None
            self._dequantize(name, name, scale, zero_point, axis)
        elif isinstance(record, ActivationQuantization):
            real = value.const_value.numpy().astype(np.float32)
            grid = np.rint(real / record.scale) + record.zero_point
            codes = np.clip(grid, record.lo, record.hi) + self._shift
            self._add_constant(codes_name(name), codes.astype(self._code_dtype))
            self._dequantize(name, name, *self._grid(record), None)
        else:
            # Mapped weights are copied: a reference to the source's data file would not hold for this file.
            array, dtype = value.const_value.numpy(), value.const_value.dtype
            tensor: ir.TensorProtocol
            if dtype == ir.DataType.STRING:
                tensor = ir.StringTensor(array, name=name)
            else:
                tensor = ir.Tensor(array, dtype=dtype, name=name)
            self._initializers.append(ir.serde.serialize_tensor(tensor))

    def _add_input(self, value: ir.Value) -> None:
        record = get_quantization(value)
        if isinstance(record, ActivationQuantization):
            name = _name(value)
            result = f"{name}:dequantized"
            self._round_trip(name, name, result, record)
            self._renamed[name] = result

    def _add_node(self, node: ir.Node) -> None:
        proto = ir.serde.serialize_node(node)
        for index, name in enumerate(proto.input):
            proto.input[index] = self._renamed.get(name, name)
        self._nodes.append(proto)
        for index, value in enumerate(node.outputs):
            record = get_quantization(value)
            if isinstance(record, ActivationQuantization):
                name = _name(value)
                proto.output[index] = f"{name}:float"
                self._round_trip(name, self._bounded(f"{name}:float", name, record), name, record)

    def _bounded(self, source: str, name: str, record: ActivationQuantization) -> str:
        """Clips to the record's bounds where saturation does not do it already."""
        if (record.lo, record.hi) == (MIN_CODE, MAX_CODE):
            return source
        bounds = []
        for bound, code in (("lo", record.lo), ("hi", record.hi)):
            real = np.float32(code - record.zero_point) * np.float32(record.scale)
            self._add_constant(f"{name}:{bound}", np.array(real, np.float32))
            bounds.append(f"{name}:{bound}")
        result = f"{name}:bounded"
        self._nodes.append(
            onnx.helper.make_node("Clip", [source, *bounds], [result], name=f"{name}:clip")
        )
        return result

    def _round_trip(
        self, name: str, source: str, result: str, record: ActivationQuantization
    ) -> None:
        """Quantizes ``source`` to ``codes_name(name)`` and dequantizes that to ``result``."""
        scale, zero_point = self._grid(record)
        self._add_constant(f"{name}:scale", scale)
        self._add_constant(f"{name}:zero_point", zero_point)
        parameters = [f"{name}:scale", f"{name}:zero_point"]
        codes = codes_name(name)
        self._nodes.append(
            onnx.helper.make_node(
                "QuantizeLinear", [source, *parameters], [codes], name=f"{name}:quantize"
            )
        )
        self._nodes.append(
            onnx.helper.make_node(
                "DequantizeLinear", [codes, *parameters], [result], name=f"{name}:dequantize"
            )
        )

    def _dequantize(
        self,
        name: str,
        result: str,
        scale: npt.NDArray[np.float32],
        zero_point: npt.NDArray[np.generic],
        axis: int | None,
    ) -> None:
        self._add_constant(f"{name}:scale", scale)
        self._add_constant(f"{name}:zero_point", zero_point)
        node = onnx.helper.make_node(
            "DequantizeLinear",
            [codes_name(name), f"{name}:scale", f"{name}:zero_point"],
            [result],
            name=f"{name}:dequantize",
        )
        if axis is not None:
            node.attribute.append(onnx.helper.make_attribute("axis", axis))
        self._nodes.append(node)

    def _grid(
        self, record: ActivationQuantization
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.generic]]:
        zero_point = np.array(record.zero_point + self._shift, self._code_dtype)
        return np.array(record.scale, np.float32), zero_point

    def _add_constant(self, name: str, array: npt.NDArray[np.generic]) -> None:
        self._initializers.append(onnx.numpy_helper.from_array(np.array(array, order="C"), name))


def _name(value: ir.Value) -> str:
    if not value.name:
        raise ModelError("a quantized value has no name")
    return value.name
