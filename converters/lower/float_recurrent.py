"""Lowers an LSTM to float32 operators, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFullyConnected,
    FloatFunction,
    FloatOperator,
    FloatUnary,
)
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import Concat, DType, Reshape, Slice, Tensor

# Each step is a dozen operators of its own.
_MOST_STEPS = 128
_ATTRIBUTES = {"hidden_size", "direction", "layout", "input_forget"}


def lower_lstm(lowering: Lowering, node: ir.Node) -> None:
    """LSTM in one direction, with ONNX's own activations and without peepholes.

    ``i, o, f = sigmoid(W x + R h + b)``, ``g = tanh(W x + R h + b)``, ``c = f c + i g``, ``h = o tanh(c)``; each gate
    is one sum over x, then h.
    """
    _check(node)
    x = lowering.source_order(lowering.codes(node, 0))
    arrays = [lowering.constant(node, index) for index in (1, 2)]
    if arrays[0] is None or arrays[1] is None:
        refuse(node, "its weights are computed")
    weights = np.concatenate([np.asarray(a, np.float32)[0] for a in arrays], axis=1)
    count, depth = weights.shape
    steps, batch, features = x.shape
    hidden = count // 4
    if steps > _MOST_STEPS or features + hidden != depth:
        refuse(node, f"it takes {steps} steps, more than {_MOST_STEPS}, or its weights do not fit")
    bias = np.zeros(count, np.float32)
    given = lowering.constant(node, 3)
    if given is not None:
        bias = np.asarray(given, np.float32)[0].reshape(2, count).sum(axis=0, dtype=np.float32)
    step = _Step(lowering, node, batch, hidden, np.ascontiguousarray(weights), bias)
    h, c = (step.state(index, x.name) for index in (5, 6))
    outputs = []
    for t in range(steps):
        part = step.slice(x, (t, 0, 0), (1, batch, features), f"x{t}")
        h, c = step.run(step.reshape(part, (batch, features), f"x{t}:row"), h, c, t)
        outputs.append(h)
    _bind(lowering, node, step, outputs, c)


def _check(node: ir.Node) -> None:
    unknown = sorted(set(node.attributes) - _ATTRIBUTES)
    if unknown or attribute(node, "layout", 0) or attribute(node, "input_forget", 0):
        refuse(node, f"it has other attributes than a plain LSTM: {', '.join(unknown) or 'layout'}")
    if "direction" in node.attributes and node.attributes["direction"].as_string() != "forward":
        refuse(node, "it runs backwards")
    for index, what in ((4, "lengths of its sequences"), (7, "peepholes")):
        if len(node.inputs) > index and node.inputs[index] is not None:
            refuse(node, f"it has {what}")


def _bind(
    lowering: Lowering, node: ir.Node, step: _Step, outputs: Sequence[Tensor], c: Tensor
) -> None:
    """Gives the outputs that are used their shapes: every h, the last one, and the last c."""
    shape = (step.batch, step.hidden)
    rows = [step.reshape(h, (1, 1, *shape), f"y{t}") for t, h in enumerate(outputs)]
    sources = (rows, [outputs[-1]], [c])
    shapes = ((len(rows), 1, *shape), (1, *shape), (1, *shape))
    for index, (parts, size) in enumerate(zip(sources, shapes, strict=True)):
        if index >= len(node.outputs):
            return
        value = node.outputs[index]
        if not (value.uses() or value.is_graph_output()):
            continue
        y = lowering.add_output(
            node, size, lowering.moved_grid(node, c), channels_last=False, index=index
        )
        name = lowering.op_name(node, f":{index}")
        if len(parts) == 1:
            lowering.emit(Reshape(name=name, input=parts[0].name, output=y.name))
        else:
            names = tuple(part.name for part in parts)
            lowering.emit(Concat(name=name, parts=names, output=y.name, axis=0))


class _Step:
    """Emits the operators of one step after another."""

    def __init__(
        self,
        lowering: Lowering,
        node: ir.Node,
        batch: int,
        hidden: int,
        weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
        bias: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> None:
        self.batch = batch
        self.hidden = hidden
        self._lowering = lowering
        self._node = node
        self._weights = weights
        self._bias = bias

    def state(self, index: int, near: str) -> Tensor:
        """Returns the initial h or c as ``[batch, hidden]``, zeros where the node has none."""
        node, shape = self._node, (self.batch, self.hidden)
        if len(node.inputs) <= index or node.inputs[index] is None:
            tensor = self._lowering.new_tensor(Tensor(f"{near}:state{index}", shape, DType.FLOAT32))
            self._lowering.constants[tensor.name] = np.zeros(shape, np.float32)
            return tensor
        given = self._lowering.source_order(self._lowering.codes(node, index))
        return self.reshape(given, shape, f"state{index}")

    def run(self, x: Tensor, h: Tensor, c: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Returns the next h and c."""
        size, batch, depth = self.hidden, self.batch, self._weights.shape[1]
        both = self._tensor(f"xh{t}", (batch, depth))
        self._lowering.emit(
            Concat(name=self._name(f"xh{t}"), parts=(x.name, h.name), output=both.name, axis=1)
        )
        gates = self._tensor(f"gates{t}", (batch, 4 * size))
        self._lowering.emit(
            FloatFullyConnected(
                name=self._name(f"gates{t}"),
                input=both.name,
                output=gates.name,
                weights=self._weights,
                bias=self._bias,
            )
        )
        open_gates = self.slice(gates, (0, 0), (batch, 3 * size), f"iof{t}")
        shares = self._unary(FloatFunction.SIGMOID, open_gates, f"sigmoid{t}")
        i, o, f = (
            self.slice(shares, (0, k * size), (batch, size), f"{gate}{t}")
            for k, gate in enumerate("iof")
        )
        g = self._unary(
            FloatFunction.TANH, self.slice(gates, (0, 3 * size), (batch, size), f"g{t}"), f"tanh{t}"
        )
        kept = self._binary(FloatOperator.MUL, f, c, f"fc{t}")
        c = self._binary(
            FloatOperator.ADD, kept, self._binary(FloatOperator.MUL, i, g, f"ig{t}"), f"c{t}"
        )
        bent = self._unary(FloatFunction.TANH, c, f"tanh_c{t}")
        return self._binary(FloatOperator.MUL, o, bent, f"h{t}"), c

    def slice(self, x: Tensor, begin: Sequence[int], shape: Sequence[int], part: str) -> Tensor:
        """Returns a piece of ``x``."""
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

    def _unary(self, function: FloatFunction, x: Tensor, part: str) -> Tensor:
        y = self._tensor(part, x.shape)
        self._lowering.emit(
            FloatUnary(name=self._name(part), input=x.name, output=y.name, function=function)
        )
        return y

    def _binary(self, operator: FloatOperator, a: Tensor, b: Tensor, part: str) -> Tensor:
        y = self._tensor(part, a.shape)
        self._lowering.emit(
            FloatBinary(name=self._name(part), operator=operator, a=a.name, b=b.name, output=y.name)
        )
        return y

    def _label(self, part: str) -> str:
        return f"{self._node.name or self._node.outputs[0].name}:{part}"

    def _tensor(self, part: str, shape: Sequence[int]) -> Tensor:
        return self._lowering.real_tensor(self._label(part), shape)

    def _name(self, part: str) -> str:
        return self._lowering.op_name(self._node, f":{part}")
