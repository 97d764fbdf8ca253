"""Chooses which convolutions run together in strips of rows, so that what lies between them stays in cache.

An inverted residual block widens its tensor before a depthwise convolution and narrows it behind. Strip by strip, only
some rows of the wide tensors exist at a time, in scratch; that saves their place in the arena, and their way to memory
and back where they do not fit the cache. Between layers whose codes come in parts, values are four times as wide as
codes, and parts two or three times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.converters.float_program import FloatConv, FloatDepthwiseConv
from edgekit.converters.part_program import QuantizeParts
from edgekit.converters.program import Conv, DepthwiseConv, DType, Op, Program, Tensor, Window

# What a strip's rows may take of the level 2 cache; the weights, the input and the output want the rest.
_SHARE_OF_CACHE = 4
# Strips that there are at least, for threads to share them evenly.
_STRIPS = 8
# Operators of a chain, at most: Strips::kMaxOps of csrc/ops/strips.h.
_MOST_OPS = 8

_Step = Conv | DepthwiseConv | FloatConv | FloatDepthwiseConv | QuantizeParts


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

    - A chain is a depthwise convolution with the dense convolution before it, the 1x1 convolution behind it, or both,
      and with the codes in parts that these are read in; or several such chains, one behind the other.
    - What lies between its operators is read by the next one alone, every row of it.
    - Measured, strips gain nothing while the inner tensors fit the cache, and 1.3 to 1.5 times the speed at several
      times its size; so the cache decides.

    Args:
        program: The lowered network.
        cache_bytes: Level 2 cache of a core; None, where it is not known, chooses no strips.
    """
    if cache_bytes is None:
        return ()
    chosen: list[Strips] = []
    for first, last in _find_chains(program):
        chain = program.ops[first : last + 1]
        inner = [program.tensors[step.output] for step in chain[:-1]]
        if sum(tensor.nbytes for tensor in inner) <= cache_bytes:
            continue
        rows = _choose_rows(program, chain, cache_bytes // _SHARE_OF_CACHE)
        chosen.append(Strips(first, last - first + 1, rows))
    return tuple(chosen)


def _find_chains(program: Program) -> list[tuple[int, int]]:
    """Returns the first and the last operator of each chain that could run in strips."""
    readers = Counter(name for op in program.ops for name in op.inputs)
    readers.update(program.outputs)
    chains: list[tuple[int, int]] = []
    end = 0
    for index, op in enumerate(program.ops):
        if index < end or not isinstance(op, DepthwiseConv | FloatDepthwiseConv):
            continue
        first = last = index
        for kinds in ((Conv, FloatConv), (QuantizeParts,)):
            if first - 1 < end or not _feeds(program, readers, first - 1):
                break
            if isinstance(program.ops[first - 1], kinds):
                first -= 1
        while _feeds(program, readers, last):
            reader = program.ops[last + 1]
            if isinstance(reader, QuantizeParts):
                last += 1
            elif _is_pointwise(reader):
                last += 1
                break
            else:
                break
        while last > index and isinstance(program.ops[last], QuantizeParts):
            last -= 1
        end = last + 1
        chains.append((first, last))
    return _join(program, readers, chains)


def _join(
    program: Program, readers: Counter[str], chains: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Returns chains that float32 or its parts lead from one to the next as one, as far as it may be long."""
    joined: list[tuple[int, int]] = []
    for first, last in chains:
        if joined:
            begin, end = joined[-1]
            wide = program.tensors[program.ops[end].output].dtype is DType.FLOAT32
            short = last - begin < _MOST_OPS
            if end + 1 == first and wide and short and _feeds(program, readers, end):
                joined[-1] = (begin, last)
                continue
        joined.append((first, last))
    return [(first, last) for first, last in joined if first != last]


def _feeds(program: Program, readers: Counter[str], index: int) -> bool:
    """Returns whether the operator at ``index`` and the next one can be neighbours in a chain."""
    if index + 1 >= len(program.ops):
        return False
    op, reader = program.ops[index], program.ops[index + 1]
    if not _is_step(program, op) or not _is_step(program, reader):
        return False
    output = program.tensors[op.output]
    alone = op.output in reader.inputs[:1] and readers[op.output] == 1
    return alone and _reaches_all_rows(_window(reader), output, program.tensors[reader.output])


def _is_step(program: Program, op: Op) -> bool:
    """Returns whether ``op`` can compute rows of images by themselves."""
    if isinstance(op, QuantizeParts):
        return op.axis == 3 and len(program.tensors[op.output].shape) == 4
    if isinstance(op, FloatConv):
        return op.window != Window()
    return isinstance(op, _Step)


def _window(op: Op) -> Window:
    """Returns how a step reads the rows of its input."""
    assert isinstance(op, _Step)
    return Window() if isinstance(op, QuantizeParts) else op.window


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
        tensor = program.tensors[op.output]
        rows = min(tensor.shape[1], _reached_rows(_window(reader), rows))
        total += rows * _row_bytes(tensor)
    return total


def _reached_rows(window: Window, rows: int) -> int:
    return (rows - 1) * window.stride_h + (window.kernel_h - 1) * window.dilation_h + 1


def _row_bytes(tensor: Tensor) -> int:
    return tensor.nbytes // (tensor.shape[0] * tensor.shape[1])
