"""Collects the nodes and constants of a file, beside a graph that stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgekit.converters.onnx_file import PRODUCER
from edgekit.converters.quantization import has_float16_weights
from edgekit.targets.errors import ModelError

_FIRST_INT4_IR_VERSION = 10


class ProtoGraph:
    """Nodes and constants in the order in which they were added.

    Attributes:
        nodes: The nodes.
        opsets: Versions by domain.
    """

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._constants: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.opsets = dict(model.opset_imports)

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        """Adds a node, and its domain's opset where it is the first of a domain that comes in one version."""
        node = onnx.helper.make_node(
            op_type, inputs, outputs, name=name, domain=domain, **attributes
        )
        self.opsets.setdefault(domain, 1)
        self.nodes.append(node)

    def add_constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        """Adds a constant, or finds it where one of that name was added; returns its name."""
        if name not in self._constants:
            tensor = onnx.numpy_helper.from_array(np.array(array, order="C"), name)
            self._constants[name] = tensor
        return name

    def makes(self, name: str) -> bool:
        """Returns whether a node that was added makes the value ``name``."""
        return any(name in node.output for node in self.nodes)

    def add_clamp(self, source: str, result: str, lo: np.float32, hi: np.float32) -> None:
        """Adds a Relu, or a Clip where the bounds are others; infinite ones are left out."""
        if lo == 0 and np.isposinf(hi):
            self.add_node("Relu", [source], [result], f"{result}:relu")
            return
        bounds = [
            "" if np.isinf(real) else self.add_constant(f"{result}:{which}", np.array(real))
            for which, real in (("lo", lo), ("hi", hi))
        ]
        self.add_node("Clip", [source, *bounds], [result], f"{result}:clip")

    def copy_constant(self, value: ir.Value) -> None:
        """Adds an initializer of the model as it is; as float16 and a Cast where float16 stores it for all readers."""
        # Mapped weights are copied: a reference to the source's data file would not hold for this file.
        tensor: ir.TensorProtocol
        assert value.const_value is not None
        array, dtype = value.const_value.numpy(), value.const_value.dtype
        if value.uses() and all(
            use.idx == 1 and has_float16_weights(use.node) for use in value.uses()
        ):
            name = name_of(value)
            half = self.add_constant(f"{name}:float16", array.astype(np.float16))
            # Before all nodes: engines fold it when they read the file.
            cast = onnx.helper.make_node(
                "Cast", [half], [name], f"{name}:widen", to=onnx.TensorProto.FLOAT
            )
            self.nodes.insert(0, cast)
            return
        if dtype == ir.DataType.STRING:
            tensor = ir.StringTensor(array, name=name_of(value))
        else:
            tensor = ir.Tensor(array, dtype=dtype, name=name_of(value))
        self._constants[name_of(value)] = ir.serde.serialize_tensor(tensor)

    def finish(self) -> onnx.ModelProto:
        """Returns the model with the inputs, outputs and functions of the graph."""
        graph = self._model.graph
        proto = onnx.ModelProto()
        proto.ir_version = self._model.ir_version
        if any(tensor.data_type == onnx.TensorProto.INT4 for tensor in self._constants.values()):
            proto.ir_version = max(proto.ir_version, _FIRST_INT4_IR_VERSION)
        proto.producer_name = PRODUCER
        proto.graph.name = graph.name or "graph"
        proto.graph.node.extend(self.nodes)
        proto.graph.initializer.extend(self._constants.values())
        # Before IR version 4 initializers had to be inputs too.
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        proto.graph.input.extend(ir.serde.serialize_value(value) for value in inputs)
        proto.graph.output.extend(ir.serde.serialize_value(value) for value in graph.outputs)
        proto.opset_import.extend(
            onnx.helper.make_opsetid(domain, version)
            for domain, version in sorted(self.opsets.items())
        )
        proto.functions.extend(
            ir.serde.serialize_function(function) for function in self._model.functions.values()
        )
        return proto


def name_of(value: ir.Value) -> str:
    """Returns the name of ``value``.

    Raises:
        ModelError: It has none.
    """
    if not value.name:
        raise ModelError("a quantized value has no name")
    return value.name
