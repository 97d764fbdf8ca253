"""The float32 operators of a lowered program, one to one with the Float tables of csrc/runtime/plan.fbs.

Their tensors are float32, NHWC where ``channels_last``. In which order each one computes, so that every CPU gives the
same bytes, is in docs/arithmetic.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import Float32Array, Int8Array, Pair, PoolKind, Unary, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatLayer(Unary):
    """Base of the layers with weights: ``y = clip(products + bias + residual, lo, hi)``.

    Attributes:
        weights: float32; the shape is each layer's own.
        bias: float32 ``[n]``.
        lo: Smallest value of the output; a NaN stays.
        hi: Largest value of the output.
        residual: Name of the tensor that is added before the clamp, or None.
        weight_bits: 16 where float16 holds every weight exactly and stores it.
    """

    weights: Float32Array
    bias: Float32Array
    lo: float = -math.inf
    hi: float = math.inf
    residual: str | None = None
    weight_bits: int = 32

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input, and the residual if there is one."""
        return (self.input,) if self.residual is None else (self.input, self.residual)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatConv(FloatLayer):
    """Convolution, dense or grouped; weights are ``[n][kernel_h][kernel_w][c / groups]``."""

    window: Window
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatDepthwiseConv(FloatLayer):
    """Convolution of each channel with its own kernel; weights are ``[c][kernel_h][kernel_w]``."""

    window: Window


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatConvTranspose(Unary):
    """Transposed convolution, dense or grouped: where its products go is said at ConvTranspose, then as FloatLayer.

    Attributes:
        weights: float32 ``[n][kernel_h][kernel_w][c / groups]``.
        bias: float32 ``[n]``.
        window: Of its pads only those above and to the left matter.
        groups: How many parts the channels are cut into.
        lo: Smallest value of the output; a NaN stays.
        hi: Largest value of the output.
    """

    weights: Float32Array
    bias: Float32Array
    window: Window
    groups: int = 1
    lo: float = -math.inf
    hi: float = math.inf


@dataclass(frozen=True, eq=False)
class Int4Weights:
    """Weights of a matrix as int4: ``weights[n, k] = float32(scale[k // group, n] * codes[n, k])``.

    Attributes:
        codes: int8 in [-8, 7], ``[n][k]``.
        scale: float32 ``[groups][n]``.
        group: Weights along k that share a scale, at least 1.
    """

    codes: Int8Array
    scale: Float32Array
    group: int


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatFullyConnected(FloatLayer):
    """Matrix product over the last dimension; weights are ``[n][k]``.

    Attributes:
        int4: What the weights are rounded from, for forms that hold that; None where they are float32 themselves.
    """

    int4: Int4Weights | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class DynamicFullyConnected(Unary):
    """Matrix product of int8 weights with float32 rows, whose codes are made at run time.

    Each row has the scale of its own largest magnitude; docs/arithmetic.md, "Dynamic products", has the rule.

    Attributes:
        weights: int8 ``[n][k]``.
        multiplier: float32 ``[n]``: the scales of the weights.
        bias: float32 ``[n]``.
        weight_bits: That a form may hold of each weight: 8, or 4 of weights in [-8, 7].
        whole: Whether all rows have one scale, that of the largest magnitude of the whole input.
    """

    weights: Int8Array
    multiplier: Float32Array
    bias: Float32Array
    weight_bits: int = 8
    whole: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatMatMul(Pair):
    """Product of two computed tensors, ``[batches, m, k]`` and ``[batches, k, n]`` (``[.., n, k]`` if transposed)."""

    transposed: bool = False


class FloatFunction(Enum):
    """Functions of one element, named as in plan.fbs; csrc/kernels/float_vector/float_vector.h says what each is."""

    ABS = "Abs"
    NEGATE = "Negate"
    SQRT = "Sqrt"
    RECIPROCAL = "Reciprocal"
    FLOOR = "Floor"
    CEIL = "Ceil"
    ROUND = "Round"
    CLIP = "Clip"
    LEAKY_RELU = "LeakyRelu"
    HARD_SIGMOID = "HardSigmoid"
    HARD_SWISH = "HardSwish"
    EXP = "Exp"
    LOG = "Log"
    ERF = "Erf"
    TANH = "Tanh"
    SIGMOID = "Sigmoid"
    GELU = "Gelu"
    GELU_TANH = "GeluTanh"


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatUnary(Unary):
    """``y = function(x)`` with the parameters ``alpha`` and ``beta`` that some functions take."""

    function: FloatFunction
    alpha: float = 0.0
    beta: float = 0.0


class FloatOperator(Enum):
    """Functions of two elements, named as in plan.fbs."""

    ADD = "Add"
    SUB = "Sub"
    MUL = "Mul"
    DIV = "Div"
    MAX = "Max"
    MIN = "Min"


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatBinary(Pair):
    """``y = clip(a op b, lo, hi)``, broadcasting as numpy does."""

    operator: FloatOperator
    lo: float = -math.inf
    hi: float = math.inf


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatPool(Unary):
    """Pool over height and width of an NHWC tensor."""

    pool: PoolKind
    window: Window
    count_include_pad: bool = False


class FloatReduction(Enum):
    """What a reduction makes of many elements, named as in plan.fbs."""

    SUM = "Sum"
    MEAN = "Mean"
    MAX = "Max"
    MIN = "Min"


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatReduce(Unary):
    """Brings the dimensions ``[begin, end)`` of the input to one element each."""

    reduction: FloatReduction
    begin: int
    end: int


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSoftmax(Unary):
    """Softmax over the last dimension."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatLayerNorm(Unary):
    """Norm over as many of the last dimensions as ``scale`` and ``bias`` have elements."""

    scale: Float32Array
    bias: Float32Array
    epsilon: float


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatResize(Unary):
    """Resizes height and width of an NHWC tensor.

    Attributes:
        rows: int32 ``[oh, 2]``: the input's rows that an output row lies between.
        columns: The same of columns.
        row_weights: float32 ``[oh]`` in [0, 1]: how far on the way to the second one.
        column_weights: The same of columns.
    """

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    row_weights: Float32Array
    column_weights: Float32Array
