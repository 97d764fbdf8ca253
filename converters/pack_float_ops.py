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
from edgekit.converters.program import Op, PoolKind, Window


def pack_float_op(
    op: Op,
    index: Mapping[str, int],
    isa: str,
    blob: Callable[[Any], Any],
    window: Callable[[Window], dict[str, int]],
) -> Any:
    """Returns the table of ``op``, or None where it is no float32 operator.

    Args:
        op: The operator.
        index: Position of each tensor in the plan.
        isa: A token of csrc/isa/isa.inc.
        blob: Adds an array or bytes to the constants; returns where they lie.
        window: Returns a window's fields by their names in the schema.
    """
    y = index[op.output]
    match op:
        case FloatConv(window=moved):
            count, kernel_h, kernel_w, depth = op.weights.shape
            shape = (count, kernel_h * kernel_w, depth)
            weights = np.ascontiguousarray(op.weights.reshape(shape), np.float32)
            kernel = _native.select_float_gemm(isa)
            per_group = count // op.groups
            packed = b"".join(
                _native.pack_float_gemm(kernel, weights[first : first + per_group])
                for first in range(0, count, per_group)
            )
            return schema.FloatConvT(
                kernel=kernel,
                weights=blob(packed),
                groups=op.groups,
                **_layer(op, index, blob),
                **window(moved),
            )
        case FloatDepthwiseConv(window=moved):
            kernel = _native.select_float_depthwise(isa)
            weights = np.ascontiguousarray(op.weights, np.float32)
            return schema.FloatDepthwiseConvT(
                kernel=kernel,
                weights=blob(_native.pack_float_depthwise(kernel, weights)),
                **_layer(op, index, blob),
                **window(moved),
            )
        case FloatFullyConnected():
            kernel = _native.select_float_gemm(isa)
            weights = np.ascontiguousarray(op.weights[:, None, :], np.float32)
            return schema.FloatFullyConnectedT(
                kernel=kernel,
                weights=blob(_native.pack_float_gemm(kernel, weights)),
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
                **window(moved),
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


def _layer(op: FloatLayer, index: Mapping[str, int], blob: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        "input": index[op.input],
        "output": index[op.output],
        "bias": blob(op.bias.astype("<f4")),
        "lo": op.lo,
        "hi": op.hi,
        "residual": -1 if op.residual is None else index[op.residual],
    }
