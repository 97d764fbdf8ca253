"""Fuses a table into the operator that makes the codes it reads."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.program import (
    Binary,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    FullyConnected,
    FusedTable,
    GroupFullyConnected,
    Lookup,
    MatMul,
    Op,
    Program,
    Reshape,
    count_readers,
)


def fuse_tables(program: Program) -> Program:
    """Returns ``program`` with ``Lookup(Op(x))`` as one operator wherever that gives the same codes.

    - Op is a layer or an elementwise operator of two tensors, without a table yet.
    - Its output is read by the table alone and is no output of the model; a Reshape may stand between them.
    """
    readers = count_readers(program)
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if not isinstance(op, Lookup) or readers[op.input] != 1 or op.input not in makers:
            continue
        place = makers[op.input]
        between: list[int] = []
        maker = ops[place]
        while isinstance(maker, Reshape) and readers[maker.input] == 1 and maker.input in makers:
            between.append(place)
            place = makers[maker.input]
            maker = ops[place]
        if (
            not isinstance(
                maker,
                Conv
                | ConvTranspose
                | DepthwiseConv
                | FullyConnected
                | GroupFullyConnected
                | MatMul
                | Binary,
            )
            or maker.table is not None
        ):
            continue
        own, target = tensors[maker.output], tensors[op.output]
        table = FusedTable(op.table, own.scale, own.zero_point)
        del tensors[op.input]
        # The steps from the operator to the table, each with a name of its own, since its codes are others now.
        steps = [place, *reversed(between)]
        read = ""
        for step in steps:
            mover = ops[step]
            assert mover is not None
            output = op.output if step == steps[-1] else f"{mover.output}:table"
            if step != steps[-1]:
                tensors[output] = replace(
                    tensors.pop(mover.output),
                    name=output,
                    scale=target.scale,
                    zero_point=target.zero_point,
                )
            if isinstance(mover, Reshape):
                ops[step] = replace(mover, input=read, output=output)
            else:
                ops[step] = replace(maker, output=output, table=table)
            makers[output], read = step, output
            readers[output] = readers[op.output] if step == steps[-1] else 1
        ops[index] = None
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))
