"""What moves, picks and repeats elements, and what makes tensors of sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as nn
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator


def _reshape(call: Call) -> Tensor:
    x, wanted = call[0], call.whole_numbers(1) or []
    if not call.integer("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(tuple(wanted))


def _flatten(call: Call) -> Tensor:
    x, axis = call[0], call.integer("axis", 1)
    first = axis + x.ndim if axis < 0 else axis
    rows = 1
    for size in x.shape[:first]:
        rows *= size
    return x.reshape(rows, -1) if rows else x.reshape(0, x[0:1].numel())


def _transpose(call: Call) -> Tensor:
    x = call[0]
    return x.permute(call.integers("perm") or list(reversed(range(x.ndim))))


def _squeeze(call: Call) -> Tensor:
    x, axes = call[0], call.axes()
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axis % x.ndim for axis in axes))


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call[0], call.axes() or []
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _concat(call: Call) -> Tensor:
    return torch.cat([call[i] for i in range(len(call.inputs))], dim=call.integer("axis", 0))


def _split(call: Call) -> tuple[Tensor, ...]:
    x, axis = call[0], call.integer("axis", 0)
    sizes = call.axes("split")
    if sizes is None:
        count = len(call.node.outputs)
        step = -(-x.shape[axis] // count)
        sizes = [min(step, max(x.shape[axis] - i * step, 0)) for i in range(count)]
    return tuple(torch.split(x, sizes, dim=axis))


def _slice(call: Call) -> Tensor:
    x = call[0]
    starts, ends = call.axes("starts", 1) or [], call.axes("ends", 2) or []
    axes = call.axes("axes", 3) or list(range(len(starts)))
    steps = call.whole_numbers(4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places = range(x.shape[axis])[slice(start, end if end >= -x.shape[axis] else None, step)]
        if end < -x.shape[axis] and step > 0:
            places = range(0)
        if step == 1:
            x = x.narrow(axis, places.start if len(places) else 0, len(places))
        else:
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


_PADS = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


def _pad(call: Call) -> Tensor:
    x, mode = call[0], call.text("mode", "constant")
    pads = call.axes("pads", 1) or []
    axes = call.whole_numbers(3) or list(range(x.ndim))
    sizes = [(0, 0)] * x.ndim
    for index, axis in enumerate(axes):
        sizes[axis % x.ndim] = (pads[index], pads[len(axes) + index])
    if mode == "constant":
        fill = call.get(2)
        value = 0.0 if fill is None or not fill.numel() else fill.reshape(-1)[0].item()
        return nn.pad(x, [n for pair in reversed(sizes) for n in pair], value=value)
    if mode not in _PADS:
        call.refuse(f"it pads in mode {mode!r}")
    for axis, (before, behind) in enumerate(sizes):
        if before or behind:
            x = x.index_select(axis, _border(mode, x.shape[axis], before, behind))
    return x


def _border(mode: str, size: int, before: int, behind: int) -> Tensor:
    """Returns which element stands at each place of a dimension with borders."""
    places = torch.arange(-before, size + behind)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    inside = places % period
    return torch.minimum(inside, period - inside)


def _gather(call: Call) -> Tensor:
    x, places, axis = call[0], call[1], call.integer("axis", 0)
    axis %= x.ndim
    places = places.to(torch.int64)
    places = torch.where(places < 0, places + x.shape[axis], places)
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return nn.embedding(places, x)
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _gather_elements(call: Call) -> Tensor:
    x, places, axis = call[0], call[1].to(torch.int64), call.integer("axis", 0)
    return torch.gather(x, axis, torch.where(places < 0, places + x.shape[axis], places))


def _gather_nd(call: Call) -> Tensor:
    x, places, batch = call[0], call[1].to(torch.int64), call.integer("batch_dims", 0)
    depth = places.shape[-1]
    outer = x.shape[:batch]
    flat_x = x.reshape(-1, *x.shape[batch:])
    flat = places.reshape(flat_x.shape[0], -1, depth)
    rows = [
        part[tuple(torch.where(i < 0, i + n, i) for i, n in zip(index.T, part.shape, strict=False))]
        for part, index in zip(flat_x, flat, strict=True)
    ]
    return torch.stack(rows).reshape((*outer, *places.shape[batch:-1], *x.shape[batch + depth :]))


def _expand(call: Call) -> Tensor:
    x, wanted = call[0], call.whole_numbers(1) or []
    return x.expand(torch.broadcast_shapes(x.shape, tuple(wanted)))


def _tile(call: Call) -> Tensor:
    return call[0].repeat(call.whole_numbers(1) or [])


def _depth_to_space(call: Call) -> Tensor:
    x, block = call[0], call.integer("blocksize", 1)
    n, c, h, w = x.shape
    if call.text("mode", "DCR") == "DCR":
        parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // block**2, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(call: Call) -> Tensor:
    x, block = call[0], call.integer("blocksize", 1)
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def _shape(call: Call) -> Tensor:
    sizes = list(call[0].shape)
    end = call.integer("end", len(sizes))
    return torch.tensor(sizes[call.integer("start", 0) : end], dtype=torch.int64)


def _size(call: Call) -> Tensor:
    return torch.tensor(call[0].numel(), dtype=torch.int64)


def _identity(call: Call) -> Tensor:
    return call[0]


def _dropout(call: Call) -> Tensor:
    training = call.get(2)
    if training is not None and bool(training.any()):
        call.refuse("it drops elements at random, as in training")
    return call[0]


def _constant_of_shape(call: Call) -> Tensor:
    found = call.node.attributes.get("value")
    value = torch.zeros(1) if found is None else torch.from_numpy(found.as_tensor().numpy().copy())
    return value.reshape(()).expand(call.whole_numbers(0) or []).clone()


def _range(call: Call) -> Tensor:
    start, limit, step = (call[index] for index in range(3))
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _one_hot(call: Call) -> Tensor:
    places, values = call[0].to(torch.int64), call[2]
    depth = int(call[1].reshape(-1)[0])
    places = torch.where(places < 0, places + depth, places)
    hot = places.unsqueeze(-1) == torch.arange(depth)
    axis = call.integer("axis", -1)
    return torch.where(hot.movedim(-1, axis), values[1], values[0])


OPERATORS: dict[str, Operator] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Identity": _identity,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
