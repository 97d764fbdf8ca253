"""Lets a concatenation repeat pixels, instead of a resize before it."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.program import Concat, Op, Program, Resize


def fuse_resizes(program: Program) -> Program:
    """Returns ``program`` with ``Concat(..., Resize(x), ...)`` as one operator wherever that gives the same codes.

    - The resize is a nearest one by whole factors: row i of its output is row ``i // factor`` of its input, and so are
      columns.
    - Its output is read by concatenations along the channels alone, and is no output of the model.
    """
    readers: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    sources = {
        op.output: op.input
        for op in program.ops
        if isinstance(op, Resize)
        and _repeats(program, op)
        and op.output not in program.outputs
        and all(isinstance(reader, Concat) and reader.axis == 3 for reader in readers[op.output])
    }
    ops: list[Op] = []
    for op in program.ops:
        if op.output in sources:
            continue
        if isinstance(op, Concat) and not sources.keys().isdisjoint(op.parts):
            op = replace(op, parts=tuple(sources.get(name, name) for name in op.parts))
        ops.append(op)
    tensors = {name: tensor for name, tensor in program.tensors.items() if name not in sources}
    return replace(program, tensors=tensors, ops=tuple(ops))


def _repeats(program: Program, op: Resize) -> bool:
    """Returns whether each pixel fills a rectangle of the output, all of them of one size."""
    if op.row_weights is not None or op.column_weights is not None:
        return False
    x = program.tensors[op.input]
    return all(
        len(places) % size == 0
        and places == tuple(i // (len(places) // size) for i in range(len(places)))
        for places, size in zip((op.rows, op.columns), x.shape[1:3], strict=True)
    )
