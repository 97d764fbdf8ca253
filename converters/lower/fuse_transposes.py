"""Lets products of codes read their second matrix the other way round, where that was turned for them alone."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.program import MatMul, Op, Program, Transpose, count_readers


def fuse_transposes(program: Program) -> Program:
    """Returns ``program`` with ``MatMul(a, Transpose(x))`` reading ``x`` with fewer bytes out of order.

    A Transpose that ends by changing the last two dimensions leaves them alone, and the product is transposed; one that
    did nothing else is gone. Rows of the matrix are then moved as they are, and packed without being turned.
    """
    readers = count_readers(program)
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if not isinstance(op, MatMul) or op.b not in makers or readers[op.b] != 1:
            continue
        place = makers[op.b]
        turn = ops[place]
        if not isinstance(turn, Transpose):
            continue
        order = turn.permutation
        swapped = (*order[:-2], order[-1], order[-2])
        if swapped[-1] != len(order) - 1:
            continue
        turned = tensors.pop(op.b)
        if swapped == tuple(range(len(order))):
            ops[place] = None
            ops[index] = replace(op, b=turn.input, transposed=not op.transposed)
            continue
        shape = (*turned.shape[:-2], turned.shape[-1], turned.shape[-2])
        tensors[f"{op.b}:rows"] = replace(turned, name=f"{op.b}:rows", shape=shape)
        ops[place] = replace(turn, output=f"{op.b}:rows", permutation=swapped)
        ops[index] = replace(op, b=f"{op.b}:rows", transposed=not op.transposed)
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))
