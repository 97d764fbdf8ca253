"""LSTM, GRU and RNN, step by step, with ONNX's own activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_BACKWARDS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

# Returns the products of rows ``[B, k]`` with weights ``[n, k]``.
Product = Callable[[Tensor, Tensor], Tensor]


def multiply(rows: Tensor, weights: Tensor) -> Tensor:
    """Returns the products of rows ``[B, k]`` with weights ``[n, k]``, in floats."""
    return rows @ weights.T


def run_recurrent(call: Call, product: Product = multiply) -> tuple[Tensor | None, ...]:
    """Returns Y, Y_h and, of an LSTM, Y_c; docs/arithmetic.md, "Recurrent layers", has the equations.

    Args:
        call: The node; W, R, B and P are its inputs 1, 2, 3 and 7.
        product: What multiplies x and h with weights.
    """
    kind = call.node.op_type
    directions = _BACKWARDS[call.text("direction", "forward")]
    _check(call, len(directions))
    x = call[0]
    if call.integer("layout", 0):
        x = x.transpose(0, 1)
    steps, batch = x.shape[:2]
    size = call[2].shape[-1]
    runs, lasts, cells = [], [], []
    for number, backwards in enumerate(directions):
        h = _initial(call, 5, number, x, (batch, size))
        c = _initial(call, 6, number, x, (batch, size)) if kind == "LSTM" else h
        cell = _CELLS[kind](call, number, product)
        made: list[Tensor] = [h] * steps
        inputs = product(x.reshape(steps * batch, -1), call[1][number]).reshape(steps, batch, -1)
        for t in reversed(range(steps)) if backwards else range(steps):
            h, c = cell(inputs[t], h, c)
            made[t] = h
        runs.append(torch.stack(made))
        lasts.append(h)
        cells.append(c)
    y, last, last_c = torch.stack(runs, 1), torch.stack(lasts), torch.stack(cells)
    if call.integer("layout", 0):
        y, last, last_c = y.permute(2, 0, 1, 3), last.transpose(0, 1), last_c.transpose(0, 1)
    return (y, last, last_c) if kind == "LSTM" else (y, last)


def _check(call: Call, directions: int) -> None:
    given = call.node.attributes.get("activations")
    usual = _ACTIVATIONS[call.node.op_type] * directions
    if given is not None and list(given.as_strings()) != usual:
        call.refuse(f"it has the activations {', '.join(given.as_strings())}")
    if call.integer("input_forget", 0):
        call.refuse("its input and forget gates are coupled")
    lengths = call.get(4)
    x = call[0]
    steps = x.shape[1 if call.integer("layout", 0) else 0]
    if lengths is not None and lengths.numel() and not bool((lengths == steps).all()):
        call.refuse("it has lengths of its sequences")


def _initial(call: Call, index: int, number: int, x: Tensor, shape: tuple[int, int]) -> Tensor:
    given = call.get(index)
    if given is None or not given.numel():
        return torch.zeros(shape, dtype=x.dtype)
    return given[:, number] if call.integer("layout", 0) else given[number]


_Cell = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _biases(call: Call, number: int) -> tuple[Tensor, Tensor]:
    """Returns the biases of W and of R of one direction."""
    bias = call.get(3)
    count = _GATES[call.node.op_type] * call[2].shape[-1]
    if bias is None or not bias.numel():
        none = torch.zeros(count)
        return none, none
    return bias[number, :count], bias[number, count:]


def _clipped(call: Call) -> Callable[[Tensor], Tensor]:
    bound = call.number("clip", 0.0)
    return (lambda x: x.clamp(-bound, bound)) if bound else (lambda x: x)


def _lstm(call: Call, number: int, product: Product) -> _Cell:
    weights, (bias_w, bias_r) = call[2][number], _biases(call, number)
    peepholes = call.get(7)
    limit = _clipped(call)
    size = weights.shape[-1]
    places = peepholes[number] if peepholes is not None and peepholes.numel() else None

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, o, f, g = ((x + (bias_w + bias_r)) + product(h, weights)).split(size, dim=1)
        if places is not None:
            i, f = i + c * places[:size], f + c * places[2 * size :]
        after = torch.sigmoid(limit(f)) * c + torch.sigmoid(limit(i)) * torch.tanh(limit(g))
        if places is not None:
            o = o + after * places[size : 2 * size]
        return torch.sigmoid(limit(o)) * torch.tanh(limit(after)), after

    return step


def _gru(call: Call, number: int, product: Product) -> _Cell:
    weights, (bias_w, bias_r) = call[2][number], _biases(call, number)
    limit = _clipped(call)
    size = weights.shape[-1]
    linear = bool(call.integer("linear_before_reset", 0))
    both = bias_w + bias_r

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        of_h = product(h, weights) if linear else product(h, weights[: 2 * size])
        gates = (x[:, : 2 * size] + both[: 2 * size]) + of_h[:, : 2 * size]
        z, r = torch.sigmoid(limit(gates)).split(size, dim=1)
        if linear:
            new = (x[:, 2 * size :] + bias_w[2 * size :]) + r * (
                of_h[:, 2 * size :] + bias_r[2 * size :]
            )
        else:
            new = (x[:, 2 * size :] + both[2 * size :]) + product(r * h, weights[2 * size :])
        h = (1 - z) * torch.tanh(limit(new)) + z * h
        return h, h

    return step


def _rnn(call: Call, number: int, product: Product) -> _Cell:
    weights, (bias_w, bias_r) = call[2][number], _biases(call, number)
    limit = _clipped(call)

    def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(limit((x + (bias_w + bias_r)) + product(h, weights)))
        return h, h

    return step


_CELLS: dict[str, Callable[[Call, int, Product], _Cell]] = {
    "GRU": _gru,
    "LSTM": _lstm,
    "RNN": _rnn,
}

OPERATORS: dict[str, Operator] = dict.fromkeys(_CELLS, run_recurrent)
