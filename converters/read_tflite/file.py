"""Reads a TensorFlow Lite file into plain records, every offset, length and index of which was checked.

FlatBuffers has no verifier in Python. The schema's classes go wherever an offset points, inside the file's bytes or,
with an exception, outside; so all reading happens here, at once, under one guard, and takes no more steps than the
file has bytes. What comes out holds no offsets any more.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgekit.converters.read_tflite.inline_branches import Subgraph, inline_branches
from edgekit.converters.read_tflite.records import QUANTIZED_TYPES, Grid, Operator, Tensor
from edgekit.converters.read_tflite.schema import load_schema, name_of
from edgekit.converters.read_tflite.sparse_weights import fill_zeros
from edgekit.targets.errors import ModelError

_IDENTIFIER = b"TFL3"
_IDENTIFIER_AT = 4
_VERSION = 3
# Elements of a tensor: what one address space of 32-bit boards holds as int8.
_MOST_ELEMENTS = 1 << 31
# Bytes of all constants over those of the file: tensors may share a buffer, a few of them do.
_SHARED_CONSTANTS = 16
_DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype("<f4"),
    "FLOAT16": np.dtype("<f2"),
    "FLOAT64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
    # Two to a byte in the file, unpacked here.
    "INT4": np.dtype("i1"),
}


@dataclass(frozen=True)
class TfliteFile:
    """The main subgraph of a file, maybe with its branches.

    Attributes:
        tensors: By index.
        operators: In order of execution.
        inputs: Name and tensor of each.
        outputs: Name and tensor of each.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


