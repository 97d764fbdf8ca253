"""The lowered integer program: what is left of a network when only exact integer arithmetic remains.

One step before a plan: operators as in csrc/runtime/plan.fbs, one to one, but with plain weights, so that
the same program serves every instruction set and the numpy judge. Codes are int8 throughout.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

MIN_CODE = -128
MAX_CODE = 127


class DType(Enum):
    """What the elements of a tensor are; ``CODE`` is an int8 code on the tensor's grid, others are plain numbers."""

    CODE = "code"
    FLOAT32 = "float32"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of the elements."""
        return np.dtype("int8" if self is DType.CODE else self.value)

    @classmethod
    def of_numpy(cls, dtype: np.dtype[Any]) -> DType | None:
        """Returns the type of plain numbers of a numpy type, or None where plans hold none of it."""
        return next((one for one in cls if one is not cls.CODE and one.value == dtype.name), None)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program.

    Attributes:
        name: Unique in the program. A tensor of the float graph keeps its name; the codes of a model's
            input or output are called ``codes_name(name)``.
        shape: In plan order: NHWC where ``channels_last``, else as in the source model.
        dtype: Of the elements.
        scale: The real value of a code is ``scale * (q - zero_point)``.
        zero_point: In [-128, 127].
        channels_last: Whether ``shape`` is the NHWC form of an NCHW tensor.
        flattened: (C, H, W) where the last dimension of ``[N, H*W*C]`` stands for the source's ``C*H*W``; only
            fully connected layers read such a tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = DType.CODE
    scale: np.float32 = field(default_factory=lambda: np.float32(1))
    zero_point: int = 0
    channels_last: bool = False
    flattened: tuple[int, int, int] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without padding."""
        return self.size * self.dtype.numpy.itemsize

    @property
    def source_shape(self) -> tuple[int, ...]:
        """The shape in the source model's order."""
        if not self.channels_last:
            return self.shape
        n, h, w, c = self.shape
        return (n, c, h, w)

    def to_source_order(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the elements of this tensor in the source model's order."""
        if self.channels_last:
            return array.transpose(0, 3, 1, 2)
        if self.flattened is not None:
            c, h, w = self.flattened
            return array.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(array.shape)
        return array


def codes_name(name: str) -> str:
    """Returns the name of the tensor that holds the codes of the model's input or output ``name``."""
    return f"{name}:codes"


@dataclass(frozen=True)
class Window:
    """A sliding window over height and width, in plan.fbs's words. Pads are not symmetric in general."""

    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the number of windows that fit into an input of that size, at least (0, 0)."""
        span_h = (self.kernel_h - 1) * self.dilation_h + 1
        span_w = (self.kernel_w - 1) * self.dilation_w + 1
        rows = (height + self.pad_top + self.pad_bottom - span_h) // self.stride_h + 1
        columns = (width + self.pad_left + self.pad_right - span_w) // self.stride_w + 1
        return max(rows, 0), max(columns, 0)


@dataclass(frozen=True)
class Residual:
    """A tensor added to a convolution's own codes, as ARITHMETIC.md's "add".

    ``scale``, ``zero_point``, ``lo`` and ``hi`` are the grid of the convolution's own output before the sum.
    """

    tensor: str
    scale: np.float32
    zero_point: int
    lo: int
    hi: int


@dataclass(frozen=True, eq=False)
class FusedTable:
    """A function fused into an operator, applied last: ``y = codes[q + 128]``.

    Attributes:
        codes: int8 ``[256]``.
        scale: Of the grid of q, which the operator computes by itself, after its residual.
        zero_point: Of that grid. The operator's ``lo`` and ``hi`` bound q.
    """

    codes: Int8Array
    scale: np.float32
    zero_point: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """Base of the operators.

    Attributes:
        name: The node of the source model, unique in the program.
        output: Name of the tensor that the operator writes.
    """

    name: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that the operator reads."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The operator's name in plan.fbs."""
        return type(self).__name__


@dataclass(frozen=True, eq=False, kw_only=True)
class Unary(Op):
    """Base of the operators that read one tensor."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input."""
        return (self.input,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair(Op):
    """Base of the operators that read two tensors."""

    a: str
    b: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both operands."""
        return (self.a, self.b)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Convolution(Unary):
    """What a convolution of an NHWC tensor has, whichever channels it connects.

    ``y = requantize(bias[c] + sum (x - z_x) * weights[c])`` with ``multiplier[c]``.

    Attributes:
        weights: int8, one kernel for each output channel.
        bias: int32 ``[n]``, without the zero point's share.
        multiplier: float32 ``[n]``, ``float32(float32(s_x * s_w[c]) / s_y)``; with a residual s_y is the residual
            record's scale.
        window: Kernel, strides, dilations and pads.
        lo: Smallest code of the output.
        hi: Largest code of the output.
        residual: What is added before the output, or None.
        table: What is applied last, or None.
        weight_scale: float32 ``[n]``, s_w of the multiplier, for forms that write scales; None where only the
            multiplier is known.
        weight_bits: That a form may hold of each weight: 8, or 4 of weights in [-8, 7].
    """

    weights: Int8Array
    bias: Int32Array
    multiplier: Float32Array
    weight_scale: Float32Array | None = None
    weight_bits: int = 8
    window: Window
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    residual: Residual | None = None
    table: FusedTable | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input, and the residual if there is one."""
        return (self.input,) if self.residual is None else (self.input, self.residual.tensor)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(_Convolution):
    """Convolution, dense or grouped; weights are ``[n][kernel_h][kernel_w][c / groups]``.

    Attributes:
        groups: Channels are cut into this many equal runs.
    """

    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv(_Convolution):
    """Convolution of each channel with its own kernel; weights are ``[c][kernel_h][kernel_w]``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvTranspose(Unary):
    """Transposed convolution of an NHWC tensor: each pixel adds its share to the outputs that its window covers.

    ``y[i * stride + r * dilation - pad]`` gets ``(x[i] - z_x) * weights[c][r]``; else as Conv. What the window's pads
    below and to the right say, the output's shape says as well.

    Attributes:
        weights: int8 ``[n][kernel_h][kernel_w][c]``.
    """

    weights: Int8Array
    bias: Int32Array
    multiplier: Float32Array
    weight_scale: Float32Array | None = None
    weight_bits: int = 8
    window: Window
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    table: FusedTable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(Unary):
    """Matrix product over the last dimension; weights are int8 ``[n][k]``, else as Conv."""

    weights: Int8Array
    bias: Int32Array
    multiplier: Float32Array
    weight_scale: Float32Array | None = None
    weight_bits: int = 8
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    table: FusedTable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupFullyConnected(Unary):
    """Matrix product with int4 weights that have a scale for each group of them along k.

    Of codes ``v = sum_g float32(sum_k (x - z_x) * weights) * multiplier[g]`` and ``y = z_y + rne(v + bias)``; of rows
    of float32, which get codes at run time, ``y = v * s + bias``: docs/arithmetic.md, "int4 weights".

    Attributes:
        weights: int8 in [-8, 7], ``[n][k]``.
        group: Weights along k that share a scale, at least 1; the last group may have fewer.
        multiplier: float32 ``[groups][n]``: of codes ``float32(float32(s_x * s_w) / s_y)``, else s_w.
        bias: float32 ``[n]``; of codes over s_y.
        weight_scale: float32 ``[groups][n]``, s_w.
        lo: Smallest code of the output.
        hi: Largest code of the output.
        table: What is applied last to codes, or None.
    """

    weights: Int8Array
    group: int
    multiplier: Float32Array
    bias: Float32Array
    weight_scale: Float32Array
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    table: FusedTable | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class MatMul(Pair):
    """Product of two computed tensors, ``[batches, m, k]`` and ``[batches, k, n]`` (``[.., n, k]`` if transposed).

    ``y = requantize(sum (a - z_a) * (b - z_b))`` with ``float32(float32(s_a * s_b) / s_y)``; b may be one matrix for
    all batches.
    """

    transposed: bool = False
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    table: FusedTable | None = None


class BinaryKind(Enum):
    """The elementwise operators of two tensors."""

    ADD = "Add"
    SUB = "Sub"
    MUL = "Mul"
    MAX = "Max"
    MIN = "Min"


@dataclass(frozen=True, eq=False, kw_only=True)
class Binary(Pair):
    """Elementwise sum, difference, product, maximum or minimum, broadcasting as numpy does.

    Of NHWC images ``b`` may also have a whole fraction of the height and width of ``a``: its pixels are repeated.
    """

    binary: BinaryKind
    lo: int = MIN_CODE
    hi: int = MAX_CODE
    table: FusedTable | None = None


class PoolKind(Enum):
    """What a pool takes of its window."""

    MAX = "Max"
    AVERAGE = "Average"


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Unary):
    """Pool over height and width of an NHWC tensor."""

    pool: PoolKind
    window: Window
    count_include_pad: bool = False
    lo: int = MIN_CODE
    hi: int = MAX_CODE


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalMean(Unary):
    """Mean over height and width: NHWC to ``[N, 1, 1, C]``."""

    lo: int = MIN_CODE
    hi: int = MAX_CODE


@dataclass(frozen=True, eq=False, kw_only=True)
class Lookup(Unary):
    """``y = table[q + 128]``, int8 ``[256]``."""

    table: Int8Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Unary):
    """Softmax over the last dimension; table is uint32 ``[256]``, see docs/arithmetic.md."""

    table: npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Unary):
    """Float32 in the model's order to codes, NHWC if the output is channels_last."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Unary):
    """Codes to float32 in the model's order."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Requantize(Unary):
    """Codes to codes on the output's grid."""

    lo: int = MIN_CODE
    hi: int = MAX_CODE


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Op):
    """Tensors side by side along ``axis``; those on another grid than the output are requantized.

    Of NHWC images joined along the channels, one may have a whole fraction of the output's height and width: each of
    its pixels is repeated.
    """

    parts: tuple[str, ...]
    axis: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """The parts in their order."""
        return self.parts


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Unary):
    """The same bytes under another shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Unary):
    """Dimension i of the output is dimension ``permutation[i]`` of the input."""

    permutation: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Unary):
    """Constant padding: (begin, end) of each dimension, filled with the code ``value`` or the float32 ``real``."""

    pads: tuple[tuple[int, int], ...]
    value: int
    real: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Unary):
    """``output[i] = input[begin + i * step]`` in each dimension; steps may be negative, never 0."""

    begin: tuple[int, ...]
    step: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Resize(Unary):
    """Another height and width of an NHWC tensor.

    Output row i is input row ``rows[i]`` or, with weights, ``row_weights[i] / 2048`` of the way to the next; columns
    likewise.

    Attributes:
        rows: An input row for each output row.
        columns: An input column for each output column.
        row_weights: In [0, 2048], or None for the nearest row; together with ``column_weights``.
        column_weights: In [0, 2048].
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_weights: tuple[int, ...] | None = None
    column_weights: tuple[int, ...] | None = None
    lo: int = MIN_CODE
    hi: int = MAX_CODE


@dataclass(frozen=True, eq=False)
class Program:
    """A network in integer arithmetic, for a fixed batch.

    Attributes:
        tensors: By name.
        inputs: Names of the model's inputs: plain numbers, in the model's order.
        outputs: Names of the model's outputs: plain numbers, in the model's order.
        ops: In order of execution; each tensor that is neither an input nor a constant is written once.
        constants: The elements of tensors that no operator writes, by name: int8 codes or plain numbers, in plan order.
    """

    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    constants: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def count_readers(program: Program) -> Counter[str]:
    """Returns how many operators read each tensor, being an output of the model counted as one."""
    readers = Counter(name for op in program.ops for name in op.inputs)
    readers.update(program.outputs)
    return readers
