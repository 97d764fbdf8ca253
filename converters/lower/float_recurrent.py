"""Lowers LSTM, GRU and RNN to float32 operators, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from edgekit.converters.program import Concat, Float32Array, Reshape, Slice, Tensor, Transpose

# Each step is a dozen operators of its own.
_MOST_STEPS = 128
_ATTRIBUTES = {"activations", "direction", "hidden_size", "layout", "linear_before_reset"}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class _Weights:
    """The constants of one direction: ``input`` [gates * hidden, features], ``state`` [gates * hidden, hidden]."""

    input: Float32Array
    state: Float32Array
    input_bias: Float32Array
    state_bias: Float32Array
    peephole: Float32Array | None

    @property
    def bias(self) -> Float32Array:
        """Both biases."""
        return self.input_bias + self.state_bias


def lower_recurrent(lowering: Lowering, node: ir.Node) -> None:
    """LSTM, GRU and RNN with ONNX's own activations, in any direction and layout.

    LSTM: ``i, o, f = sigmoid(W x + R h + b)``, ``g = tanh(W x + R h + b)``, ``c = f c + i g``, ``h = o tanh(c)``, with
    peepholes ``P c`` added to i, f (the c before) and o (the c after).
    GRU: ``z, r = sigmoid(W x + R h + b)``, ``g = tanh(W x + R (r h) + b)`` or, linear before the reset,
    ``g = tanh(W x + b + r (R h + b'))``, ``h = (1 - z) g + z h``. RNN: ``h = tanh(W x + R h + b)``.
    Each gate is one sum over x, then h, unless the reset stands between.
    """
    directions = _check(node)
    batch_first = bool(attribute(node, "layout", 0))
    x = lowering.source_order(lowering.codes(node, 0))
    if len(x.shape) != 3:
        refuse(node, f"it takes a tensor of rank {len(x.shape)}, not 3")
    batch, steps = (x.shape[0], x.shape[1]) if batch_first else (x.shape[1], x.shape[0])
    if steps > _MOST_STEPS:
        refuse(node, f"it takes {steps} steps, more than {_MOST_STEPS}")
    lengths = lowering.constant(node, 4)
    whole = lengths is not None and bool((lengths.astype(np.int64) == steps).all())
    if len(node.inputs) > 4 and node.inputs[4] is not None and not whole:
        refuse(node, "it has lengths of its sequences")
    finals: list[tuple[Tensor, Tensor | None]] = []
    outputs: list[list[Tensor]] = []
    emit = _Emitter(lowering, node, batch)
    for number, backwards in enumerate(directions):
        weights = _read_weights(lowering, node, number, x.shape[2])
        emit.start(weights, f"d{number}:" if len(directions) > 1 else "")
        h = emit.initial(5, number, x.name, batch_first=batch_first)
        c = emit.initial(6, number, x.name, batch_first=batch_first) if _has_cell(node) else None
        made: dict[int, Tensor] = {}
        for t in reversed(range(steps)) if backwards else range(steps):
            begin = (0, t, 0) if batch_first else (t, 0, 0)
            size = (batch, 1, x.shape[2]) if batch_first else (1, batch, x.shape[2])
            part = emit.slice(x, begin, size, f"x{t}")
            row = emit.reshape(part, (batch, x.shape[2]), f"x{t}:row")
            h, c = _CELLS[node.op_type](emit, row, h, c, t)
            made[t] = h
        outputs.append([made[t] for t in range(steps)])
        finals.append((h, c))
    _bind(lowering, node, emit, outputs, finals, batch_first=batch_first)


def _has_cell(node: ir.Node) -> bool:
    return node.op_type == "LSTM"


def _check(node: ir.Node) -> tuple[bool, ...]:
    """Returns whether each direction runs backwards."""
    unknown = sorted(set(node.attributes) - _ATTRIBUTES)
    if attribute(node, "input_forget", 0) == 0:
        unknown = [name for name in unknown if name != "input_forget"]
    if unknown:
        refuse(node, f"it has the attributes {', '.join(unknown)}")
    name = node.attributes["direction"].as_string() if "direction" in node.attributes else "forward"
    directions = _DIRECTIONS[name]
    if "activations" in node.attributes:
        given = list(node.attributes["activations"].as_strings())
        if given != _ACTIVATIONS[node.op_type] * len(directions):
            refuse(node, f"it has the activations {', '.join(given)}")
    return directions


def _read_weights(lowering: Lowering, node: ir.Node, number: int, features: int) -> _Weights:
    arrays = [lowering.constant(node, index) for index in (1, 2)]
    if arrays[0] is None or arrays[1] is None:
        refuse(node, "its weights are computed")
    own, recurrent = (
        np.ascontiguousarray(array[number], np.float32) for array in arrays if array is not None
    )
    count, hidden = len(own), recurrent.shape[1]
    if (
        count != _GATES[node.op_type] * hidden
        or recurrent.shape[0] != count
        or own.shape[1] != features
    ):
        refuse(node, f"its weights {list(own.shape)} and {list(recurrent.shape)} do not fit")
    biases = np.zeros((2, count), np.float32)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = lowering.constant(node, 3)
        if given is None:
            refuse(node, "its bias is computed")
        biases = np.asarray(given[number], np.float32).reshape(2, count)
    peephole = None
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        array = lowering.constant(node, 7)
        if array is None:
            refuse(node, "its peepholes are computed")
        peephole = np.asarray(array[number], np.float32).reshape(3, 1, hidden)
    return _Weights(own, recurrent, biases[0], biases[1], peephole)


def _bind(
    lowering: Lowering,
    node: ir.Node,
    emit: _Emitter,
    outputs: Sequence[Sequence[Tensor]],
    finals: Sequence[tuple[Tensor, Tensor | None]],
    *,
    batch_first: bool,
) -> None:
    """Gives the outputs that are used their shapes: every h, the last one, and the last c."""
    shape, count = finals[0][0].shape, len(outputs)
    steps = len(outputs[0])
    emit.prefix = ""
    order: tuple[int, ...]
    for index, value in enumerate(node.outputs):
        if not (value.uses() or value.is_graph_output()):
            continue
        if index == 0:
            runs = [
                emit.concat(
                    [emit.reshape(h, (1, 1, *shape), f"y{t}:{d}") for t, h in enumerate(run)],
                    0,
                    f"y:{d}",
                )
                for d, run in enumerate(outputs)
            ]
            whole, order = emit.concat(runs, 1, "y"), (2, 0, 1, 3)
            assert whole.shape == (steps, count, *shape)
        else:
            last = [final[index - 1] for final in finals]
            parts = [
                emit.reshape(tensor, (1, *shape), f"last{index}:{d}")
                for d, tensor in enumerate(last)
                if tensor is not None
            ]
            whole, order = emit.concat(parts, 0, f"last{index}"), (1, 0, 2)
        size = [whole.shape[axis] for axis in order] if batch_first else whole.shape
        y = lowering.add_output(
            node, size, lowering.moved_grid(node, whole), channels_last=False, index=index
        )
        name = lowering.op_name(node, f":{index}")
        if batch_first:
            lowering.emit(Transpose(name=name, input=whole.name, output=y.name, permutation=order))
        else:
            lowering.emit(Reshape(name=name, input=whole.name, output=y.name))


class _Emitter:
    """Emits the operators of one step after another.

    Attributes:
        prefix: Of the names of the direction under way.
    """

    def __init__(self, lowering: Lowering, node: ir.Node, batch: int) -> None:
        self.prefix = ""
        self._lowering = lowering
        self._node = node
        self._batch = batch
        nothing = np.zeros((0, 0), np.float32)
        self.weights = _Weights(nothing, nothing, nothing, nothing, None)

    def start(self, weights: _Weights, prefix: str) -> None:
        """Begins a direction."""
        self.weights = weights
        self.prefix = prefix

    @property
    def linear_before_reset(self) -> bool:
        """Whether a GRU multiplies by its reset after the product with the state."""
        return bool(attribute(self._node, "linear_before_reset", 0))

    @property
    def hidden(self) -> int:
        """Elements of the state of a sample."""
        return int(self.weights.state.shape[1])

    def initial(self, index: int, number: int, near: str, *, batch_first: bool) -> Tensor:
        """Returns the initial h or c as ``[batch, hidden]``, zeros where the node has none."""
        node, shape = self._node, (self._batch, self.hidden)
        if len(node.inputs) <= index or node.inputs[index] is None:
            label = f"{near}:{self.prefix}state{index}"
            return self._lowering.add_constant(node, label, np.zeros(shape, np.float32))
        given = self._lowering.source_order(self._lowering.codes(node, index))
        begin = (0, number, 0) if batch_first else (number, 0, 0)
        size = (shape[0], 1, shape[1]) if batch_first else (1, *shape)
        if given.shape != size:
            given = self.slice(given, begin, size, f"state{index}:part")
        return self.reshape(given, shape, f"state{index}")

    def product(self, x: Tensor, weights: Float32Array, bias: Float32Array, part: str) -> Tensor:
        """Returns ``W x + b``."""
        y = self._tensor(part, (self._batch, len(weights)))
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
        """Returns one gate's rows, or several."""
        size = self.hidden
        return self.slice(gates, (0, number * size), (self._batch, count * size), part)

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

    def unary(self, function: FloatFunction, x: Tensor, part: str) -> Tensor:
        """Returns a function of each element."""
        y = self._tensor(part, x.shape)
        self._lowering.emit(
            FloatUnary(name=self._name(part), input=x.name, output=y.name, function=function)
        )
        return y

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


def _run_lstm(
    emit: _Emitter, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    assert c is not None
    weights = np.concatenate([emit.weights.input, emit.weights.state], axis=1)
    both = emit.concat((x, h), 1, f"xh{t}")
    gates = emit.product(both, weights, emit.weights.bias, f"gates{t}")
    peephole = emit.weights.peephole
    if peephole is None:
        shares = emit.unary(FloatFunction.SIGMOID, emit.gate(gates, 0, f"iof{t}", 3), f"sigmoid{t}")
        i, o, f = (emit.gate(shares, k, f"{gate}{t}") for k, gate in enumerate("iof"))
        opened: Tensor | None = o
    else:
        i, f = (
            _peep(emit, emit.gate(gates, k, f"{gate}_in{t}"), k, c, gate, t)
            for k, gate in ((0, "i"), (2, "f"))
        )
        opened = None
    g = emit.unary(FloatFunction.TANH, emit.gate(gates, 3, f"g{t}"), f"tanh{t}")
    kept = emit.binary(FloatOperator.MUL, f, c, f"fc{t}")
    c = emit.binary(
        FloatOperator.ADD, kept, emit.binary(FloatOperator.MUL, i, g, f"ig{t}"), f"c{t}"
    )
    if opened is None:
        opened = _peep(emit, emit.gate(gates, 1, f"o_in{t}"), 1, c, "o", t)
    bent = emit.unary(FloatFunction.TANH, c, f"tanh_c{t}")
    return emit.binary(FloatOperator.MUL, opened, bent, f"h{t}"), c


def _peep(emit: _Emitter, gate: Tensor, number: int, c: Tensor, name: str, t: int) -> Tensor:
    """Returns ``sigmoid(gate + P c)``."""
    assert emit.weights.peephole is not None
    weights = emit.constant(emit.weights.peephole[number], f"p_{name}{t}")
    share = emit.binary(FloatOperator.MUL, c, weights, f"pc_{name}{t}")
    total = emit.binary(FloatOperator.ADD, gate, share, f"peeped_{name}{t}")
    return emit.unary(FloatFunction.SIGMOID, total, f"{name}{t}")


def _run_gru(
    emit: _Emitter, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    w, size = emit.weights, emit.hidden
    two = 2 * size
    joined = np.concatenate([w.input[:two], w.state[:two]], axis=1)
    gates = emit.product(emit.concat((x, h), 1, f"xh{t}"), joined, w.bias[:two], f"gates{t}")
    shares = emit.unary(FloatFunction.SIGMOID, gates, f"sigmoid{t}")
    z, r = (emit.gate(shares, k, f"{gate}{t}") for k, gate in enumerate("zr"))
    if emit.linear_before_reset:
        own = emit.product(x, w.input[two:], w.input_bias[two:], f"gx{t}")
        recurrent = emit.product(h, w.state[two:], w.state_bias[two:], f"gh{t}")
        total = emit.binary(
            FloatOperator.ADD, own, emit.binary(FloatOperator.MUL, r, recurrent, f"rgh{t}"), f"g{t}"
        )
    else:
        reset = emit.binary(FloatOperator.MUL, r, h, f"rh{t}")
        joined = np.concatenate([w.input[two:], w.state[two:]], axis=1)
        total = emit.product(emit.concat((x, reset), 1, f"xrh{t}"), joined, w.bias[two:], f"g{t}")
    g = emit.unary(FloatFunction.TANH, total, f"tanh{t}")
    one = emit.constant(np.ones((1, size), np.float32), f"one{t}")
    rest = emit.binary(
        FloatOperator.ADD, emit.unary(FloatFunction.NEGATE, z, f"less{t}"), one, f"rest{t}"
    )
    fresh = emit.binary(FloatOperator.MUL, rest, g, f"fresh{t}")
    kept = emit.binary(FloatOperator.MUL, z, h, f"kept{t}")
    return emit.binary(FloatOperator.ADD, fresh, kept, f"h{t}"), None


def _run_rnn(
    emit: _Emitter, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    weights = np.concatenate([emit.weights.input, emit.weights.state], axis=1)
    total = emit.product(emit.concat((x, h), 1, f"xh{t}"), weights, emit.weights.bias, f"sum{t}")
    return emit.unary(FloatFunction.TANH, total, f"h{t}"), None


_Cell = Callable[[_Emitter, Tensor, Tensor, "Tensor | None", int], tuple[Tensor, "Tensor | None"]]
_CELLS: dict[str, _Cell] = {"GRU": _run_gru, "LSTM": _run_lstm, "RNN": _run_rnn}
RECURRENT = frozenset(_CELLS)
