"""Leaves out float32 tensors behind layers on codes that only become codes again, and clamps that codes make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFunction,
    FloatOperator,
    FloatUnary,
)
from edgekit.converters.part_program import PARTS_OF_A_CODE, QuantizeParts
from edgekit.converters.program import (
    MAX_CODE,
    MIN_CODE,
    Conv,
    DType,
    FullyConnected,
    Op,
    Program,
    Quantize,
    Residual,
    count_readers,
)

_NO_RESIDUAL_GRID = (np.float32(1), 0, MIN_CODE, MAX_CODE)


def skip_floats(program: Program) -> Program:
    """Returns ``program`` with fewer operators, P a layer that multiplies codes and writes float32.

    Rules, where nothing else reads what lies between:
        ``Quantize(Clip(x))`` -> ``Quantize(x)``, and QuantizeParts alike, where codes saturate at the bounds or before
        them: the same codes;
        ``Quantize(P(x))`` -> ``P(x)`` that writes the codes itself: docs/arithmetic.md, "Codes in parts";
        ``FloatAdd(P(x), b)`` -> ``P(x) + b``, P a convolution: the same bytes.
    """
    for rule in (_skip_clips, _write_codes, _fuse_sums):
        program = rule(program)
    return program


def _skip_clips(program: Program) -> Program:
    clips = {
        op.output: op
        for op in program.ops
        if isinstance(op, FloatUnary) and op.function is FloatFunction.CLIP
    }
    ops: list[Op] = []
    for op in program.ops:
        clip = clips.get(op.input) if isinstance(op, Quantize | QuantizeParts) else None
        if clip is not None and isinstance(op, Quantize | QuantizeParts):
            source = program.tensors[clip.input]
            if source.channels_last == program.tensors[clip.output].channels_last and _saturates(
                program, op, clip
            ):
                ops.append(replace(op, input=clip.input))
                continue
        ops.append(op)
    return _drop_unread(replace(program, ops=tuple(ops)), set(clips))


def _saturates(program: Program, op: Quantize | QuantizeParts, clip: FloatUnary) -> bool:
    """Returns whether the codes of a clip's bounds are the last ones, so that what lies beyond has the same codes."""
    y = program.tensors[op.output]
    least, most = MIN_CODE, MAX_CODE
    room = 0.5
    if isinstance(op, QuantizeParts):
        least, most, room = op.lo, op.hi, 0.5 / PARTS_OF_A_CODE
    with np.errstate(over="ignore"):
        low = float(np.float32(clip.alpha) / np.float32(y.scale)) + y.zero_point
        high = float(np.float32(clip.beta) / np.float32(y.scale)) + y.zero_point
    return low < least + room and high > most - room


def _drop_unread(program: Program, candidates: set[str]) -> Program:
    readers = count_readers(program)
    gone = {name for name in candidates if not readers[name] and name not in program.outputs}
    tensors = {name: tensor for name, tensor in program.tensors.items() if name not in gone}
    ops = tuple(op for op in program.ops if op.output not in gone)
    return replace(program, tensors=tensors, ops=ops)


def _write_codes(program: Program) -> Program:
    readers, makers = count_readers(program), {op.output: i for i, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if not isinstance(op, Quantize) or op.input not in makers:
            continue
        maker = ops[makers[op.input]]
        x, y = tensors[op.input], tensors[op.output]
        if (
            not isinstance(maker, Conv | FullyConnected)
            or (isinstance(maker, Conv) and maker.residual is not None)
            or tensors[maker.input].dtype is not DType.CODE
            or readers[op.input] != 1
            or op.input in program.outputs
            or x.shape != y.shape
        ):
            continue
        multiplier = maker.multiplier / np.float32(y.scale)
        if not np.all(np.isfinite(multiplier) & (multiplier > 0)):
            continue
        ops[makers[op.input]] = None
        ops[index] = replace(maker, output=op.output, multiplier=multiplier)
        del tensors[op.input]
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))


def _fuse_sums(program: Program) -> Program:
    readers, makers = count_readers(program), {op.output: i for i, op in enumerate(program.ops)}
    ops: list[Op | None] = list(program.ops)
    tensors = dict(program.tensors)
    for index, op in enumerate(program.ops):
        if (
            not isinstance(op, FloatBinary)
            or op.operator is not FloatOperator.ADD
            or (op.lo, op.hi) != (-np.inf, np.inf)
        ):
            continue
        candidates = [
            (makers[own], own, other)
            for own, other in ((op.a, op.b), (op.b, op.a))
            if own in makers and readers[own] == 1 and own not in program.outputs
        ]
        for maker, own, other in sorted(candidates, reverse=True):
            conv = ops[maker]
            shapes = {tensors[name].shape for name in (own, other, op.output)}
            if (
                isinstance(conv, Conv)
                and conv.residual is None
                and conv.table is None
                and tensors[conv.output].dtype is DType.FLOAT32
                and len(shapes) == 1
            ):
                ops[index] = replace(
                    conv, output=op.output, residual=Residual(other, *_NO_RESIDUAL_GRID)
                )
                ops[maker] = None
                del tensors[own]
                break
    return replace(program, tensors=tensors, ops=tuple(op for op in ops if op is not None))
