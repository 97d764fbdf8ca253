"""Chooses which tensors lie inside others, so that concatenations and slices move nothing.

A concatenation's inputs are written where they belong in its output; a slice is read where it lies in its input. What
is cut along channels has gaps between its pixels, which not every operator can write or read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edgekit.converters.program import Concat, Conv, Op, Program, Reshape, Slice, Tensor

# A convolution of so few channels may get a kernel that takes no gaps (csrc/kernels/shallow).
_SHALLOW_CHANNELS = 4


@dataclass(frozen=True)
class Part:
    """Where a tensor lies in another one's memory.

    Attributes:
        parent: The tensor, which is itself part of none.
        offset: Bytes from the parent's first element.
        pixel_stride: Bytes from one run of the last dimension to the next, 0 where there are no gaps.
    """

    parent: str
    offset: int
    pixel_stride: int


def choose_parts(program: Program, excluded: Collection[str] = ()) -> dict[str, Part]:
    """Returns the tensors that lie in others, by name.

    - An input of a Concat with the output's scale and zero point: along the first dimension that is not 1 wherever it
      was made; along the last one if a convolution or a concatenation makes it, and all who read it can skip gaps.
    - The output of a Slice with steps of 1, likewise.
    - None that a Reshape reads or writes: that one needs memory of the same extent.

    Args:
        program: The lowered network.
        excluded: Tensors that have no place of their own in the arena.
    """
    outside = {*program.inputs, *program.outputs, *program.constants, *excluded}
    makers = {op.output: op for op in program.ops}
    readers: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    reshaped = {
        name for op in program.ops if isinstance(op, Reshape) for name in (op.input, op.output)
    }
    fixed = outside | reshaped
    parts: dict[str, Part] = {}
    # From the last one backwards, so that a concatenation of concatenations is one tensor.
    for op in reversed(program.ops):
        if isinstance(op, Concat) and op.output not in outside:
            for name, offset in _places(program, op):
                stride = _concat_stride(program, op, name)
                if name in fixed or name in parts or name not in makers or stride is None:
                    continue
                if stride and not (
                    _skips_when_writing(program, makers[name])
                    and _all_skip(program, readers[name], op)
                ):
                    continue
                part = _inside(
                    program.tensors[name], parts.get(op.output), op.output, offset, stride
                )
                if part is not None:
                    parts[name] = part
    for op in program.ops:
        if not isinstance(op, Slice) or op.output in fixed or op.output in parts:
            continue
        if op.input in outside or op.input in parts:
            continue
        place = _slice_place(program, op)
        if place is None:
            continue
        offset, stride = place
        if stride and not _all_skip(program, readers.get(op.output, []), None):
            continue
        parts[op.output] = Part(op.input, offset, stride)
    return _without_chains(parts)


def _places(program: Program, op: Concat) -> list[tuple[str, int]]:
    """Returns each input that is given once, with the bytes before it in a run of the output along the axis."""
    places, offset = [], 0
    for name in op.parts:
        tensor = program.tensors[name]
        if op.parts.count(name) == 1:
            places.append((name, offset))
        offset += math.prod(tensor.shape[op.axis :]) * tensor.dtype.numpy.itemsize
    return places


def _concat_stride(program: Program, op: Concat, name: str) -> int | None:
    """Returns the pixel stride that an input would have inside the output, None where it can't lie there."""
    source, result = program.tensors[name], program.tensors[op.output]
    if (source.dtype, source.scale, source.zero_point, source.shape[: op.axis]) != (
        result.dtype,
        result.scale,
        result.zero_point,
        result.shape[: op.axis],
    ):
        return None
    if math.prod(result.shape[: op.axis]) == 1:
        return 0
    return _pixel(result) if op.axis == len(result.shape) - 1 else None


def _slice_place(program: Program, op: Slice) -> tuple[int, int] | None:
    """Returns offset and pixel stride of a slice in its input, None where it has other gaps."""
    source, result = program.tensors[op.input], program.tensors[op.output]
    if any(step != 1 for step, size in zip(op.step, result.shape, strict=True) if size > 1):
        return None
    cut = [i for i, size in enumerate(result.shape) if size != source.shape[i]]
    itemsize = source.dtype.numpy.itemsize
    steps = [math.prod(source.shape[i + 1 :]) * itemsize for i in range(len(source.shape))]
    offset = sum(begin * step for begin, step in zip(op.begin, steps, strict=True))
    if not cut or math.prod(result.shape[: cut[-1]]) == 1:
        return offset, 0
    return (offset, _pixel(source)) if cut == [len(source.shape) - 1] else None


def _pixel(tensor: Tensor) -> int:
    return tensor.shape[-1] * tensor.dtype.numpy.itemsize


def _inside(
    tensor: Tensor, outer: Part | None, parent: str, offset: int, stride: int
) -> Part | None:
    """Returns the place of ``tensor`` in ``parent``, which lies at ``outer`` in another one if that is not None."""
    if outer is None:
        return Part(parent, offset, stride)
    if outer.pixel_stride and not stride and math.prod(tensor.shape[:-1]) > 1:
        return None
    if outer.pixel_stride and stride:
        stride = outer.pixel_stride
    return Part(outer.parent, outer.offset + offset, stride)


def _without_chains(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Drops parts of what is itself a part."""
    return {name: part for name, part in parts.items() if part.parent not in parts}


def _skips_when_writing(program: Program, op: Op) -> bool:
    """Returns whether an operator can leave gaps between the pixels that it writes."""
    if isinstance(op, Concat):
        return op.axis == len(program.tensors[op.output].shape) - 1
    return isinstance(op, Conv) and op.weights.shape[3] > _SHALLOW_CHANNELS


def _all_skip(program: Program, ops: Collection[Op], concat: Concat | None) -> bool:
    """Returns whether all of ``ops`` can read pixels with gaps between them, the part's own concatenation aside."""
    return all(op is concat or _skips_when_reading(program, op) for op in ops)


def _skips_when_reading(program: Program, op: Op) -> bool:
    if isinstance(op, Concat):
        return op.axis == len(program.tensors[op.output].shape) - 1
    return isinstance(op, Conv) and op.weights.shape[3] > _SHALLOW_CHANNELS and op.residual is None
