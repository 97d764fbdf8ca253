"""Writes small TensorFlow Lite files for the tests, with the schema's own classes."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int4": schema.TensorType.INT4,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}


class TfliteFile:
    """A file under construction: its main subgraph, and those of branches."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]

    def branch(self):
        """Begins another subgraph of the same file; ``number`` is its place."""
        other = TfliteFile.__new__(TfliteFile)
        other.model, other.graph = self.model, schema.SubGraphT()
        other.graph.tensors, other.graph.operators = [], []
        other.graph.inputs, other.graph.outputs = [], []
        other.number = len(self.model.subgraphs)
        self.model.subgraphs.append(other.graph)
        return other

    def tensor(self, name, shape, dtype="float32", *, data=None, signature=None, grid=None):
        """Adds a tensor; ``grid`` is scales, zero points and the dimension that has them."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[str(dtype)]
        tensor.buffer = 0
        if signature is not None:
            tensor.shapeSignature = list(signature)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if grid is not None:
            scale, zero_point, axis = grid
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [float(s) for s in np.atleast_1d(scale)]
            tensor.quantization.zeroPoint = [int(z) for z in np.atleast_1d(zero_point)]
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, name, array, grid=None):
        """Adds a constant tensor."""
        array = np.asarray(array)
        return self.tensor(name, array.shape, array.dtype.name, data=array, grid=grid)

    def int4_constant(self, name, codes, grid=None):
        """Adds a constant whose codes lie two to a byte, the first in the lower half."""
        flat = np.concatenate([codes.reshape(-1), np.zeros(codes.size % 2, np.int8)]).astype(
            np.uint8
        )
        packed = (flat[0::2] & 15) | (flat[1::2] << 4)
        return self.tensor(name, codes.shape, "int4", data=packed.astype(np.uint8), grid=grid)

    def state(self, name, shape):
        """Adds a tensor that the interpreter keeps from run to run."""
        index = self.tensor(name, shape)
        self.graph.tensors[index].isVariable = True
        return index

    def input(self, name, shape, dtype="float32", **more):
        """Adds an input."""
        index = self.tensor(name, shape, dtype, **more)
        self.graph.inputs.append(index)
        return index

    def operator(self, code, inputs, outputs, options=None, *, version=1, custom=None, **fields):
        """Adds an operator; ``options`` is them, or their name with ``fields`` that they hold."""
        number = getattr(schema.BuiltinOperator, code)
        op_code = schema.OperatorCodeT()
        op_code.builtinCode, op_code.deprecatedBuiltinCode = number, min(number, 127)
        op_code.version, op_code.customCode = version, custom
        self.model.operatorCodes.append(op_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if isinstance(options, str):
            options = getattr(schema, f"{options}T")()
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
            for name, value in fields.items():
                assert hasattr(options, name), name
                setattr(options, name, value)
        self.graph.operators.append(operator)

    def pack(self, *outputs):
        """Returns the file's bytes."""
        self.graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
