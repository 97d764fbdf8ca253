"""Recurrent layers with int8 weights by docs/arithmetic.md, "Recurrent layers": whole layers, slow and plain."""

import numpy as np

from edgekit.converters.float_program import FloatFunction, FloatUnary
from edgekit.converters.float_reference import quantize_rows
from edgekit.converters.program import DType, Program, Tensor
from edgekit.converters.reference import run_program


def run_recurrent(
    kind,
    x,
    w,
    r,
    biases,
    *,
    backwards=(False,),
    state=None,
    cell=None,
    peepholes=None,
    clip=np.inf,
    linear=False,
):
    """Returns every h, the last one, and the last c (zeros for GRU and RNN), in ONNX's order.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        x: float32 ``[steps, batch, features]``.
        w: Codes ``[directions, gates * hidden, features]`` and scales ``[directions, gates * hidden]``.
        r: The same of the state's weights, ``[.., hidden]``.
        biases: float32 ``[directions, 2, gates * hidden]``: of the input and of the state.
        backwards: Of each direction, whether it goes from the last step to the first.
        state: The first h, ``[directions, batch, hidden]``, or None for zeros.
        cell: The same of c.
        peepholes: ``[directions, 3, hidden]`` in the order i, o, f, or None.
        clip: Bound of what the functions take.
        linear: Whether a GRU multiplies by r after the product with the state.
    """
    hidden, (steps, batch, _) = r[0].shape[2], x.shape
    y = np.zeros((steps, len(backwards), batch, hidden), np.float32)
    last = np.zeros((2, len(backwards), batch, hidden), np.float32)
    for d, reverse in enumerate(backwards):

        def gates(matrix, rows, first, count, d=d):
            codes, scale = (part[d, first * hidden : (first + count) * hidden] for part in matrix)
            return multiply(rows, codes, scale)

        def bias(first, count, of, d=d):
            part = biases[d, :, first * hidden : (first + count) * hidden]
            return part[0] + part[1] if of == "both" else part[0 if of == "input" else 1]

        def cut(sums):
            return np.clip(sums, np.float32(-clip), np.float32(clip))

        h, c = (
            np.zeros((batch, hidden), np.float32) if first is None else first[d]
            for first in (state, cell)
        )
        p = None if peepholes is None else peepholes[d]
        for t in reversed(range(steps)) if reverse else range(steps):
            if kind == "LSTM":
                sums = (gates(w, x[t], 0, 4) + bias(0, 4, "both")) + gates(r, h, 0, 4)
                i, o, f, g = np.split(sums, 4, axis=1)
                if p is not None:
                    i, f = i + c * p[0], f + c * p[2]
                i, f, g = sigmoid(cut(i)), sigmoid(cut(f)), tanh(cut(g))
                c = f * c + i * g
                if p is not None:
                    o = o + c * p[1]
                h = sigmoid(cut(o)) * tanh(cut(c))
            elif kind == "GRU":
                sums = (gates(w, x[t], 0, 2) + bias(0, 2, "both")) + gates(r, h, 0, 2)
                z, reset = np.split(sigmoid(cut(sums)), 2, axis=1)
                own = gates(w, x[t], 2, 1)
                if linear:
                    g = (own + bias(2, 1, "input")) + reset * (
                        gates(r, h, 2, 1) + bias(2, 1, "state")
                    )
                else:
                    g = (own + bias(2, 1, "both")) + gates(r, reset * h, 2, 1)
                h = (-z + np.float32(1)) * tanh(cut(g)) + z * h
            else:
                sums = (gates(w, x[t], 0, 1) + bias(0, 1, "both")) + gates(r, h, 0, 1)
                h = tanh(cut(sums))
            y[t, d] = h
        last[:, d] = h, c
    return y, last[0], last[1]


def multiply(rows, codes, scale):
    """Returns ``W x`` of rows that get their codes here: "Dynamic products" of docs/arithmetic.md."""
    given, step = quantize_rows(rows)
    sums = given.astype(np.int32) @ codes.astype(np.int32).T
    return (sums.astype(np.float32) * scale) * step


def sigmoid(x):
    return _apply(FloatFunction.SIGMOID, x)


def tanh(x):
    return _apply(FloatFunction.TANH, x)


def _apply(function, x):
    """Returns the judge's function of each element."""
    tensors = {name: Tensor(name, x.shape, DType.FLOAT32) for name in "xy"}
    op = FloatUnary(name="f", input="x", output="y", function=function)
    return run_program(Program(tensors, ("x",), ("y",), (op,)), {"x": x})["y"]
