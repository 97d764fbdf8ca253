"""Fuses a sum into the convolution that makes one of its operands."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.program import (
    Binary,
    BinaryKind,
    Conv,
    DepthwiseConv,
    Op,
    Program,
    Residual,
    count_readers,
)


def fuse_residual_sums(program: Program) -> Program:
    """Returns ``program`` with ``Add(Conv(x), b)`` as one operator wherever that gives the same codes.

    - The convolution's output is read by the sum alone and is no output of the model.
    - ``b`` and the sum have the convolution's shape: nothing is broadcast.
    - The fused operator runs where the sum ran, so ``b`` exists by then. Where both operands are such convolutions
      the later one takes the sum.
    """
    readers = count_readers(program)
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if not isinstance(op, Binary) or op.binary is not BinaryKind.ADD:
            continue
        candidates = [
            (makers[own], own, other)
            for own, other in ((op.a, op.b), (op.b, op.a))
            if own in makers and readers[own] == 1
        ]
        for maker, own, other in sorted(candidates, reverse=True):
            conv = ops[maker]
            shapes = {tensors[name].shape for name in (own, other, op.output)}
            if not isinstance(conv, Conv | DepthwiseConv) or len(shapes) > 1:
                continue
            if conv.residual is not None:
                continue
            layer = tensors.pop(own)
            ops[index] = replace(
                conv,
                output=op.output,
                lo=op.lo,
                hi=op.hi,
                residual=Residual(other, layer.scale, layer.zero_point, conv.lo, conv.hi),
            )
            ops[maker] = None
            break
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))
