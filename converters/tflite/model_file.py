"""Builds the bytes of a TFLite file from tensors and operators."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.versions import Operand, operator_version

_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"
# What kernels may read constants with.
_ALIGNMENT = 64
_LARGEST_DEPRECATED_CODE = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
SIGNATURE = "serving_default"

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Grid:
    """What the codes of a tensor stand for: ``scale * (q - zero_point)``.

    Attributes:
        scale: float32, one or one a channel.
        zero_point: Of all channels.
        axis: The channels' dimension.
    """

    scale: npt.NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0

    def to_schema(self) -> Any:
        """Returns the schema's table."""
        scale = np.atleast_1d(np.asarray(self.scale, np.float32))
        return schema.QuantizationParametersT(
            scale=scale,
            zeroPoint=np.full(scale.size, self.zero_point, np.int64),
            quantizedDimension=self.axis,
        )


def join_nibbles(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Returns codes in [-8, 7], two to a byte.

    >>> join_nibbles(np.array([1, -1, 7], np.int8)).tolist()
    [241, 7]
    """
    flat = codes.reshape(-1).view(np.uint8) & np.uint8(15)
    pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
    joined: npt.NDArray[np.uint8] = pairs[:, 0] | (pairs[:, 1] << np.uint8(4))
    return joined


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose bytes are aligned, which the generated class does not see to."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        vector = None
        if self.data is not None:
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head = builder.Head() - size
            builder.Bytes[builder.Head() : builder.Head() + size] = self.data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


@dataclass(frozen=True)
class Signature:
    """How a subgraph is called.

    Attributes:
        key: Its name in the file.
        inputs: Tensors by the names that the signature gives them.
        outputs: Likewise.
    """

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class _Shared:
    """What all subgraphs of a file refer to."""

    def __init__(self) -> None:
        # The first buffer is that of all tensors without data.
        self.buffers = [_Buffer()]
        self.codes: dict[tuple[int, int], int] = {}
        self.metadata: list[Any] = []
        self._places: dict[bytes, int] = {}

    def add_buffer(self, data: bytes) -> int:
        """Returns the buffer that holds ``data``; tensors share one where their bytes are the same."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            self.buffers.append(_Buffer(data=data))
            self._places[digest] = len(self.buffers) - 1
        return self._places[digest]


class ModelFile:
    """A file under construction: one subgraph with one signature, and others beside it that share its buffers.

    Attributes:
        operators: Operators of the subgraph so far, in order of execution.
    """

    def __init__(self, beside: ModelFile | None = None) -> None:
        """Starts a file, or a further subgraph of the file that ``beside`` is in."""
        self._shared: _Shared = _Shared() if beside is None else beside._shared
        self._tensors: list[Any] = []
        self._operands: list[Operand] = []
        self._names: set[str] = set()
        self._constants: dict[
            tuple[bytes, str, tuple[int, ...], bytes, tuple[int, int] | None], int
        ] = {}
        self.operators: list[Any] = []

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        grid: Grid | None = None,
        data: Array | None = None,
        bits: int = 8,
        sparsity: Any = None,
    ) -> int:
        """Adds a tensor and returns its index.

        Args:
            name: Shown by tools; numbered where a tensor has it already, since some tools go by it.
            shape: Fixed.
            dtype: One that TFLite has.
            grid: Of codes.
            data: Of a constant.
            bits: 4 for int8 codes in [-8, 7] that are stored two to a byte, the first in its lower half.
            sparsity: The schema's SparsityParametersT, where ``data`` are not all elements.
        """
        buffer = 0
        if data is not None:
            stored = np.ascontiguousarray(data, np.dtype(dtype).newbyteorder("<"))
            buffer = self._add_buffer(stored if bits == 8 else join_nibbles(stored))
        kind = _TYPES[np.dtype(dtype)] if bits == 8 else schema.TensorType.INT4
        self._tensors.append(
            schema.TensorT(
                name=self._claim(name),
                shape=np.array(shape, np.int32),
                type=kind,
                buffer=buffer,
                quantization=(None if grid is None else grid.to_schema()),
                sparsity=sparsity,
                hasRank=True,
            )
        )
        per_channel = grid is not None and np.size(grid.scale) > 1
        scale = 0.0 if grid is None or per_channel else float(np.max(grid.scale))
        self._operands.append(Operand(kind, len(shape), per_channel, scale))
        return len(self._tensors) - 1

    def add_parameter(self, name: str, data: Array, grid: Grid | None = None, bits: int = 8) -> int:
        """Adds a constant that operators share where it is the same: a shape, a permutation, weights of every step."""
        scales = b"" if grid is None else np.asarray(grid.scale, np.float32).tobytes()
        place = None if grid is None else (grid.zero_point, grid.axis)
        key = (data.tobytes(), data.dtype.name, data.shape, scales, place)
        if key not in self._constants:
            self._constants[key] = self.add_tensor(name, data.shape, data.dtype, grid, data)
        return self._constants[key]

    def add_operator(
        self,
        operator: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options_type: int = schema.BuiltinOptions.NONE,
        options: Any = None,
    ) -> None:
        """Appends an operator of the version that its tensors need; an input of -1 is left out."""
        version = operator_version(
            operator,
            [None if index < 0 else self._operands[index] for index in inputs],
            self._operands[outputs[0]],
            options,
        )
        codes = self._shared.codes
        code = codes.setdefault((operator, version), len(codes))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=code,
                inputs=np.array(inputs, np.int32),
                outputs=np.array(outputs, np.int32),
                builtinOptionsType=options_type,
                builtinOptions=options,
            )
        )

    def add_metadata(self, name: str, data: bytes) -> None:
        """Adds a named block of bytes."""
        buffer = self._add_buffer(np.frombuffer(data, np.uint8))
        self._shared.metadata.append(schema.MetadataT(name=name, buffer=buffer))

    def kinds(self) -> list[str]:
        """Returns the operators' names, in order of execution."""
        names = {
            value: name
            for name, value in vars(schema.BuiltinOperator).items()
            if isinstance(value, int)
        }
        by_index = {index: names[code] for (code, _), index in self._shared.codes.items()}
        return [by_index[entry.opcodeIndex] for entry in self.operators]

    def to_bytes(
        self,
        signature: Signature,
        description: str,
        others: Sequence[tuple[ModelFile, Signature]] = (),
    ) -> bytes:
        """Returns the file.

        Args:
            signature: Of this subgraph.
            description: What made the file.
            others: The subgraphs beside this one.
        """
        subgraphs = [(self, signature), *others]
        model = schema.ModelT(
            version=_SCHEMA_VERSION,
            description=description,
            operatorCodes=[
                schema.OperatorCodeT(
                    deprecatedBuiltinCode=min(code, _LARGEST_DEPRECATED_CODE),
                    builtinCode=code,
                    version=version,
                )
                for code, version in self._shared.codes
            ],
            subgraphs=[file._subgraph(own) for file, own in subgraphs],
            buffers=self._shared.buffers,
            signatureDefs=[
                schema.SignatureDefT(
                    signatureKey=own.key,
                    subgraphIndex=index,
                    inputs=[schema.TensorMapT(name, tensor) for name, tensor in own.inputs.items()],
                    outputs=[
                        schema.TensorMapT(name, tensor) for name, tensor in own.outputs.items()
                    ],
                )
                for index, (_, own) in enumerate(subgraphs)
            ],
            metadata=self._shared.metadata,
        )
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _claim(self, name: str) -> str:
        """Returns ``name``, numbered if a tensor has it."""
        own, number = name, 0
        while own in self._names:
            number += 1
            own = f"{name}_{number}"
        self._names.add(own)
        return own

    def _subgraph(self, signature: Signature) -> Any:
        return schema.SubGraphT(
            name="main" if signature.key == SIGNATURE else signature.key,
            tensors=self._tensors,
            inputs=np.array(list(signature.inputs.values()), np.int32),
            outputs=np.array(list(signature.outputs.values()), np.int32),
            operators=self.operators,
        )

    def _add_buffer(self, data: Array) -> int:
        return self._shared.add_buffer(data.tobytes())
