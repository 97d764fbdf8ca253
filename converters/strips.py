"""Chooses which convolutions run together in strips of rows, so that what lies between them stays in cache.

An inverted residual block widens its tensor before a depthwise convolution and narrows it behind. Strip by strip, only
some rows of the wide tensors exist at a time, in scratch; that saves their place in the arena, and their way to memory
and back where they do not fit the cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.converters.program import Conv, DepthwiseConv, DType, Op, Program, Tensor, Window

# What a strip's rows may take of the level 2 cache; the weights, the input and the output want the rest.
_SHARE_OF_CACHE = 4
# Strips that there are at least, for threads to share them evenly.
_STRIPS = 8


@dataclass(frozen=True)
class Strips:
    """A chain of operators that runs in strips.

    Attributes:
        first_op: Index of its first operator in the program.
        op_count: Number of operators, one after another.
        rows: Rows of the last one's output that make a strip.
    """

    first_op: int
    op_count: int
    rows: int

    def inner(self, program: Program) -> tuple[str, ...]:
        """Returns the tensors of which only some rows exist at a time."""
        ops = program.ops[self.first_op : self.first_op + self.op_count - 1]
        return tuple(op.output for op in ops)


def choose_strips(program: Program, cache_bytes: int | None) -> tuple[Strips, ...]:
    """Returns the chains around depthwise convolutions whose inner tensors exceed a level 2 cache.

    - A chain is a depthwise convolution with the dense convolution before it, the 1x1 convolution behind it, or both.
    - What lies between its operators is read by the next one alone, every row of it.
    - Measured, strips gain nothing while the inner tensors fit the cache, and 1.3 to 1.5 times the speed at several
      times its size; so the cache decides.

    Args:
        program: The lowered network.
        cache_bytes: Level 2 cache of a core; None, where it is not known, chooses no strips.
    """
    if cache_bytes is None:
        return ()
    readers = Counter(name for op in program.ops for name in op.inputs)
    readers.update(program.outputs)
    chosen: list[Strips] = []
    end = 0
    for index, op in enumerate(program.ops):
        if not isinstance(op, DepthwiseConv):
            continue
        first = last = index
        if index - 1 >= end and _feeds(program, readers, index - 1):
            first = index - 1
        if _feeds(program, readers, index) and _is_pointwise(program.ops[index + 1]):
            last = index + 1
        chain = program.ops[first : last + 1]
        inner = [program.tensors[step.output] for step in chain[:-1]]
        if sum(tensor.nbytes for tensor in inner) <= cache_bytes:
            continue
        rows = _choose_rows(program, chain, cache_bytes // _SHARE_OF_CACHE)
        chosen.append(Strips(first, last - first + 1, rows))
        end = last + 1
    return tuple(chosen)


def _feeds(program: Program, readers: Counter[str], index: int) -> bool:
    """Returns whether the operator at ``index`` and the next one can be neighbours in a chain."""
    if index + 1 >= len(program.ops):
        return False
    op, reader = program.ops[index], program.ops[index + 1]
    if not isinstance(op, Conv | DepthwiseConv) or not isinstance(reader, Conv | DepthwiseConv):
        return False
    output = program.tensors[op.output]
    alone = reader.input == op.output and readers[op.output] == 1 and output.dtype is DType.CODE
    return alone and _reaches_all_rows(reader.window, output, program.tensors[reader.output])


def _reaches_all_rows(window: Window, source: Tensor, result: Tensor) -> bool:
    """Returns whether the windows, in a column, cover every row of ``source``."""
    extent = _reached_rows(window, 1)
    end = _reached_rows(window, result.shape[1]) - window.pad_top
    return (window.stride_h <= extent or result.shape[1] == 1) and end >= source.shape[1]


def _is_pointwise(op: Op) -> bool:
    return isinstance(op, Conv) and op.groups == 1 and op.window == Window()


def _choose_rows(program: Program, chain: Sequence[Op], budget: int) -> int:
    """Returns the most rows of the last output whose inner rows fit ``budget``, at least one."""
    height = program.tensors[chain[-1].output].shape[1]
    rows = max(1, height // _STRIPS)
    while rows > 1 and strip_bytes(program, chain, rows) > budget:
        rows -= 1
    return rows


def strip_bytes(program: Program, chain: Sequence[Op], rows: int) -> int:
    """Returns the bytes of the inner rows under ``rows`` rows of the chain's output."""
    total = 0
    for op, reader in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
        assert isinstance(reader, Conv | DepthwiseConv)
        tensor = program.tensors[op.output]
        rows = min(tensor.shape[1], _reached_rows(reader.window, rows))
        total += rows * _row_bytes(tensor)
    return total


def _reached_rows(window: Window, rows: int) -> int:
    return (rows - 1) * window.stride_h + (window.kernel_h - 1) * window.dilation_h + 1


def _row_bytes(tensor: Tensor) -> int:
    return tensor.nbytes // (tensor.shape[0] * tensor.shape[1])
