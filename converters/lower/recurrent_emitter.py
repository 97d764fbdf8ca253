"""Emits the operators of LSTM, GRU and RNN, one step after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import (
    DynamicFullyConnected,
    FloatBinary,
    FloatFullyConnected,
    FloatFunction,
    FloatOperator,
    FloatUnary,
)
from edgekit.converters.lower.recurrent_weights import CodedMatrix, RecurrentWeights
from edgekit.converters.lower.state import Lowering
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import Concat, Float32Array, Slice, Tensor


class Emitter:
    """The operators of one node.

    Attributes:
        prefix: Of the names of the direction under way.
        weights: Of that direction.
        clip: What the functions of gates and states take lies within plus and minus this.
    """

    def __init__(
        self, lowering: Lowering, node: ir.Node, batch: int, weights: RecurrentWeights
    ) -> None:
        self.prefix = ""
        self.weights = weights
        found = node.attributes.get("clip")
        self.clip = math.inf if found is None else found.as_float()
        self._lowering = lowering
        self._node = node
        self._batch = batch

    @property
    def linear_before_reset(self) -> bool:
        """Whether a GRU multiplies by its reset after the product with the state."""
        return bool(attribute(self._node, "linear_before_reset", 0))

    def initial(self, index: int, number: int, near: str, *, batch_first: bool) -> Tensor:
        """Returns the initial h or c as ``[batch, hidden]``, zeros where the node has none."""
        node, shape = self._node, (self._batch, self.weights.hidden)
        if len(node.inputs) <= index or node.inputs[index] is None:
            label = f"{near}:{self.prefix}state{index}"
            return self._lowering.add_constant(node, label, np.zeros(shape, np.float32))
        given = self._lowering.source_order(self._lowering.codes(node, index))
        begin = (0, number, 0) if batch_first else (number, 0, 0)
        size = (shape[0], 1, shape[1]) if batch_first else (1, *shape)
        part = self.slice(given, begin, size, f"state{index}:part")
        return self.reshape(part, shape, f"state{index}")

    def product(self, x: Tensor, weights: Float32Array, bias: Float32Array, part: str) -> Tensor:
        """Returns ``W x + b``, within the clip."""
        y = self._tensor(part, (*x.shape[:-1], len(weights)))
        self._lowering.emit(
            FloatFullyConnected(
                name=self._name(part),
                input=x.name,
                output=y.name,
                weights=np.ascontiguousarray(weights),
                bias=np.ascontiguousarray(bias),
            )
        )
        return y

    def coded_product(
        self, x: Tensor, weights: CodedMatrix, bias: Float32Array, part: str
    ) -> Tensor:
        """Returns ``W x + b``, the rows of ``x`` given codes at run time."""
        y = self._tensor(part, (*x.shape[:-1], len(weights.codes)))
        self._lowering.emit(
            DynamicFullyConnected(
                name=self._name(part),
                input=x.name,
                output=y.name,
                weights=np.ascontiguousarray(weights.codes),
                multiplier=np.ascontiguousarray(weights.scale),
                bias=np.ascontiguousarray(bias),
            )
        )
        return y

    def concat(self, parts: Sequence[Tensor], axis: int, part: str) -> Tensor:
        """Returns tensors side by side; a single one as it is."""
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(each.shape[axis] for each in parts)
        y = self._tensor(part, shape)
        names = tuple(each.name for each in parts)
        self._lowering.emit(Concat(name=self._name(part), parts=names, output=y.name, axis=axis))
        return y

    def gate(self, gates: Tensor, number: int, part: str, count: int = 1) -> Tensor:
        """Returns one gate's rows of ``[batch, gates * hidden]``, or several gates'."""
        size = self.weights.hidden
        return self.slice(gates, (0, number * size), (self._batch, count * size), part)

    def slice(self, x: Tensor, begin: Sequence[int], shape: Sequence[int], part: str) -> Tensor:
        """Returns a piece of ``x``; all of it as it is."""
        if tuple(shape) == x.shape:
            return x
        y = self._tensor(part, shape)
        self._lowering.emit(
            Slice(
                name=self._name(part),
                input=x.name,
                output=y.name,
                begin=tuple(begin),
                step=(1,) * len(begin),
            )
        )
        return y

    def reshape(self, x: Tensor, shape: Sequence[int], part: str) -> Tensor:
        """Returns ``x`` under another shape."""
        return self._lowering.reshaped(x, shape, self._label(part))

    def unary(
        self, function: FloatFunction, x: Tensor, part: str, alpha: float = 0.0, beta: float = 0.0
    ) -> Tensor:
        """Returns a function of each element."""
        y = self._tensor(part, x.shape)
        self._lowering.emit(
            FloatUnary(
                name=self._name(part),
                input=x.name,
                output=y.name,
                function=function,
                alpha=alpha,
                beta=beta,
            )
        )
        return y

    def clipped(self, x: Tensor, part: str) -> Tensor:
        """Returns ``x`` within the clip."""
        if math.isinf(self.clip):
            return x
        return self.unary(FloatFunction.CLIP, x, part, -self.clip, self.clip)

    def binary(self, operator: FloatOperator, a: Tensor, b: Tensor, part: str) -> Tensor:
        """Returns a function of two tensors, the shape being the first one's."""
        y = self._tensor(part, a.shape)
        self._lowering.emit(
            FloatBinary(name=self._name(part), operator=operator, a=a.name, b=b.name, output=y.name)
        )
        return y

    def constant(self, array: Float32Array, part: str) -> Tensor:
        """Returns a constant."""
        return self._lowering.add_constant(self._node, self._label(part), array)

    def _label(self, part: str) -> str:
        return f"{self._node.name or self._node.outputs[0].name}:{self.prefix}{part}"

    def _tensor(self, part: str, shape: Sequence[int]) -> Tensor:
        return self._lowering.real_tensor(self._label(part), shape)

    def _name(self, part: str) -> str:
        return self._lowering.op_name(self._node, f":{self.prefix}{part}")
