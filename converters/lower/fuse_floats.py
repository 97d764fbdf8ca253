"""Fuses clamps and sums of float32 into the operators before them, and writes outputs where they belong."""

from __future__ import annotations

import math
from dataclasses import replace

from edgekit.converters.float_program import (
    FloatBinary,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFunction,
    FloatLayer,
    FloatOperator,
    FloatUnary,
)
from edgekit.converters.program import DType, Op, Program, Reshape, count_readers


def fuse_floats(program: Program) -> Program:
    """Returns ``program`` with fewer operators that give the same bytes.

    Rules, where nothing else reads what lies between:
        ``Clip(P(...))`` -> ``P(...)`` within the bounds, P a layer or a FloatBinary without bounds;
        ``FloatAdd(Conv(x), b)`` -> ``Conv(x) + b``, P a convolution without bounds, shapes equal;
        ``output = Reshape(P(...))`` of the same shape -> ``output = P(...)``.
    """
    for rule in (_fuse_sums, _fuse_clips, _write_outputs):
        program = rule(program)
    return program


def _is_open(op: FloatLayer | FloatConvTranspose | FloatBinary) -> bool:
    return op.lo == -math.inf and op.hi == math.inf


def _finish(program: Program, ops: list[Op | None], gone: set[str]) -> Program:
    tensors = {name: tensor for name, tensor in program.tensors.items() if name not in gone}
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))


def _fuse_sums(program: Program) -> Program:
    readers, gone = count_readers(program), set[str]()
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    for index, op in enumerate(program.ops):
        if not isinstance(op, FloatBinary) or op.operator is not FloatOperator.ADD:
            continue
        candidates = [
            (makers[own], own, other)
            for own, other in ((op.a, op.b), (op.b, op.a))
            if own in makers and readers[own] == 1
        ]
        for maker, own, other in sorted(candidates, reverse=True):
            conv = ops[maker]
            shapes = {program.tensors[name].shape for name in (own, other, op.output)}
            if (
                isinstance(conv, FloatConv | FloatDepthwiseConv)
                and len(shapes) == 1
                and conv.residual is None
                and _is_open(conv)
            ):
                ops[index] = replace(conv, output=op.output, lo=op.lo, hi=op.hi, residual=other)
                ops[maker] = None
                gone.add(own)
                break
    return _finish(program, ops, gone)


def _fuse_clips(program: Program) -> Program:
    readers, gone = count_readers(program), set[str]()
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    for index, op in enumerate(program.ops):
        if not isinstance(op, FloatUnary) or op.function is not FloatFunction.CLIP:
            continue
        maker = makers.get(op.input)
        source = None if maker is None else ops[maker]
        if (
            maker is not None
            and isinstance(source, FloatLayer | FloatConvTranspose | FloatBinary)
            and readers[op.input] == 1
            and _is_open(source)
        ):
            ops[index] = replace(source, output=op.output, lo=op.alpha, hi=op.beta)
            ops[maker] = None
            gone.add(op.input)
    return _finish(program, ops, gone)


def _write_outputs(program: Program) -> Program:
    readers, gone = count_readers(program), set[str]()
    makers = {op.output: index for index, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    for index, op in enumerate(program.ops):
        if not isinstance(op, Reshape) or op.output not in program.outputs:
            continue
        x, y = program.tensors[op.input], program.tensors[op.output]
        maker = makers.get(op.input)
        if (
            maker is None
            or readers[op.input] != 1
            or x.dtype is DType.CODE
            or x.shape != y.shape
            or op.input in program.outputs
        ):
            continue
        source = ops[maker]
        assert source is not None
        ops[maker] = replace(source, output=op.output)
        ops[index] = None
        gone.add(op.input)
    return _finish(program, ops, gone)
