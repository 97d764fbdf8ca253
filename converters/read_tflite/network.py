"""The ONNX network under construction: values in two layouts, constants, and the records of quantized tensors.

TensorFlow Lite keeps the channels of an image last, ONNX has them second. A tensor of rank 4 is held in whichever
layout it was computed; operators that do not mind take it as it is, and a Transpose is added where one does: at the
inputs and outputs, which stay as the file has them, and before a Reshape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx

from edgekit.converters.quantization import (
    ActivationQuantization,
    Quantization,
)
from edgekit.converters.read_tflite.file import TfliteFile, strip_name
from edgekit.converters.read_tflite.records import FLOAT_TYPES, QUANTIZED_TYPES, Operator, Tensor
from edgekit.targets.errors import ModelError

OPSET = 21
_IR_VERSION = 10
TO_IMAGE = (0, 3, 1, 2)
TO_FILE = (0, 2, 3, 1)
# How codes of a type become int8 with the same meaning.
_SHIFTS = {"INT8": 0, "UINT8": -128}
# Codes so fine that they are read as numbers.
WIDE = "INT16"
_ONNX_TYPES = {
    "BOOL": onnx.TensorProto.BOOL,
    "INT32": onnx.TensorProto.INT32,
    "INT64": onnx.TensorProto.INT64,
}


class Layout(Enum):
    """The order of a tensor's dimensions."""

    FILE = "as the file has them"
    IMAGE = "batch, channels, height, width"


