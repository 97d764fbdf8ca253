"""Lays a program's tensors out in one arena, before anything runs.

A tensor lives from the operator that writes it to the last one that reads it. Two tensors that live at the same
time never overlap, except that an operator may write over an input that nobody reads again:

- Reshape: the output is the input's memory, always; neither is written again while the other lives.
- Elementwise operators and those that norm a row by all of it: the output takes the memory of an input of its shape
  that dies there.

A chain in strips (see strips.py) writes its output while it still reads: all that it reads and writes lives until its
last operator, and what lies between its operators has no place in the arena.

A tensor that lies inside another (see parts.py) has that one's memory, which lives as long as any of its parts.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.converters.float_program import (
    FloatBinary,
    FloatLayerNorm,
    FloatSoftmax,
    FloatUnary,
)
from edgekit.converters.parts import Part, choose_parts
from edgekit.converters.program import Binary, Lookup, Op, Program, Requantize, Reshape, Softmax
from edgekit.converters.strips import Strips

ALIGNMENT = 64
READABLE_BEHIND = 64

_OVERWRITES = (
    Binary,
    FloatBinary,
    FloatLayerNorm,
    FloatSoftmax,
    FloatUnary,
    Lookup,
    Requantize,
    Softmax,
)
_SEARCH_STEPS = 64


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a program lie.

    Attributes:
        offsets: First byte of each tensor of the arena, multiples of 64 but for parts. The model's own inputs and
            outputs are not in the arena.
        parts: The tensors that lie inside others.
        arena_size: Bytes, with 64 readable ones behind every tensor; a multiple of 64.
        lower_bound: The most bytes alive at once, which no layout of this order of operators can beat.
    """

    offsets: Mapping[str, int]
    arena_size: int
    lower_bound: int
    parts: Mapping[str, Part] = field(default_factory=dict)


