"""Lets operators that join images repeat the pixels of a small one, instead of a resize before them."""

from __future__ import annotations

from dataclasses import replace

from edgekit.converters.program import Binary, BinaryKind, Concat, Op, Program, Resize


def fuse_resizes(program: Program) -> Program:
    """Returns ``program`` with ``Op(Resize(x), ...)`` as one operator wherever that gives the same codes.

    - The resize is a nearest one by whole factors: row i of its output is row ``i // factor`` of its input, and so are
      columns.
    - All that read its output are concatenations along the channels, or elementwise operators of two images of that
      very shape, the other one of which is no such resize; it becomes their second operand.
    - Its output is no output of the model.
    """
    readers: dict[str, list[Op]] = {}
    for op in program.ops:
        for name in op.inputs:
            readers.setdefault(name, []).append(op)
    sources = {
        op.output: op.input
        for op in program.ops
        if isinstance(op, Resize) and op.output not in program.outputs and _repeats(program, op)
    }
    fused = {
        name: source
        for name, source in sources.items()
        if all(_takes(program, op, name, sources) for op in readers.get(name, []))
    }
    ops: list[Op] = []
    for op in program.ops:
        if op.output in fused:
            continue
        if isinstance(op, Concat) and not fused.keys().isdisjoint(op.parts):
            op = replace(op, parts=tuple(fused.get(name, name) for name in op.parts))
        elif isinstance(op, Binary) and op.b in fused:
            op = replace(op, b=fused[op.b])
        elif isinstance(op, Binary) and op.a in fused:
            op = replace(op, a=op.b, b=fused[op.a])
        ops.append(op)
    tensors = {name: tensor for name, tensor in program.tensors.items() if name not in fused}
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


def _takes(program: Program, op: Op, name: str, sources: dict[str, str]) -> bool:
    """Returns whether ``op`` can repeat the pixels of what was resized to ``name``."""
    if isinstance(op, Concat):
        return op.axis == 3
    if not isinstance(op, Binary) or (op.binary is BinaryKind.SUB and op.b != name):
        return False
    other = op.a if op.b == name else op.b
    shapes = {program.tensors[tensor].shape for tensor in (name, other, op.output)}
    return other not in sources and len(shapes) == 1
