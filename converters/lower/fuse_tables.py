"""Fuses a table into the operator that makes the codes it reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from edgekit.converters.program import (
    Binary,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    FullyConnected,
    FusedTable,
    Lookup,
    Op,
    Program,
)


def fuse_tables(program: Program) -> Program:
    """Returns ``program`` with ``Lookup(Op(x))`` as one operator wherever that gives the same codes.

    - Op is a layer or an elementwise operator of two tensors, without a table yet.
    - Its output is read by the table alone and is no output of the model.
    """
    readers = Counter(name for op in program.ops for name in op.inputs)
    readers.update(program.outputs)
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if not isinstance(op, Lookup) or readers[op.input] != 1 or op.input not in makers:
            continue
        maker = ops[makers[op.input]]
        if (
            not isinstance(maker, Conv | ConvTranspose | DepthwiseConv | FullyConnected | Binary)
            or maker.table is not None
        ):
            continue
        own = tensors.pop(op.input)
        table = FusedTable(op.table, own.scale, own.zero_point)
        ops[makers[op.input]] = replace(maker, output=op.output, table=table)
        ops[index] = None
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))
