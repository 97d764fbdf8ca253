"""Norms, softmax and reductions: what takes many elements together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator

# A tensor, the dimensions, whether they stay with one element.
_Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _prod(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for dim in sorted((dim % x.ndim for dim in dims), reverse=True):
        x = x.prod(dim=dim, keepdim=keep)
    return x


_REDUCTIONS: dict[str, _Reduction] = {
    "ReduceL1": lambda x, dims, keep: x.abs().sum(dim=dims, keepdim=keep),
    "ReduceL2": lambda x, dims, keep: (x * x).sum(dim=dims, keepdim=keep).sqrt(),
    "ReduceLogSum": lambda x, dims, keep: x.sum(dim=dims, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, dims, keep: x.logsumexp(dim=dims, keepdim=keep),
    "ReduceMax": lambda x, dims, keep: x.amax(dim=dims, keepdim=keep),
    "ReduceMean": lambda x, dims, keep: x.mean(dim=dims, keepdim=keep),
    "ReduceMin": lambda x, dims, keep: x.amin(dim=dims, keepdim=keep),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, dims, keep: x.sum(dim=dims, keepdim=keep),
    "ReduceSumSquare": lambda x, dims, keep: (x * x).sum(dim=dims, keepdim=keep),
}


def _reduce(call: Call) -> Tensor:
    x, axes = call[0], call.axes()
    if axes is None:
        if call.integer("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.ndim))
    dims = tuple(axis % x.ndim for axis in axes) if x.ndim else ()
    return _REDUCTIONS[call.node.op_type](x, dims, bool(call.integer("keepdims", 1)))


def _extreme(call: Call) -> Tensor:
    x, dim = call[0], call.integer("axis", 0)
    keep, last = bool(call.integer("keepdims", 1)), bool(call.integer("select_last_index", 0))
    find = torch.argmax if call.node.op_type == "ArgMax" else torch.argmin
    if not last:
        return find(x, dim=dim, keepdim=keep)
    return x.shape[dim] - 1 - find(x.flip(dim), dim=dim, keepdim=keep)


def _softmax(call: Call) -> Tensor:
    return torch.softmax(call[0], dim=call.integer("axis", -1))


def _log_softmax(call: Call) -> Tensor:
    return torch.log_softmax(call[0], dim=call.integer("axis", -1))


def _layer_norm(call: Call) -> Tensor:
    x = call[0]
    first = call.integer("axis", -1) % x.ndim
    dims = tuple(range(first, x.ndim))
    centred = x - x.mean(dim=dims, keepdim=True)
    variance = (centred * centred).mean(dim=dims, keepdim=True)
    y = centred * torch.rsqrt(variance + call.number("epsilon", 1e-5)) * call[1]
    bias = call.get(2)
    return y if bias is None else y + bias


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def _instance_norm(call: Call) -> Tensor:
    x = call[0]
    dims = tuple(range(2, x.ndim))
    centred = x - x.mean(dim=dims, keepdim=True)
    variance = (centred * centred).mean(dim=dims, keepdim=True)
    y = centred * torch.rsqrt(variance + call.number("epsilon", 1e-5))
    return y * _by_channel(call[1], x) + _by_channel(call[2], x)


def _group_norm(call: Call) -> Tensor:
    x, groups = call[0], call.integer("num_groups", 1)
    parts = x.reshape(x.shape[0], groups, -1)
    centred = parts - parts.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    y = (centred * torch.rsqrt(variance + call.number("epsilon", 1e-5))).reshape(x.shape)
    return y * _by_channel(call[1], x) + _by_channel(call[2], x)


def _batch_norm(call: Call) -> Tensor:
    if call.integer("training_mode", 0):
        call.refuse("it is in training mode")
    x = call[0]
    scale, bias, mean, variance = (_by_channel(call[index], x) for index in (1, 2, 3, 4))
    return (x - mean) * torch.rsqrt(variance + call.number("epsilon", 1e-5)) * scale + bias


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "ArgMax": _extreme,
    "ArgMin": _extreme,
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _log_softmax,
    "Softmax": _softmax,
}
