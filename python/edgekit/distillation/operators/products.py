"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator


def _gemm(call: Call) -> Tensor:
    a, b, c = call[0], call[1], call.get(2)
    if call.integer("transA", 0):
        a = a.t()
    if call.integer("transB", 0):
        b = b.t()
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    y = a @ b
    if alpha != 1.0:
        y = alpha * y
    if c is None:
        return y
    return y + (c if beta == 1.0 else beta * c)


def _matmul(call: Call) -> Tensor:
    return torch.matmul(call[0], call[1])


def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.text("equation", ""), *(call[i] for i in range(len(call.inputs))))


OPERATORS: dict[str, Operator] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}
