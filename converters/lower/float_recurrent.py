"""Lowers LSTM, GRU and RNN step by step: states and gates in float32, weights in float32 or int8."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgekit.converters.float_program import FloatFunction, FloatOperator
from edgekit.converters.lower.recurrent_emitter import Emitter
from edgekit.converters.lower.recurrent_sums import CodedSums, FloatSums, Sums
from edgekit.converters.lower.recurrent_weights import read_weights
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import Reshape, Tensor, Transpose

# Each step is a dozen operators of its own.
_MOST_STEPS = 128
_ATTRIBUTES = {
    "activations",
    "clip",
    "direction",
    "hidden_size",
    "layout",
    "linear_before_reset",
}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def lower_recurrent(lowering: Lowering, node: ir.Node) -> None:
    """LSTM, GRU and RNN with ONNX's own activations, in any direction and layout, clipped or not.

    LSTM: ``i, o, f = sigmoid(W x + R h + b)``, ``g = tanh(W x + R h + b)``, ``c = f c + i g``, ``h = o tanh(c)``, with
    peepholes ``P c`` added to i, f (the c before) and o (the c after).
    GRU: ``z, r = sigmoid(W x + R h + b)``, ``g = tanh(W x + R (r h) + b)`` or, linear before the reset,
    ``g = tanh(W x + b + r (R h + b'))``, ``h = (1 - z) g + z h``. RNN: ``h = tanh(W x + R h + b)``.
    In float32 each gate is one sum over x, then h, unless the reset stands between; int8 weights are multiplied as
    docs/arithmetic.md says at "Recurrent layers".
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
    weights = [
        read_weights(lowering, node, number, x.shape[2]) for number in range(len(directions))
    ]
    emit = Emitter(lowering, node, batch, weights[0])
    sums: Sums
    if weights[0].coded is None:
        sums = FloatSums(x, batch_first=batch_first)
    else:
        sums = CodedSums(emit, x, weights, batch_first=batch_first)
    finals: list[tuple[Tensor, Tensor | None]] = []
    outputs: list[list[Tensor]] = []
    for number, backwards in enumerate(directions):
        emit.weights = weights[number]
        emit.prefix = f"d{number}:" if len(directions) > 1 else ""
        h = emit.initial(5, number, x.name, batch_first=batch_first)
        c = emit.initial(6, number, x.name, batch_first=batch_first) if _has_cell(node) else None
        made: dict[int, Tensor] = {}
        for t in reversed(range(steps)) if backwards else range(steps):
            h, c = _CELLS[node.op_type](emit, sums, sums.take(emit, number, t), h, c, t)
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


def _bind(
    lowering: Lowering,
    node: ir.Node,
    emit: Emitter,
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


def _run_lstm(
    emit: Emitter, sums: Sums, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    assert c is not None
    gates = sums.both(emit, x, h, (0, 4), f"gates{t}")
    if emit.weights.peephole is None:
        gates = emit.clipped(gates, f"clipped{t}")
        shares = emit.unary(FloatFunction.SIGMOID, emit.gate(gates, 0, f"iof{t}", 3), f"sigmoid{t}")
        i, o, f = (emit.gate(shares, k, f"{gate}{t}") for k, gate in enumerate("iof"))
        g_in, opened = emit.gate(gates, 3, f"g{t}"), o
    else:
        i, f = (
            _peep(emit, emit.gate(gates, k, f"{gate}_in{t}"), k, c, gate, t)
            for k, gate in ((0, "i"), (2, "f"))
        )
        g_in = emit.clipped(emit.gate(gates, 3, f"g{t}"), f"g{t}:clipped")
        opened = None
    g = emit.unary(FloatFunction.TANH, g_in, f"tanh{t}")
    kept = emit.binary(FloatOperator.MUL, f, c, f"fc{t}")
    c = emit.binary(
        FloatOperator.ADD, kept, emit.binary(FloatOperator.MUL, i, g, f"ig{t}"), f"c{t}"
    )
    if opened is None:
        opened = _peep(emit, emit.gate(gates, 1, f"o_in{t}"), 1, c, "o", t)
    bent = emit.unary(FloatFunction.TANH, emit.clipped(c, f"c{t}:clipped"), f"tanh_c{t}")
    return emit.binary(FloatOperator.MUL, opened, bent, f"h{t}"), c


def _peep(emit: Emitter, gate: Tensor, number: int, c: Tensor, name: str, t: int) -> Tensor:
    """Returns ``sigmoid(gate + P c)``."""
    assert emit.weights.peephole is not None
    weights = emit.constant(emit.weights.peephole[number], f"p_{name}{t}")
    share = emit.binary(FloatOperator.MUL, c, weights, f"pc_{name}{t}")
    total = emit.binary(FloatOperator.ADD, gate, share, f"peeped_{name}{t}")
    return emit.unary(
        FloatFunction.SIGMOID, emit.clipped(total, f"clipped_{name}{t}"), f"{name}{t}"
    )


def _run_gru(
    emit: Emitter, sums: Sums, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    gates = emit.clipped(sums.both(emit, x, h, (0, 2), f"gates{t}"), f"clipped{t}")
    shares = emit.unary(FloatFunction.SIGMOID, gates, f"sigmoid{t}")
    z, r = (emit.gate(shares, k, f"{gate}{t}") for k, gate in enumerate("zr"))
    if emit.linear_before_reset:
        own = sums.of_input(emit, x, (2, 3), f"gx{t}")
        recurrent = sums.of_state(emit, h, (2, 3), f"gh{t}")
        total = emit.binary(
            FloatOperator.ADD, own, emit.binary(FloatOperator.MUL, r, recurrent, f"rgh{t}"), f"g{t}"
        )
    else:
        reset = emit.binary(FloatOperator.MUL, r, h, f"rh{t}")
        total = sums.both(emit, x, reset, (2, 3), f"g{t}")
    g = emit.unary(FloatFunction.TANH, emit.clipped(total, f"g{t}:clipped"), f"tanh{t}")
    one = emit.constant(np.ones((1, emit.weights.hidden), np.float32), f"one{t}")
    rest = emit.binary(
        FloatOperator.ADD, emit.unary(FloatFunction.NEGATE, z, f"less{t}"), one, f"rest{t}"
    )
    fresh = emit.binary(FloatOperator.MUL, rest, g, f"fresh{t}")
    kept = emit.binary(FloatOperator.MUL, z, h, f"kept{t}")
    return emit.binary(FloatOperator.ADD, fresh, kept, f"h{t}"), None


def _run_rnn(
    emit: Emitter, sums: Sums, x: Tensor, h: Tensor, c: Tensor | None, t: int
) -> tuple[Tensor, Tensor | None]:
    total = emit.clipped(sums.both(emit, x, h, (0, 1), f"sum{t}"), f"clipped{t}")
    return emit.unary(FloatFunction.TANH, total, f"h{t}"), None


_Cell = Callable[
    [Emitter, Sums, Tensor, Tensor, "Tensor | None", int], tuple[Tensor, "Tensor | None"]
]
_CELLS: dict[str, _Cell] = {"GRU": _run_gru, "LSTM": _run_lstm, "RNN": _run_rnn}
RECURRENT = frozenset(_CELLS)
