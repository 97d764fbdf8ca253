"""Which version of a TFLite operator takes which types, as the interpreters' own version rules have it.

A file must name the version that it needs: an interpreter that knows only older ones then refuses it when it is
opened instead of misreading it. The rules are those of TensorFlow's ``lite/tools/versioning/op_version.cc``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgekit.converters.tflite.schema import schema

_Op = schema.BuiltinOperator
_Type = schema.TensorType

# Version 2 for int8, 3 for int16, of the first tensor that is read.
_INT8_2_INT16_3 = frozenset(
    {
        _Op.ARG_MAX,
        _Op.ARG_MIN,
        _Op.AVERAGE_POOL_2D,
        _Op.BATCH_MATMUL,
        _Op.CONCATENATION,
        _Op.LOGISTIC,
        _Op.MAX_POOL_2D,
        _Op.MEAN,
        _Op.MIRROR_PAD,
        _Op.REDUCE_MAX,
        _Op.REDUCE_MIN,
        _Op.RELU,
        _Op.RELU6,
        _Op.RSQRT,
        _Op.SOFTMAX,
        _Op.TANH,
    }
)
# Version 2 for int8 and for int16.
_INTEGER_2 = frozenset({_Op.EXP, _Op.LOG})
# Version 2 for int8.
_INT8_2 = frozenset({_Op.GATHER, _Op.GELU, _Op.SUM, _Op.ABS})


@dataclass(frozen=True)
class Operand:
    """What versions depend on of a tensor.

    Attributes:
        type: Of the schema's TensorType.
        rank: Number of dimensions.
        per_channel: Whether it has more scales than one.
        scale: Of codes with one scale, 0 of others.
    """

    type: int
    rank: int
    per_channel: bool = False
    scale: float = 0.0


def operator_version(
    operator: int, inputs: list[Operand | None], output: Operand, options: Any
) -> int:
    """Returns the version of ``operator`` that holds these tensors and options."""
    first = next(operand for operand in inputs if operand is not None)
    int8, int16 = first.type == _Type.INT8, first.type == _Type.INT16
    if operator in _INT8_2_INT16_3:
        return 3 if int16 else 2 if int8 else 1
    if operator in _INTEGER_2:
        return 2 if int8 or int16 else 1
    if operator in _INT8_2:
        return 2 if int8 else 1
    match operator:
        case _Op.CONV_2D | _Op.DEPTHWISE_CONV_2D | _Op.FULLY_CONNECTED | _Op.TRANSPOSE_CONV:
            return _layer_version(operator, inputs, options)
        case _Op.DEQUANTIZE:
            half = first.type == _Type.FLOAT16
            return 3 if int16 or half else (5 if first.per_channel else 2) if int8 else 1
        case _Op.QUANTIZE:
            return 2 if output.type == _Type.INT16 else 1
        case _Op.ADD | _Op.SUB:
            if int16:
                return 3 if operator == _Op.ADD else 5
            return 2 if int8 else 1
        case _Op.MUL:
            if int8 and output.scale and _product_scale(inputs) >= output.scale:
                return 3
            return 4 if int16 else 2 if int8 else 1
        case _Op.MAXIMUM | _Op.MINIMUM:
            deep = max(operand.rank for operand in inputs if operand is not None) > 4
            return 4 if int16 else 3 if deep else 2 if int8 else 1
        case _Op.PAD | _Op.PADV2:
            return 4 if first.rank > 4 else 3 if int16 else 2 if int8 else 1
        case _Op.TRANSPOSE:
            if first.rank > 5:
                return 6
            return 5 if int16 else 4 if first.rank > 4 else 2 if int8 else 1
        case _Op.SLICE:
            return 5 if first.rank > 4 else 4 if int16 else 2 if int8 else 1
        case _Op.STRIDED_SLICE:
            return 4 if first.rank > 4 else 2 if int8 else 1
        case _Op.RESIZE_BILINEAR | _Op.RESIZE_NEAREST_NEIGHBOR:
            if int16:
                return 4
            return 3 if options.halfPixelCenters or options.alignCorners else 2 if int8 else 1
        case _Op.LEAKY_RELU:
            return 2 if int16 else 1
        case _Op.BROADCAST_TO:
            # Version 1 was withdrawn.
            return 3 if int8 or int16 else 2
        case _Op.CAST:
            return 3 if _Type.INT8 in (first.type, output.type) else 1
        case _:
            return 1


def _product_scale(inputs: list[Operand | None]) -> float:
    return math.prod(operand.scale for operand in inputs if operand is not None)


def _layer_version(operator: int, inputs: list[Operand | None], options: Any) -> int:
    """Returns the version of a layer, whose second input is its weights."""
    place = 2 if operator == _Op.TRANSPOSE_CONV else 0
    source, weights = inputs[place], inputs[1]
    assert source is not None
    assert weights is not None
    integer, wide = source.type == _Type.INT8, source.type == _Type.INT16
    hybrid = source.type == _Type.FLOAT32 and weights.type == _Type.INT8
    if weights.type == _Type.INT4:
        return 10 if operator == _Op.FULLY_CONNECTED else 7
    match operator:
        case _Op.CONV_2D:
            return (
                4 if wide else 3 if integer else (5 if weights.per_channel else 2) if hybrid else 1
            )
        case _Op.DEPTHWISE_CONV_2D:
            if wide or hybrid:
                return 5 if wide else 6 if weights.per_channel else 4
            dilated = options.dilationWFactor != 1 or options.dilationHFactor != 1
            return 3 if integer else 2 if dilated else 1
        case _Op.TRANSPOSE_CONV:
            if len(inputs) == 4:
                return 3
            return 2 if integer else 1
        case _:
            if hybrid and weights.per_channel:
                return 12
            return 7 if wide else 5 if options.keepNumDims else 4 if integer else 3 if hybrid else 1
