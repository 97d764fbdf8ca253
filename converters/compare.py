"""Compares recorded codes with ONNX Runtime on the int8 file, layer by layer from the same input codes.

A whole-network comparison would mix up a layer's own difference with those it was fed. So each layer is cut out of
the written file, from the nearest recorded tensors to its output, and given exactly the codes that were recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgekit.converters.program import Program, codes_name
from edgekit.converters.quantizable import MOVES

_EXACT = frozenset({"Conv", "Gemm", "MatMul", "MaxPool", "DequantizeLinear"})
_MOVES = (MOVES - {"MaxPool", "Pad", "Resize"}) | {"Split"}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class LayerComparison:
    """One layer, given the same input codes.

    Attributes:
        name: The tensor that was compared, a value of the source model.
        operators: The ONNX operators between the recorded inputs and it, joined by '+'.
        elements: How many codes were compared.
        differing: How many of them differ.
        largest: The largest difference, in codes.
    """

    name: str
    operators: str
    elements: int
    differing: int
    largest: int

    @property
    def must_be_equal(self) -> bool:
        """Whether the same bytes are to be expected of ONNX Runtime where it runs the operators on codes.

        Others may be one code apart, and so may all in a file whose layers it leaves float (``report_fusion``), as
        with int8 activations on x86.
        """
        return all(operator in _EXACT | _MOVES for operator in self.operators.split("+"))

    @property
    def is_as_promised(self) -> bool:
        """Whether the difference is within what is promised for these operators."""
        return self.largest <= (0 if self.must_be_equal else 1)


def compare_layers(
    path: str | Path, program: Program, recorded: Mapping[str, Array]
) -> tuple[LayerComparison, ...]:
    """Runs each layer of a QDQ file on recorded codes and compares the results with what was recorded.

    Args:
        path: What ``write_onnx`` wrote from the graph that ``program`` was lowered from.
        program: Says how recorded tensors lie; lower it with ``fuse=False`` to see every layer by itself.
        recorded: Tensors of the program by name, in plan order: codes as int8, the model's inputs as float32.
            From ``run_program`` or a session's trace.

    Returns:
        A comparison for each recorded tensor that the file has, in the file's order.
    """
    model = onnx.load(path)
    shift = {
        tensor.name: 128 if tensor.data_type == onnx.TensorProto.UINT8 else 0
        for tensor in model.graph.initializer
    }
    known: dict[str, Array] = {}
    for name in program.inputs:
        known[name] = np.asarray(recorded[name], program.tensors[name].dtype.numpy)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            array = _recorded_codes(node.output[0], program, recorded)
            if array is not None:
                offset = shift[node.input[2]]
                stored = array.astype(np.int16) + offset
                known[node.output[0]] = stored.astype(np.uint8 if offset else np.int8)
    producers = {name: node for node in model.graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    results = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] in known:
            output = node.output[0]
            nodes, inputs = _region(output, producers, known, initializers)
            actual = _run(model, nodes, inputs, known, output)
            results.append(_compare(output, nodes, known[output], actual))
    return tuple(results)


def _recorded_codes(name: str, program: Program, recorded: Mapping[str, Array]) -> Array | None:
    """Returns the codes of the file's value ``name`` in the source's order, or None if they were not recorded."""
    candidates = (name, name.removesuffix(codes_name("")))
    for candidate in candidates:
        if candidate in program.tensors and candidate in recorded:
            array = recorded[candidate]
            if array.dtype == np.int8:
                return program.tensors[candidate].to_source_order(array)
    return None


def _region(
    output: str,
    producers: Mapping[str, onnx.NodeProto],
    known: Mapping[str, Array],
    initializers: Mapping[str, onnx.TensorProto],
) -> tuple[list[onnx.NodeProto], list[str]]:
    """Returns the nodes from the nearest known values to ``output``, in order of execution, and those values."""
    nodes: list[onnx.NodeProto] = []
    inputs: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or not name or name in initializers:
            return
        seen.add(name)
        if name in known and name != output:
            inputs.append(name)
            return
        node = producers[name]
        for source in node.input:
            visit(source)
        if node not in nodes:
            nodes.append(node)

    visit(output)
    return nodes, inputs


def _run(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    inputs: list[str],
    known: Mapping[str, Array],
    output: str,
) -> Array:
    """Runs the nodes by themselves in ONNX Runtime."""

    def info(name: str) -> onnx.ValueInfoProto:
        array = known[name]
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return onnx.helper.make_tensor_value_info(name, element, array.shape)

    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "layer",
        [info(name) for name in inputs],
        [info(output)],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    layer = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # On x86 without VNNI the default multiplication saturates; this asks for the exact one.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(
        layer.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run([output], {name: known[name] for name in inputs})[0])


def _compare(
    output: str, nodes: list[onnx.NodeProto], expected: Array, actual: Array
) -> LayerComparison:
    operators = [
        node.op_type for node in nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    ]
    apart = np.abs(expected.astype(np.int32) - actual.astype(np.int32))
    return LayerComparison(
        name=output.removesuffix(codes_name("")),
        operators="+".join(operators) or nodes[-1].op_type,
        elements=apart.size,
        differing=int(np.count_nonzero(apart)),
        largest=int(apart.max(initial=0)),
    )
