"""What the lowering knows while it walks a graph: tensors and operators so far, and how to refuse a node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.program import (
    MAX_CODE,
    MIN_CODE,
    Dequantize,
    DType,
    Op,
    Quantize,
    Requantize,
    Reshape,
    Tensor,
    Transpose,
    codes_name,
)
from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    get_quantization,
)
from edgekit.targets.errors import ModelError

_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
TO_CHANNELS_LAST = (0, 2, 3, 1)
TO_SOURCE_ORDER = (0, 3, 1, 2)
# What stands for the grid of a float32 tensor.
_NO_GRID = ActivationQuantization(np.float32(1), 0)


def describe(node: ir.Node) -> str:
    """Returns how errors name ``node``."""
    return f"node {node.name or node.outputs[0].name!r} ({node.op_type})"


def refuse(node: ir.Node, reason: str) -> NoReturn:
    """Raises the error of a node that the native form cannot hold.

    Raises:
        ModelError: Always; names the node, the operator, the reason and the form that takes the node.
    """
    raise ModelError(
        f"{describe(node)}: {reason}, so the native form cannot hold it, nor can TFLite's. "
        "The ONNX form can, with this node in float: deploy it with format onnx."
    )


def same_grid(a: Tensor, b: Tensor | ActivationQuantization) -> bool:
    """Returns whether the codes of ``a`` mean the same numbers as those of ``b``."""
    return bool(a.scale == b.scale) and a.zero_point == b.zero_point


class Lowering:
    """The program under construction.

    Attributes:
        tensors: By name.
        ops: In order of execution.
        constants: The elements of constant tensors, by name.
        computes: What the operator under construction computes on: tensors that it asks for are brought to that type,
            and those that it adds are of it.
        done: Nodes that were lowered with one before them.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[Op] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.computes = DType.CODE
        self.done: set[ir.Node] = set()
        self._coded: set[ir.Value] = set()
        self._codes: dict[ir.Value, Tensor] = {}
        self._reals: dict[ir.Value, Tensor] = {}
        self._bounds: dict[str, tuple[int, int]] = {}
        self._op_names: set[str] = set()

    def op_name(self, node: ir.Node, part: str = "") -> str:
        """Returns a name for an operator made from ``node``, not given before."""
        return self.unique_name((node.name or node.outputs[0].name or node.op_type) + part)

    def unique_name(self, name: str) -> str:
        """Returns ``name``, numbered if it was given before."""
        candidate, number = name, 1
        while candidate in self._op_names:
            number += 1
            candidate = f"{name}#{number}"
        self._op_names.add(candidate)
        return candidate

    def emit(self, op: Op) -> None:
        """Appends ``op``, whose tensors must be known."""
        self.ops.append(op)

    def new_tensor(self, tensor: Tensor) -> Tensor:
        """Adds ``tensor``, numbering its name if that is taken."""
        name, number = tensor.name, 1
        while name in self.tensors:
            number += 1
            name = f"{tensor.name}#{number}"
        if name != tensor.name:
            tensor = replace(tensor, name=name)
        self.tensors[name] = tensor
        return tensor

    def forget_unread_constants(self) -> None:
        """Drops constants that were only steps on the way to others."""
        read = {name for op in self.ops for name in op.inputs}
        for name in [name for name in self.constants if name not in read]:
            del self.constants[name], self.tensors[name]

    def bind(self, value: ir.Value, tensor: Tensor) -> None:
        """Says that ``tensor`` holds the codes of ``value``, or its float32 elements."""
        known = self._codes if tensor.dtype is DType.CODE else self._reals
        known[value] = tensor

    def bound(self, value: ir.Value) -> Tensor | None:
        """Returns the tensor that holds ``value``, as float32 where it is there in both types, or None."""
        return self._reals.get(value) or self._codes.get(value)

    def coded(self, value: ir.Value | None) -> Tensor | None:
        """Returns the codes of ``value`` where an operator wrote it as codes, not as float32, None otherwise."""
        return self._codes[value] if value is not None and value in self._coded else None

    def made_codes(self, node: ir.Node, record: ActivationQuantization) -> Tensor:
        """Returns the codes of the node's first input, by its own record, or by ``record`` where it has none."""
        value = self._given(node, 0)
        known, own = self._codes.get(value), get_quantization(value)
        if known is not None:
            return known
        grid = own if isinstance(own, ActivationQuantization) else record
        return self.quantized(value, self._real(node, value), grid)

    def codes(self, node: ir.Node, index: int) -> Tensor:
        """Returns the tensor with the codes of the node's input, in whatever layout it has.

        Its float32 elements instead, where the node computes on those.

        Raises:
            ModelError: The input is missing, or there are no such codes of it.
        """
        tensor = self.elements(node, index)
        if tensor.dtype is not self.computes:
            refuse(node, f"its input {tensor.name!r} is {tensor.dtype.value}, not float32")
        return tensor

    def elements(self, node: ir.Node, index: int) -> Tensor:
        """Returns the tensor of the node's input: codes, or plain numbers of any type where it computes on those.

        Raises:
            ModelError: The input is missing, or there are no such codes of it.
        """
        return self.operand(node, self._given(node, index))

    def _given(self, node: ir.Node, index: int) -> ir.Value:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            refuse(node, f"its input {index} is missing")
        return value

    def numbers(self, node: ir.Node, index: int) -> Tensor:
        """Returns the tensor of an input that is plain numbers, whatever the node computes on.

        Raises:
            ModelError: The input is missing, or nothing has computed it.
        """
        return self._real(node, self._given(node, index))

    def held(self, node: ir.Node, index: int) -> Tensor:
        """Returns the tensor of the node's input as it is there: codes, or plain numbers.

        Raises:
            ModelError: The input is missing, or nothing has computed it.
        """
        value = self._given(node, index)
        return self.bound(value) or self._real(node, value)

    def operand(self, node: ir.Node, value: ir.Value) -> Tensor:
        """Returns the tensor that holds ``value`` as ``node`` computes on it; see `codes`."""
        if self.computes is DType.FLOAT32:
            return self._real(node, value)
        tensor = self._codes.get(value)
        if tensor is not None:
            return tensor
        if value.const_value is not None:
            return self._constant_codes(node, value)
        real, record = self._reals.get(value), get_quantization(value)
        if real is None or not isinstance(record, ActivationQuantization):
            refuse(node, f"its input {value.name!r} stays float32")
        return self.quantized(value, real, record)

    def quantized(self, value: ir.Value, real: Tensor, record: ActivationQuantization) -> Tensor:
        """Adds the codes of a float32 tensor; those of a model's input that is used as an image are NHWC."""
        shape, channels_last = real.shape, real.channels_last
        if value.is_graph_input() and len(shape) == 4 and not _keeps_order(value):
            shape, channels_last = tuple(shape[axis] for axis in TO_CHANNELS_LAST), True
        name = str(value.name)
        codes = self.new_tensor(
            Tensor(
                codes_name(name),
                shape,
                scale=np.float32(record.scale),
                zero_point=record.zero_point,
                channels_last=channels_last,
                flattened=real.flattened,
            )
        )
        op_name = self.unique_name(f"{name}:quantize")
        self.emit(Quantize(name=op_name, input=real.name, output=codes.name))
        self.bind(value, codes)
        return codes

    def _real(self, node: ir.Node, value: ir.Value) -> Tensor:
        """Returns the plain elements of ``value``: as they are, dequantized, or constant."""
        known = self._reals.get(value)
        if known is not None:
            return known
        name = str(value.name)
        codes = self._codes.get(value)
        if codes is not None:
            real = self.new_tensor(
                replace(
                    codes,
                    name=f"{name}:real",
                    dtype=DType.FLOAT32,
                    scale=np.float32(1),
                    zero_point=0,
                )
            )
            op_name = self.unique_name(f"{name}:dequantize")
            self.emit(Dequantize(name=op_name, input=codes.name, output=real.name))
        elif value.const_value is not None:
            real = self.add_constant(node, name, np.asarray(value.const_value.numpy()))
        else:
            refuse(node, f"its input {name!r} is not float32")
        self.bind(value, real)
        return real

    def add_constant(self, node: ir.Node, name: str, array: npt.NDArray[Any]) -> Tensor:
        """Adds a constant of plain numbers that ``node`` reads; int8 ones are codes of scale 1.

        Raises:
            ModelError: Plans hold none of its type, or it is empty.
        """
        dtype = DType.CODE if array.dtype == np.int8 else DType.of_numpy(array.dtype)
        if dtype is None:
            refuse(node, f"its input {name!r} is a constant of {array.dtype}")
        if array.size == 0:
            refuse(node, f"its input {name!r} is empty, of shape {list(array.shape)}")
        tensor = self.new_tensor(Tensor(name, array.shape, dtype))
        self.constants[tensor.name] = array
        return tensor

    def _constant_codes(self, node: ir.Node, value: ir.Value) -> Tensor:
        """Adds the tensor of a constant's codes."""
        record = get_quantization(value)
        if not isinstance(record, ActivationQuantization) or value.const_value is None:
            refuse(node, f"its input {value.name!r} is a constant that stays float32")
        codes = constant_codes(np.asarray(value.const_value.numpy()), record)
        tensor = self.new_tensor(
            Tensor(str(value.name), codes.shape, scale=record.scale, zero_point=record.zero_point)
        )
        self.constants[tensor.name] = codes
        self.bind(value, tensor)
        return tensor

    def grid(self, node: ir.Node) -> ActivationQuantization:
        """Returns the record of the node's only output.

        Raises:
            ModelError: The node has more outputs in use, or the output stays float32.
        """
        value = node.outputs[0]
        for extra in node.outputs[1:]:
            if extra.name and (extra.uses() or extra.is_graph_output()):
                refuse(node, f"its output {extra.name!r} is used besides the first one")
        if self.computes is DType.FLOAT32:
            return _NO_GRID
        record = get_quantization(value)
        if not isinstance(record, ActivationQuantization):
            refuse(node, f"its output {value.name!r} stays float32")
        return record

    def moved_grid(self, node: ir.Node, source: Tensor, index: int = 0) -> ActivationQuantization:
        """Returns the grid of an output that only moves codes: its record, or the input's where it has none."""
        record = get_quantization(node.outputs[index])
        if self.computes is DType.FLOAT32:
            return _NO_GRID
        if isinstance(record, ActivationQuantization):
            return record
        return ActivationQuantization(source.scale, source.zero_point)

    def add_output(
        self,
        node: ir.Node,
        shape: Sequence[int],
        record: ActivationQuantization,
        *,
        channels_last: bool,
        flattened: tuple[int, int, int] | None = None,
        index: int = 0,
        dtype: DType | None = None,
    ) -> Tensor:
        """Adds the tensor of an output of ``node`` and binds it; of what it computes on, or another ``dtype``."""
        value = node.outputs[index]
        if 0 in shape:
            refuse(node, f"its output {value.name!r} would be empty, of shape {list(shape)}")
        name = value.name or f"{node.name}:{index}"
        if value.is_graph_output():
            name = codes_name(name) if self.computes is DType.CODE else f"{name}:real"
        tensor = self.new_tensor(
            Tensor(
                name=name,
                shape=tuple(int(size) for size in shape),
                dtype=dtype or self.computes,
                scale=record.scale,
                zero_point=record.zero_point,
                channels_last=channels_last,
                flattened=flattened,
            )
        )
        self.bind(value, tensor)
        if tensor.dtype is DType.CODE:
            self._coded.add(value)
        self._bounds[tensor.name] = (record.lo, record.hi)
        return tensor

    def moved(self, node: ir.Node, x: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Adds the output of a node that only moves the elements of ``x``; returns both on one grid."""
        grid = self.moved_grid(node, x)
        x = self.on_grid(node, x, grid)
        y = self.add_output(node, shape, grid, channels_last=x.channels_last, dtype=x.dtype)
        return x, y

    def add_real_output(
        self, node: ir.Node, shape: Sequence[int], *, channels_last: bool
    ) -> Tensor:
        """Adds the float32 tensor of the only output of ``node`` and binds it.

        Raises:
            ModelError: The node has more outputs in use.
        """
        return self.add_output(node, shape, self.grid(node), channels_last=channels_last)

    def real_tensor(
        self, name: str, shape: Sequence[int], *, channels_last: bool = False
    ) -> Tensor:
        """Adds a float32 tensor that is no value of the model."""
        return self.new_tensor(
            Tensor(name, tuple(shape), DType.FLOAT32, channels_last=channels_last)
        )

    def weight(self, node: ir.Node, index: int) -> WeightQuantization | None:
        """Returns the record of a weight or bias, or None where the node has no such input.

        Raises:
            ModelError: The input has no integer form.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or not value.name:
            return None
        record = get_quantization(value)
        if not isinstance(record, WeightQuantization):
            refuse(node, f"its input {value.name!r} is not a quantized constant")
        return record

    def constant(self, node: ir.Node, index: int) -> npt.NDArray[np.generic] | None:
        """Returns the value of a constant input, or None where the input is missing or computed."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value.const_value is None:
            return None
        return np.asarray(value.const_value.numpy())

    def channels_last(self, tensor: Tensor) -> Tensor:
        """Returns ``tensor`` (of rank 4) as NHWC, adding a transpose where it is not."""
        return tensor if tensor.channels_last else self._reordered(tensor, TO_CHANNELS_LAST, True)

    def source_order(self, tensor: Tensor) -> Tensor:
        """Returns ``tensor`` in the source model's order, adding a transpose where it is not."""
        return self._reordered(tensor, TO_SOURCE_ORDER, False) if tensor.channels_last else tensor

    def is_on_grid(self, tensor: Tensor, record: ActivationQuantization) -> bool:
        """Returns whether the codes of ``tensor`` are codes of ``record``, within its bounds."""
        if tensor.dtype is not DType.CODE:
            return True
        low, high = self._bounds.get(tensor.name, (MIN_CODE, MAX_CODE))
        return same_grid(tensor, record) and record.lo <= low and high <= record.hi

    def on_grid(self, node: ir.Node, tensor: Tensor, record: ActivationQuantization) -> Tensor:
        """Returns ``tensor`` on the grid of ``record`` and inside its bounds, requantized where it is not."""
        if self.is_on_grid(tensor, record):
            return tensor
        result = self.new_tensor(
            Tensor(
                f"{tensor.name}:requantized",
                tensor.shape,
                scale=record.scale,
                zero_point=record.zero_point,
                channels_last=tensor.channels_last,
            )
        )
        self.emit(
            Requantize(
                name=self.op_name(node, ":requantize"),
                input=tensor.name,
                output=result.name,
                lo=record.lo,
                hi=record.hi,
            )
        )
        return result

    def reshaped(self, tensor: Tensor, shape: Sequence[int], name: str) -> Tensor:
        """Returns the bytes of ``tensor`` under another shape in the source model's order."""
        result = self.new_tensor(
            Tensor(name, tuple(shape), tensor.dtype, tensor.scale, tensor.zero_point)
        )
        if tensor.name in self.constants:
            self.constants[result.name] = self.constants[tensor.name].reshape(shape)
            return result
        self.emit(Reshape(name=self.unique_name(name), input=tensor.name, output=result.name))
        return result

    def as_image(self, tensor: Tensor) -> Tensor:
        """Returns ``tensor`` as NHWC, with leading dimensions of size 1 where its rank is below 4."""
        if len(tensor.shape) < 4:
            shape = (*(1,) * (4 - len(tensor.shape)), *tensor.shape)
            tensor = self.reshaped(tensor, shape, f"{tensor.name}:image")
        return self.channels_last(tensor)

    def _reordered_constant(
        self, tensor: Tensor, permutation: tuple[int, int, int, int], channels_last: bool
    ) -> Tensor:
        array = self.constants[tensor.name].transpose(permutation).copy()
        result = self.new_tensor(replace(tensor, shape=array.shape, channels_last=channels_last))
        self.constants[result.name] = array
        return result

    def _reordered(
        self, tensor: Tensor, permutation: tuple[int, int, int, int], channels_last: bool
    ) -> Tensor:
        """Returns ``tensor`` in the other layout; the work is done once a tensor."""
        if tensor.name in self.constants:
            return self._reordered_constant(tensor, permutation, channels_last)
        name = f"{tensor.name}:{'channels_last' if channels_last else 'source_order'}"
        known = self.tensors.get(name)
        if known is not None:
            return known
        result = self.new_tensor(
            Tensor(
                name,
                tuple(tensor.shape[axis] for axis in permutation),
                tensor.dtype,
                tensor.scale,
                tensor.zero_point,
                channels_last,
            )
        )
        op_name = self.unique_name(name)
        if keeps_bytes(tensor.shape, permutation):
            self.emit(Reshape(name=op_name, input=tensor.name, output=result.name))
        else:
            self.emit(
                Transpose(
                    name=op_name, input=tensor.name, output=result.name, permutation=permutation
                )
            )
        return result


def constant_codes(
    real: npt.NDArray[np.generic], record: ActivationQuantization
) -> npt.NDArray[np.int8]:
    """Returns the codes of constants, rounded as QuantizeLinear does it."""
    grid = np.rint(real.astype(np.float32) / np.float32(record.scale)) + record.zero_point
    codes: npt.NDArray[np.int8] = grid.clip(record.lo, record.hi).astype(np.int8)
    return codes


def keeps_bytes(shape: Sequence[int], permutation: Sequence[int]) -> bool:
    """Returns whether transposing ``shape`` only moves dimensions of size 1.

    >>> keeps_bytes((1, 1280, 1, 1), TO_CHANNELS_LAST), keeps_bytes((1, 3, 2, 2), TO_CHANNELS_LAST)
    (True, False)
    """
    long = [axis for axis in permutation if shape[axis] != 1]
    return long == sorted(long)


def normalized_axis(node: ir.Node, axis: int, rank: int) -> int:
    """Returns ``axis`` counted from the front.

    Raises:
        ModelError: The tensor has no such dimension.
    """
    if not -rank <= axis < rank:
        refuse(node, f"its axis {axis} is not one of {rank} dimensions")
    return axis % rank


def element_count(shape: Sequence[int]) -> int:
    """Returns the number of elements of ``shape``."""
    return math.prod(shape)


def plan_axis(axis: int, *, channels_last: bool) -> int:
    """Returns where dimension ``axis`` of the source model's order lies in the tensor."""
    return TO_CHANNELS_LAST.index(axis) if channels_last else axis


def _keeps_order(value: ir.Value) -> bool:
    """Returns whether all that uses ``value`` wants the source model's order.

    That is reshapes, and what makes an image of one that has its channels last.
    """
    return all(
        use.node.op_type in _RESHAPES
        or (
            use.node.op_type == "Transpose"
            and "perm" in use.node.attributes
            and tuple(use.node.attributes["perm"].as_ints()) == TO_SOURCE_ORDER
        )
        for use in value.uses()
    )