def parse(data: bytes, where: str, *, inline: bool = False) -> TfliteFile:
    """Reads and checks the bytes of a file.

    Args:
        data: The whole file.
        where: What errors call it.
        inline: Whether the branches of IF are put in its place (`inline_branches`); else they are left out.

    Raises:
        ModelError: It is no TensorFlow Lite file, is damaged, or has no main subgraph.
    """
    if data[_IDENTIFIER_AT : _IDENTIFIER_AT + len(_IDENTIFIER)] != _IDENTIFIER:
        raise ModelError(f"{where}: not a TensorFlow Lite model: it does not say TFL3")
    try:
        return _Reader(data, where).read(inline)
    except (
        struct.error,
        ValueError,
        TypeError,
        IndexError,
        OverflowError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ModelError(f"{where}: damaged or truncated: {error}") from error


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of the file at ``path``.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; give the .tflite file in it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


class _Reader:
    """Reads one file; counts what it reads, since vectors of a forged file may share their elements."""

    def __init__(self, data: bytes, where: str) -> None:
        self._schema = load_schema()
        self._data = data
        self._where = where
        self._budget = len(data)
        self._constants = _SHARED_CONSTANTS * len(data)

    def read(self, inline: bool) -> TfliteFile:
        model = self._schema.Model.GetRootAs(self._data, 0)
        if model.Version() != _VERSION:
            self._refuse(f"version {model.Version()} of the schema; only {_VERSION} is known")
        if not model.SubgraphsLength():
            self._refuse("it holds no subgraph")
        buffers = self._all(model.BuffersLength(), model.Buffers)
        codes = [
            self._operator_code(code)
            for code in self._all(model.OperatorCodesLength(), model.OperatorCodes)
        ]

        def read_subgraph(index: int) -> Subgraph:
            return self._subgraph(model, index, buffers, codes)

        main = inline_branches(read_subgraph, self._refuse) if inline else read_subgraph(0)
        tensors, inputs, outputs = main.tensors, main.inputs, main.outputs
        if not outputs:
            self._refuse("its main subgraph has no output")
        names = self._signature(model)
        file = TfliteFile(
            tensors,
            main.operators,
            tuple((names[0].get(i) or strip_name(tensors[i].name), i) for i in inputs),
            tuple((names[1].get(i) or strip_name(tensors[i].name), i) for i in outputs),
        )
        self._check_order(file)
        return file

    def _subgraph(
        self, model: Any, index: int, buffers: Sequence[Any], codes: Sequence[str]
    ) -> Subgraph:
        if not 0 <= index < model.SubgraphsLength():
            self._refuse(f"damaged: it names subgraph {index}, which is not there")
        graph = model.Subgraphs(index)
        tables = self._all(graph.TensorsLength(), graph.Tensors)
        plain = [self._tensor(place, table, buffers) for place, table in enumerate(tables)]
        tensors = tuple(
            self._without_blocks(tensor, table.Quantization(), plain)
            for tensor, table in zip(plain, tables, strict=True)
        )
        operators = tuple(
            self._operator(place, operator, codes, len(tensors))
            for place, operator in enumerate(self._all(graph.OperatorsLength(), graph.Operators))
        )
        inputs = self._indices(graph.InputsAsNumpy(), len(tensors), "the inputs")
        outputs = self._indices(graph.OutputsAsNumpy(), len(tensors), "the outputs")
        return Subgraph(tensors, operators, inputs, outputs)

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(f"{self._where}: {what}")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            self._refuse("damaged: it says that it holds more than its bytes can")

    def _all(self, length: int, at: Callable[[int], Any]) -> list[Any]:
        self._spend(4 * length)
        return [at(index) for index in range(length)]

    def _numbers(self, array: Any) -> npt.NDArray[Any]:
        """Returns a vector of numbers, which the schema's classes give as 0 where it is missing."""
        if not isinstance(array, np.ndarray):
            return np.zeros(0, np.int64)
        self._spend(array.nbytes)
        return array

    def _text(self, text: bytes | None) -> str:
        if text is None:
            return ""
        self._spend(len(text))
        return text.decode("utf-8", "replace")

    def _indices(self, array: Any, count: int, what: str) -> tuple[int, ...]:
        found = tuple(int(index) for index in self._numbers(array))
        if any(not 0 <= index < count for index in found):
            self._refuse(f"damaged: {what} name a tensor that is not there")
        return found

    def _operator_code(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = name_of(self._schema.BuiltinOperator, number)
        if name == "CUSTOM":
            return f"CUSTOM {self._text(code.CustomCode())}"
        return name

    def _tensor(self, index: int, tensor: Any, buffers: Sequence[Any]) -> Tensor:
        name = self._text(tensor.Name())
        label = f"tensor {index} '{name}'"
        kind = name_of(self._schema.TensorType, tensor.Type())
        shape = tuple(int(size) for size in self._numbers(tensor.ShapeAsNumpy()))
        if any(size < 0 for size in shape) or math.prod(shape) > _MOST_ELEMENTS:
            self._refuse(f"damaged: {label} has the shape {list(shape)}")
        open_shape = tuple(int(size) for size in self._numbers(tensor.ShapeSignatureAsNumpy()))
        if len(open_shape) != len(shape):
            open_shape = shape
        if not 0 <= tensor.Buffer() < len(buffers):
            self._refuse(f"damaged: {label} names a buffer that is not there")
        raw = self._buffer(buffers[tensor.Buffer()], label)
        return Tensor(
            index,
            name,
            kind,
            shape,
            tuple(None if size < 0 else size for size in open_shape),
            None if raw is None else self._elements(raw, kind, shape, tensor.Sparsity(), label),
            self._grid(tensor.Quantization(), kind, shape, label),
            bool(tensor.IsVariable()),
        )

    def _buffer(self, buffer: Any, label: str) -> npt.NDArray[np.uint8] | None:
        """Returns the bytes of a constant, None of what is computed; several tensors may share a buffer."""
        # From offset 2 on it lies behind the FlatBuffer, where files of more than 2 GB have it.
        begin, size = buffer.Offset(), buffer.Size()
        if begin > 1:
            if begin + size > len(self._data):
                self._refuse(f"damaged: the data of {label} lies outside the file")
            return np.frombuffer(self._data, np.uint8, size, begin)
        array = buffer.DataAsNumpy()
        return array if isinstance(array, np.ndarray) and array.size else None

    def _elements(
        self,
        raw: npt.NDArray[np.uint8],
        kind: str,
        shape: tuple[int, ...],
        sparsity: Any,
        label: str,
    ) -> npt.NDArray[Any] | None:
        dtype = _DTYPES.get(kind)
        if dtype is None:
            self._refuse(f"{label} is a constant of type {kind}, which is not supported")
        assert dtype is not None
        count = math.prod(shape)
        needed = (count + 1) // 2 if kind == "INT4" else count * dtype.itemsize
        self._constants -= needed
        if self._constants < 0:
            self._refuse("damaged: its constants are many times as large as the file")
        if sparsity is not None and kind != "INT4":
            raw = fill_zeros(
                raw,
                dtype,
                sparsity,
                shape,
                self._schema,
                self._numbers,
                lambda what: self._refuse(f"damaged: {label} is stored sparsely: {what}"),
            )
        if raw.size != needed:
            self._refuse(f"damaged: {label} has {raw.size} bytes of data, not {needed}")
        if kind == "INT4":
            pairs = np.stack([raw << 4, raw], axis=-1).view(np.int8) >> 4
            return pairs.reshape(-1)[:count].reshape(shape)
        array = np.frombuffer(raw, dtype).reshape(shape)
        # A single one may be a bound that bounds nothing.
        if array.dtype.kind == "f" and array.size > 1 and not np.isfinite(array).all():
            self._refuse(f"{label} holds weights that are NaN or infinite")
        return array

    def _grid(self, found: Any, kind: str, shape: tuple[int, ...], label: str) -> Grid | None:
        if found is None or kind not in QUANTIZED_TYPES or found.DetailsType():
            return None
        scale = self._numbers(found.ScaleAsNumpy()).astype(np.float32)
        if not scale.size:
            return None
        zero_point = self._numbers(found.ZeroPointAsNumpy()).astype(np.int64)
        if not zero_point.size:
            zero_point = np.zeros(scale.size, np.int64)
        axis = found.QuantizedDimension()
        if zero_point.size != scale.size or (
            scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size)
        ):
            self._refuse(
                f"damaged: {label} has {scale.size} scales and {zero_point.size} zero points for "
                f"dimension {axis} of {list(shape)}"
            )
        if not (np.isfinite(scale) & (scale > 0)).all():
            self._refuse(f"damaged: {label} has a scale that is not a positive number")
        limits = np.iinfo(_DTYPES[kind])
        if ((zero_point < limits.min) | (zero_point > limits.max)).any():
            self._refuse(f"damaged: {label} has a zero point outside {kind}")
        return Grid(scale, zero_point, axis)

    def _without_blocks(self, tensor: Tensor, found: Any, tensors: Sequence[Tensor]) -> Tensor:
        """Returns a constant that has a scale for each block of its last dimension as the float32 it stands for."""
        if found is None or tensor.type not in QUANTIZED_TYPES or not found.DetailsType():
            return tensor
        label = f"tensor {tensor.index} '{tensor.name}'"
        kind = name_of(self._schema.QuantizationDetails, found.DetailsType())
        table = found.Details()
        if kind != "BlockwiseQuantization" or table is None or tensor.data is None:
            self._refuse(f"{label} is quantized by {kind}, which is not read: give it a scale")
        details = self._schema.BlockwiseQuantization()
        details.Init(table.Bytes, table.Pos)
        if details.ZeroPoints() > 0:
            self._refuse(f"{label} has zero points for its blocks: quantize it symmetrically")
        size, place = details.BlockSize(), details.Scales()
        scales = tensors[place].data if 0 <= place < len(tensors) else None
        codes = tensor.data
        assert codes is not None
        if (
            scales is None
            or scales.dtype.kind != "f"
            or size < 1
            or not codes.ndim
            or codes.shape[-1] % size
            or scales.size * size != codes.size
        ):
            self._refuse(f"damaged: {label} has no scale for each block of {size}")
        assert scales is not None
        if not (scales > 0).all():
            self._refuse(f"damaged: {label} has a scale that is not a positive number")
        self._constants -= 4 * codes.size
        if self._constants < 0:
            self._refuse("damaged: its constants are many times as large as the file")
        blocks = codes.reshape(-1, size).astype(np.float32) * scales.reshape(-1, 1).astype(
            np.float32
        )
        return dataclasses.replace(tensor, type="FLOAT32", data=blocks.reshape(codes.shape))

    def _operator(self, index: int, operator: Any, codes: Sequence[str], tensors: int) -> Operator:
        number = operator.OpcodeIndex()
        if not 0 <= number < len(codes):
            self._refuse(f"damaged: operator {index} names an operator code that is not there")
        inputs = tuple(int(i) for i in self._numbers(operator.InputsAsNumpy()))
        if any(not -1 <= i < tensors for i in inputs):
            self._refuse(f"damaged: operator {index} reads a tensor that is not there")
        outputs = self._indices(
            operator.OutputsAsNumpy(), tensors, f"the outputs of operator {index}"
        )
        if not outputs:
            self._refuse(f"damaged: operator {index} ({codes[number]}) gives nothing")
        return Operator(index, codes[number], inputs, outputs, self._options(operator))

    def _options(self, operator: Any) -> dict[str, Any]:
        """Returns the fields of an operator's options: numbers, flags and vectors of numbers."""
        kind = name_of(self._schema.BuiltinOptions, operator.BuiltinOptionsType())
        table = operator.BuiltinOptions()
        reader = getattr(self._schema, kind, None)
        if kind == "NONE" or table is None or reader is None:
            return {}
        options = reader()
        options.Init(table.Bytes, table.Pos)
        found: dict[str, Any] = {"": kind}
        names = [name for name in vars(reader) if name[0].isupper()]
        for name in names:
            if name.startswith(("GetRoot", "Init")) or name.endswith(
                ("Length", "IsNone", "BufferHasIdentifier")
            ):
                continue
            if name.endswith("AsNumpy"):
                array = self._numbers(getattr(options, name)())
                found[name.removesuffix("AsNumpy")] = [int(number) for number in array]
            elif f"{name}AsNumpy" not in names:
                value = getattr(options, name)()
                if isinstance(value, (bool, int, float)):
                    found[name] = value
        return found

    def _signature(self, model: Any) -> tuple[dict[int, str], dict[int, str]]:
        """Returns the names that the first signature gives to inputs and outputs, by tensor."""
        for signature in self._all(model.SignatureDefsLength(), model.SignatureDefs):
            if signature.SubgraphIndex() != 0:
                continue
            found = []
            for length, at in (
                (signature.InputsLength(), signature.Inputs),
                (signature.OutputsLength(), signature.Outputs),
            ):
                maps = self._all(length, at)
                found.append({item.TensorIndex(): self._text(item.Name()) for item in maps})
            return found[0], found[1]
        return {}, {}

    def _check_order(self, file: TfliteFile) -> None:
        """Checks that everything is made once, before it is read."""
        known = {
            tensor.index for tensor in file.tensors if tensor.data is not None or tensor.is_state
        }
        for _, index in file.inputs:
            if index in known or 0 in file.tensors[index].shape:
                self._refuse(f"damaged: input {index} is there twice, empty or a constant")
            known.add(index)
        for operator in file.operators:
            for index in operator.inputs:
                # What has no elements needs no buffer.
                if index >= 0 and index not in known and 0 not in file.tensors[index].shape:
                    self._refuse(
                        f"operator {operator.index} ({operator.code}) reads tensor {index} "
                        f"'{file.tensors[index].name}' before anything makes it"
                    )
            for index in operator.outputs:
                if index in known:
                    self._refuse(f"damaged: tensor {index} is made twice")
                if 0 in file.tensors[index].shape:
                    self._refuse(f"tensor {index} '{file.tensors[index].name}' is empty")
                known.add(index)
        for _, index in file.outputs:
            if index not in known:
                self._refuse(f"damaged: output {index} is made by nothing")


def strip_name(name: str) -> str:
    """Returns a tensor's name without what converters add.

    >>> strip_name("serving_default_image:0")
    'image'
    """
    return name.removeprefix("serving_default_").partition(":")[0]