class Network:
    """Collects the nodes of the ONNX model that a file becomes.

    Attributes:
        file: What is read.
        tensors: Those of the file by index; constants that operators compute take their places.
        where: What errors call the file.
        records: What quantized values carry, by name.
        notes: What the user should know of the reading.
    """

    def __init__(self, file: TfliteFile, where: str) -> None:
        self.file = file
        self.tensors = list(file.tensors)
        self.where = where
        self.records: dict[str, Quantization | None] = {}
        self.notes: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._values: dict[tuple[int, Layout], str] = {}
        self._pending: dict[int, Callable[[], object]] = {}
        self._flattened: dict[int, int] = {}
        self._names: set[str] = set()
        self._reserve()
        wide = sum(
            tensor.type == WIDE and tensor.grid is not None and tensor.data is None
            for tensor in file.tensors
        )
        if wide:
            self.notes.append(
                f"{wide} values are codes of 16 bits in the file: they are read as the numbers that they stand for, "
                "and get ranges from the calibration"
            )

    def _reserve(self) -> None:
        """Keeps the names of inputs and outputs for them, and adds the inputs."""
        self._public: dict[int, str] = {}
        for name, index in self.file.outputs:
            if index not in self._public:
                self._public[index] = self.new_name(name or f"output_{index}")
        inputs = {index for _, index in self.file.inputs}
        for operator in reversed(self.file.operators):
            # Its input has the same numbers, and may as well have the name.
            source = operator.inputs[0] if operator.inputs else -1
            if (
                operator.code == "DEQUANTIZE"
                and operator.outputs[0] in self._public
                and source >= 0
                and source not in self._public
                and source not in inputs
            ):
                self._public[source] = self._public[operator.outputs[0]]
        for name, index in self.file.inputs:
            tensor = self.tensors[index]
            own = self.new_name(name or f"input_{index}")
            self._inputs.append(self._value_info(own, tensor))
            self._bind(tensor, Layout.FILE, own)

    def tensor(self, operator: Operator, index: int) -> Tensor:
        """Returns an input of ``operator``.

        Raises:
            ModelError: It is left out.
        """
        if index >= len(operator.inputs) or operator.inputs[index] < 0:
            self.refuse(operator, f"its input {index} is missing")
        return self.tensors[operator.inputs[index]]

    def optional(self, operator: Operator, index: int) -> Tensor | None:
        """Returns an input of ``operator``, None where it is left out."""
        if index >= len(operator.inputs) or operator.inputs[index] < 0:
            return None
        return self.tensors[operator.inputs[index]]

    def output(self, operator: Operator, index: int = 0) -> Tensor:
        """Returns an output of ``operator``."""
        if index >= len(operator.outputs):
            self.refuse(operator, f"its output {index} is missing")
        return self.tensors[operator.outputs[index]]

    def option(self, operator: Operator, name: str, default: int = 0) -> int:
        """Returns a whole number among the options of ``operator``, the default of its schema where it has none."""
        return int(operator.options.get(name, default))

    def refuse(self, operator: Operator, reason: str) -> NoReturn:
        """Raises the error of an operator that cannot be read.

        Raises:
            ModelError: Always.
        """
        name = self.tensors[operator.outputs[0]].name
        raise ModelError(
            f"{self.where}: operator {operator.index} ({operator.code}, '{name}'): {reason}"
        )

    def fail(self, what: str) -> NoReturn:
        """Raises the error of a file that cannot be read.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.where}: {what}")

    def has_record(self, tensor: Tensor) -> bool:
        """Returns whether the value that holds ``tensor`` is quantized, maybe as another tensor of the file."""
        return any(self._values.get((tensor.index, layout)) in self.records for layout in Layout)

    def constant(self, operator: Operator, index: int) -> npt.NDArray[Any] | None:
        """Returns the elements of a constant input as the file has them, None where it is computed or left out."""
        tensor = self.optional(operator, index)
        return None if tensor is None else self.elements(tensor)

    def integers(self, operator: Operator, index: int) -> list[int]:
        """Returns a constant input of whole numbers.

        Raises:
            ModelError: It is left out, computed, or of another type.
        """
        array = self.constant(operator, index)
        if array is None or array.dtype.kind != "i":
            self.refuse(operator, f"its input {index} is not a constant of whole numbers")
        return [int(number) for number in array.reshape(-1)]

    def elements(self, tensor: Tensor) -> npt.NDArray[Any] | None:
        """Returns the elements of a constant; what has no elements is one."""
        if (
            tensor.data is None
            and 0 in tensor.shape
            and (tensor.index, Layout.FILE) not in self._values
        ):
            return np.zeros(tensor.shape, np.int32)
        return tensor.data

    def is_constant(self, tensor: Tensor) -> bool:
        """Returns whether the file holds the elements of ``tensor``."""
        return self.elements(tensor) is not None

    def reals(self, tensor: Tensor) -> npt.NDArray[Any]:
        """Returns what a constant stands for: float32 where it has codes or short floats, else as it is."""
        array = self.elements(tensor)
        assert array is not None
        if tensor.grid is not None:
            return dequantize(tensor, array)
        if tensor.type == "FLOAT16":
            return array.astype(np.float32)
        return array

    def is_image(self, tensor: Tensor) -> bool:
        """Returns whether ``tensor`` is held with its channels second, and only so."""
        return (tensor.index, Layout.IMAGE) in self._values and (
            tensor.index,
            Layout.FILE,
        ) not in self._values

    def get(self, tensor: Tensor, layout: Layout = Layout.FILE) -> str:
        """Returns the name of the value that holds ``tensor`` in ``layout``, adding a Transpose where needed."""
        key = (tensor.index, layout)
        if tensor.index in self._pending:
            self._pending.pop(tensor.index)()
        if key in self._values:
            return self._values[key]
        other = Layout.IMAGE if layout is Layout.FILE else Layout.FILE
        if (tensor.index, other) in self._values:
            order = TO_IMAGE if layout is Layout.IMAGE else TO_FILE
            source = self._values[tensor.index, other]
            name = self._make_name(tensor, layout)
            self.add("Transpose", [source], name, perm=list(order))
            self._bind(tensor, layout, name)
            return name
        array = self.reals(tensor) if self.is_constant(tensor) else None
        if array is None:
            raise ModelError(f"{self.where}: tensor '{tensor.name}' is read before it is made")
        if layout is Layout.IMAGE:
            array = self.image_of(array)
        name = self.add_constant(tensor.name or f"constant_{tensor.index}", array)
        self._bind(tensor, layout, name)
        return name

    def image_of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns a constant of at most 4 dimensions as it joins images with their channels second."""
        whole = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return np.ascontiguousarray(whole.transpose(TO_IMAGE))

    def give(self, tensor: Tensor, layout: Layout = Layout.FILE) -> str:
        """Returns a new name for the value that a node is about to make of ``tensor``, in ``layout``."""
        name = self._make_name(tensor, layout)
        self._bind(tensor, layout, name)
        return name

    def postpone(self, tensor: Tensor, source: Tensor, make: Callable[[], object]) -> None:
        """Lets ``make`` give ``tensor``, the rows of the image ``source``, once something reads it."""
        self._pending[tensor.index] = make
        self._flattened[tensor.index] = source.index

    def flattened_image(self, tensor: Tensor, depth: int) -> Tensor | None:
        """Returns the image, channels second, whose ``depth`` elements are a row of ``tensor``; None if none is."""
        source = self.tensors[self._flattened.get(tensor.index, tensor.index)]
        if not self.is_image(source) or math.prod(source.shape[1:]) != depth:
            return None
        return source

    def copy_record(self, tensor: Tensor, name: str) -> None:
        """Hangs the record of ``tensor``, if it is quantized, on another value."""
        record = self.grid(tensor)
        if record is not None:
            self.records[name] = record

    def hold(self, tensor: Tensor, layout: Layout, source: Tensor, other: Layout) -> None:
        """Lets ``tensor`` in ``layout`` be the value that is ``source`` in the ``other``."""
        name = self.get(source, other)
        if tensor.index in self._public and layout is Layout.FILE:
            name = self.add("Identity", [name], self._public[tensor.index])
        self._bind(tensor, layout, name)

    def alias(self, tensor: Tensor, source: Tensor) -> None:
        """Lets ``tensor`` be the value that ``source`` is, on its own grid if it has one."""
        if source.index in self._pending:
            self.get(source)
        for layout in Layout:
            if (source.index, layout) in self._values:
                self._bind(tensor, layout, self._values[source.index, layout])

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        output: str | Sequence[str],
        *,
        node: str | None = None,
        **attributes: Any,
    ) -> str:
        """Adds a node, called ``node`` or as its first output; returns the name of that."""
        outputs = [output] if isinstance(output, str) else list(output)
        self._nodes.append(
            onnx.helper.make_node(op, list(inputs), outputs, name=node or outputs[0], **attributes)
        )
        return outputs[0]

    def add_constant(
        self, name: str, array: npt.NDArray[Any], record: Quantization | None = None
    ) -> str:
        """Adds an initializer; returns its name."""
        own = self.new_name(name)
        self._initializers[own] = onnx.numpy_helper.from_array(np.ascontiguousarray(array), own)
        if record is not None:
            self.records[own] = record
        return own

    def new_name(self, name: str) -> str:
        """Returns ``name``, numbered if it was given before."""
        base, candidate, number = name or "value", name or "value", 1
        while candidate in self._names:
            candidate, number = f"{base}_{number}", number + 1
        self._names.add(candidate)
        return candidate

    def make_model(self) -> onnx.ModelProto:
        """Returns the whole network, its outputs as the file has them."""
        outputs: list[onnx.ValueInfoProto] = []
        for _, index in self.file.outputs:
            tensor, name = self.tensors[index], self._public[index]
            if any(info.name == name for info in outputs):
                continue
            held = self.get(tensor)
            if held != name:
                self.add("Identity", [held], name)
                if held in self.records:
                    self.records[name] = self.records[held]
            outputs.append(self._value_info(name, tensor))
        graph = onnx.helper.make_graph(
            self._nodes, "main", self._inputs, outputs, list(self._initializers.values())
        )
        return onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )

    def grid(self, tensor: Tensor) -> ActivationQuantization | None:
        """Returns the record of an activation, None where it is not quantized, or to 16 bits.

        Raises:
            ModelError: Its codes are no int8, uint8 or int16, or it has several scales.
        """
        if tensor.type not in QUANTIZED_TYPES or tensor.grid is None:
            return None
        if tensor.type not in {*_SHIFTS, WIDE} or tensor.grid.scale.size != 1:
            raise ModelError(
                f"{self.where}: tensor '{tensor.name}' is an activation of {tensor.type} with "
                f"{tensor.grid.scale.size} scales; int8, uint8 and int16 with one are read"
            )
        if tensor.type == WIDE:
            return None
        return ActivationQuantization(
            tensor.grid.scale[0], int(tensor.grid.zero_point[0]) + _SHIFTS[tensor.type]
        )

    def _bind(self, tensor: Tensor, layout: Layout, name: str) -> None:
        self._values[tensor.index, layout] = name
        record = self.grid(tensor)
        if record is not None:
            self.records[name] = record

    def _make_name(self, tensor: Tensor, layout: Layout) -> str:
        """Returns a name for ``tensor`` in ``layout``; an output's own name is that of its numbers in the file's."""
        public = self._public.get(tensor.index)
        if public is None:
            return self.new_name(strip_name(tensor.name) or f"tensor_{tensor.index}")
        return public if layout is Layout.FILE else self.new_name(f"{public}:image")

    def _value_info(self, name: str, tensor: Tensor) -> onnx.ValueInfoProto:
        """Describes an input or output; codes are numbers there, and an open first dimension the batch."""
        if tensor.type in FLOAT_TYPES or tensor.grid is not None:
            kind = onnx.TensorProto.FLOAT
        elif tensor.type in _ONNX_TYPES:
            kind = _ONNX_TYPES[tensor.type]
        else:
            raise ModelError(
                f"{self.where}: '{name}' is of type {tensor.type}, which is not supported"
            )
        shape = [
            size if size is not None else "N" if axis == 0 else f"{name}_{axis}"
            for axis, size in enumerate(tensor.signature)
        ]
        return onnx.helper.make_tensor_value_info(name, kind, shape)


def dequantize(tensor: Tensor, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Returns ``float32(scale * (q - zero_point))`` of a tensor with a grid."""
    grid = tensor.grid
    assert grid is not None
    sizes = [1] * codes.ndim
    if grid.scale.size > 1:
        sizes[grid.axis] = grid.scale.size
    scale, zero_point = grid.scale.reshape(sizes), grid.zero_point.reshape(sizes)
    if not codes.ndim:
        scale, zero_point = grid.scale[0], grid.zero_point[0]
    return np.asarray((codes.astype(np.int64) - zero_point).astype(np.float32) * scale, np.float32)
