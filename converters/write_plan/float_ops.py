"""Packs the float32 operators of a program into the Float tables of csrc/runtime/plan.fbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.float_program import (
    FloatBinary,
    FloatConv,
    FloatConvTranspose,
    FloatDepthwiseConv,
    FloatFullyConnected,
    FloatLayer,
    FloatLayerNorm,
    FloatMatMul,
    FloatPool,
    FloatReduce,
    FloatResize,
    FloatSoftmax,
    FloatUnary,
)
from edgekit.converters.memory import ALIGNMENT
from edgekit.converters.phases import cut_phases
from edgekit.converters.program import Float32Array, Op, PoolKind, Tensor
from edgekit.converters.write_plan.window import transposed_window_fields, window_fields


def pack_float_op(
    op: Op,
    index: Mapping[str, int],
    tensors: Mapping[str, Tensor],
    isa: str,
    blob: Callable[[Any], Any],
) -> Any:
    """Returns the table of ``op``, or None where it is no float32 operator.

    Args:
        op: The operator.
        index: Position of each tensor in the plan.
        tensors: The program's.
        isa: A token of csrc/isa/isa.inc.
        blob: Adds an array or bytes to the constants; returns where they lie.
    """
    y = index[op.output]
    match op:
        case FloatConv(window=moved):
            count, kernel_h, kernel_w, depth = op.weights.shape
            shape = (count, kernel_h * kernel_w, depth)
            weights = np.ascontiguousarray(op.weights.reshape(shape), np.float32)
            kernel = _native.select_float_gemm(isa)
            packed = _pack_groups(kernel, weights, op.groups)
            return schema.FloatConvT(
                kernel=kernel,
                weights=blob(_stored(op, packed)),
                groups=op.groups,
                weightBits=op.weight_bits,
                **_layer(op, index, blob),
                **window_fields(moved),
            )
        case FloatConvTranspose(window=moved):
            kernel = _native.select_float_gemm(isa)
            in_width, out_width = (tensors[name].shape[2] for name in (op.input, op.output))
            phases = cut_phases(op.weights, moved, in_width, out_width, op.groups)
            joined = b""
            for weights in phases:
                joined += bytes(-len(joined) % ALIGNMENT) + _pack_groups(kernel, weights, op.groups)
            copies = sum(len(weights) for weights in phases) // len(op.bias)
            return schema.FloatConvTransposeT(
                input=index[op.input],
                output=y,
                kernel=kernel,
                weights=blob(joined),
                bias=blob(np.tile(op.bias, copies).astype("<f4")),
                groups=op.groups,
                lo=op.lo,
                hi=op.hi,
                **transposed_window_fields(moved),
            )
        case FloatDepthwiseConv(window=moved):
            kernel = _native.select_float_depthwise(isa)
            weights = np.ascontiguousarray(op.weights, np.float32)
            return schema.FloatDepthwiseConvT(
                kernel=kernel,
                weights=blob(_stored(op, _native.pack_float_depthwise(kernel, weights))),
                weightBits=op.weight_bits,
                **_layer(op, index, blob),
                **window_fields(moved),
            )
        case FloatFullyConnected(int4=int4) if int4 is not None:
            kernel = _native.select_float_gemm(isa)
            panel = _native.float_gemm_panel(kernel)
            padding = ((0, 0), (0, -len(int4.codes) % panel))
            return schema.Int4FullyConnectedT(
                kernel=kernel,
                group=int4.group,
                weights=blob(_native.pack_int4_float_gemm(kernel, int4.codes)),
                scales=blob(np.pad(int4.scale, padding).astype("<f4")),
                **_layer(op, index, blob),
            )
        case FloatFullyConnected():
            kernel = _native.select_float_gemm(isa)
            weights = np.ascontiguousarray(op.weights[:, None, :], np.float32)
            return schema.FloatFullyConnectedT(
                kernel=kernel,
                weights=blob(_stored(op, _native.pack_float_gemm(kernel, weights))),
                weightBits=op.weight_bits,
                **_layer(op, index, blob),
            )
        case FloatMatMul(a=a, b=b, transposed=transposed):
            kernel = _native.select_float_gemm(isa)
            return schema.FloatMatMulT(index[a], index[b], y, kernel, transposed)
        case FloatUnary(input=x, function=function, alpha=alpha, beta=beta):
            code = getattr(schema.FloatFunction, function.value)
            return schema.FloatUnaryT(code, index[x], y, alpha, beta)
        case FloatBinary(operator=operator, a=a, b=b, lo=lo, hi=hi):
            code = getattr(schema.FloatOperator, operator.value)
            return schema.FloatBinaryT(code, index[a], index[b], y, lo, hi)
        case FloatPool(input=x, window=moved):
            average = op.pool is PoolKind.AVERAGE
            return schema.FloatPoolT(
                kind=schema.PoolKind.Average if average else schema.PoolKind.Max,
                input=index[x],
                output=y,
                countIncludePad=op.count_include_pad,
                **window_fields(moved),
            )
        case FloatReduce(input=x, reduction=reduction, begin=begin, end=end):
            code = getattr(schema.FloatReduction, reduction.value)
            return schema.FloatReduceT(code, index[x], y, begin, end)
        case FloatSoftmax(input=x):
            return schema.FloatSoftmaxT(index[x], y)
        case FloatLayerNorm(input=x, epsilon=epsilon):
            scale, bias = (blob(v.astype("<f4")) for v in (op.scale, op.bias))
            return schema.FloatLayerNormT(index[x], y, scale, bias, epsilon)
        case FloatResize(input=x):
            return schema.FloatResizeT(
                index[x],
                y,
                blob(op.rows.astype("<i4")),
                blob(op.columns.astype("<i4")),
                blob(op.row_weights.astype("<f4")),
                blob(op.column_weights.astype("<f4")),
            )
    return None


def _pack_groups(kernel: str, weights: Float32Array, groups: int) -> bytes:
    """Packs weights ``[n, taps, k]``, each group's by themselves."""
    own = len(weights) // groups
    return b"".join(
        _native.pack_float_gemm(kernel, np.ascontiguousarray(weights[g * own : (g + 1) * own]))
        for g in range(groups)
    )


def _stored(op: FloatLayer, packed: bytes) -> bytes:
    """Returns packed float32 weights as the plan holds them; float16 loses nothing of what it is to hold."""
    if op.weight_bits == 32:
        return packed
    weights = np.frombuffer(packed, "<f4")
    halves = weights.astype("<f2")
    assert np.array_equal(halves.astype(np.float32), weights)
    return halves.tobytes()


def _layer(op: FloatLayer, index: Mapping[str, int], blob: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "input": index[op.input],
        "output": index[op.output],
        "bias": blob(op.bias.astype("<f4")),
        "lo": op.lo,
        "hi": op.hi,
        "residual": -1 if op.residual is None else index[op.residual],
    }