@dataclass
class _Buffer:
    """Memory shared by tensors that may share it; alive in operators ``first`` to ``last``, both included."""

    names: list[str]
    size: int
    first: int
    last: int

    @property
    def padded(self) -> int:
        return -(-self.size // ALIGNMENT) * ALIGNMENT


def plan_memory(program: Program, strips: Sequence[Strips] = ()) -> Layout:
    """Returns a layout of every tensor that is not an input or output of the model, a constant or in strips.

    Greedy by size into the tightest gap, under several orders, then a short deterministic search that places
    first what ended up highest. The best arena wins.
    """
    excluded = {name for chain in strips for name in chain.inner(program)}
    parts = choose_parts(program, excluded)
    buffers = _buffers(program, strips, parts)
    bound = _most_alive(buffers, len(program.ops))
    # A joined tensor lives from its first part on, which can cost more than moving the others into it.
    for parent in sorted({part.parent for part in parts.values()}):
        fewer = {name: part for name, part in parts.items() if part.parent != parent}
        less = _most_alive(_buffers(program, strips, fewer), len(program.ops))
        if less < bound:
            parts, bound = fewer, less
    buffers = _buffers(program, strips, parts)
    sizes = [buffer.padded for buffer in buffers]
    neighbours = _find_neighbours(buffers)
    best: tuple[int, list[int]] | None = None
    for key in _ORDERS:
        order = sorted(range(len(buffers)), key=lambda index, key=key: key(buffers[index]))  # type: ignore[misc]
        for _ in range(_SEARCH_STEPS):
            offsets = _place(sizes, neighbours, order)
            size = max((offsets[i] + sizes[i] for i in order), default=0)
            if best is None or size < best[0]:
                best = (size, offsets)
            if size - bound < ALIGNMENT:
                break
            top = max(order, key=lambda i: offsets[i] + sizes[i])
            if order[0] == top:
                break
            order = [top, *(index for index in order if index != top)]
    size, offsets = best if best is not None else (0, [])
    named = {
        name: offset
        for buffer, offset in zip(buffers, offsets, strict=True)
        for name in buffer.names
    }
    for name, part in parts.items():
        named[name] = named[part.parent] + part.offset
    return Layout(named, size + READABLE_BEHIND, bound, parts)


def _buffers(
    program: Program, strips: Sequence[Strips], parts: Mapping[str, Part]
) -> list[_Buffer]:
    """Groups the arena's tensors into buffers, in the order of execution."""
    outside = {*program.inputs, *program.outputs}
    begin = list(range(len(program.ops)))
    end = begin.copy()
    for chain in strips:
        stop = chain.first_op + chain.op_count
        outside.update(chain.inner(program))
        begin[chain.first_op : stop] = [chain.first_op] * chain.op_count
        end[chain.first_op : stop] = [stop - 1] * chain.op_count
    last_read = {op.output: end[index] for index, op in enumerate(program.ops)}
    for index, op in enumerate(program.ops):
        for name in op.inputs:
            last_read[name] = end[index]
    home: dict[str, _Buffer] = {}
    buffers: list[_Buffer] = []
    for index, op in enumerate(program.ops):
        if op.output in outside:
            continue
        memory = parts[op.output].parent if op.output in parts else op.output
        buffer = home.get(memory)
        if buffer is None and op.output not in parts:
            buffer = _shared(program, op, index, home, parts)
        if buffer is None:
            size = program.tensors[memory].nbytes
            buffer = _Buffer([], size, begin[index], end[index])
            buffers.append(buffer)
            home[memory] = buffer
        if op.output not in parts:
            buffer.names.append(op.output)
        buffer.last = max(buffer.last, last_read[op.output])
        home[op.output] = buffer
    return buffers


def _shared(
    program: Program,
    op: Op,
    index: int,
    home: Mapping[str, _Buffer],
    parts: Mapping[str, Part],
) -> _Buffer | None:
    """Returns the buffer of an input that the output of ``op`` may use, or None."""
    if isinstance(op, Reshape):
        return home.get(op.input)
    if not isinstance(op, _OVERWRITES):
        return None
    shape = program.tensors[op.output].shape
    for name in op.inputs:
        buffer = home.get(name)
        if buffer is None or buffer.last > index or program.tensors[name].shape != shape:
            continue
        if name in parts:
            continue
        others = [other for other in op.inputs if home.get(other) is buffer]
        if all(program.tensors[other].shape == shape for other in others):
            return buffer
    return None


def _most_alive(buffers: Sequence[_Buffer], steps: int) -> int:
    """Returns the largest number of bytes that one operator finds alive."""
    change = [0] * (steps + 1)
    for buffer in buffers:
        change[buffer.first] += buffer.size
        change[buffer.last + 1] -= buffer.size
    most = alive = 0
    for amount in change:
        alive += amount
        most = max(most, alive)
    return most


def _find_neighbours(buffers: Sequence[_Buffer]) -> list[set[int]]:
    """Returns for each buffer which others live at the same time."""
    return [
        {
            other
            for other, its in enumerate(buffers)
            if its.first <= buffer.last and buffer.first <= its.last
        }
        for buffer in buffers
    ]


def _place(
    sizes: Sequence[int], neighbours: Sequence[Collection[int]], order: Sequence[int]
) -> list[int]:
    """Places each buffer, in ``order``, in the tightest gap between those that live at the same time."""
    offsets = [0] * len(sizes)
    # Begin, end and buffer, by the begin.
    placed: list[tuple[int, int, int]] = []
    for index in order:
        near, size = neighbours[index], sizes[index]
        end, best_gap, best_offset = 0, None, None
        for begin, stop, other in placed:
            if other not in near:
                continue
            gap = begin - end
            if gap >= size and (best_gap is None or gap < best_gap):
                best_gap, best_offset = gap, end
            if stop > end:
                end = stop
        offset = end if best_offset is None else best_offset
        offsets[index] = offset
        insort(placed, (offset, offset + size, index))
    return offsets


_ORDERS: tuple[Callable[[_Buffer], tuple[int, ...]], ...] = (
    lambda buffer: (-buffer.size, buffer.first),
    lambda buffer: (-buffer.size * (buffer.last - buffer.first + 1), buffer.first),
    lambda buffer: (-(buffer.last - buffer.first), -buffer.size, buffer.first),
    lambda buffer: (buffer.first, -buffer.size),
)
