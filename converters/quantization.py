"""The typed records that quantization hangs on the values of an ``onnx_ir`` graph.

One quantized graph, whatever form it is written in: an ``onnx_ir.Model`` whose nodes are still the float
operators and whose values carry these records. A value without a record stays float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_KEY = "edgekit.quantization"
_FLOAT_KEY = "edgekit.stays_float"
_DYNAMIC_KEY = "edgekit.dynamic"
_WHOLE_KEY = "edgekit.dynamic_whole"
_HALF_KEY = "edgekit.float16_weights"
_WIDE_KEY = "edgekit.wide_steps"
_PARTS_KEY = "edgekit.part_grids"


@dataclass(frozen=True)
class ActivationQuantization:
    """An activation's int8 grid: real value ``scale * (q - zero_point)``, ``lo <= q <= hi``.

    Attributes:
        scale: float32, above 0.
        zero_point: in [-128, 127].
        lo: Smallest code that the producer may write (a fused Relu or Clip raises it).
        hi: Largest code that the producer may write.
    """

    scale: np.float32
    zero_point: int
    lo: int = -128
    hi: int = 127


@dataclass(frozen=True, eq=False)
class WeightQuantization:
    """A weight or bias in integer form: real value ``scale[c] * codes[..., c, ...]`` along ``axis``.

    With a ``group``, of a matrix, the real value of row k is ``scale[k // group, c] * codes``.

    Attributes:
        codes: int8 in [-127, 127] for a weight, or [-8, 7] where ``bits`` is 4; int32 for a bias; the shape of the
            initializer.
        scale: float32 ``[C]``, or ``[ceil(K / group), C]``; for a bias ``float32(s_x * s_w[c])``.
        axis: The output channel's dimension.
        bits: That a form may hold of each weight: 8 or 4.
        group: Weights of an output channel that share a scale along K, or 0 where all do.
        rest: int8 codes of what ``codes`` leave of the weights, in sixteenths of their scale, where weights come in two
            parts; None where they do not.
    """

    codes: npt.NDArray[np.int8] | npt.NDArray[np.int32]
    scale: npt.NDArray[np.float32]
    axis: int
    bits: int = 8
    group: int = 0
    rest: npt.NDArray[np.int8] | None = None

    def spread_scale(self) -> npt.NDArray[np.float32]:
        """Returns the scale of each code, in a shape that broadcasts to that of the codes."""
        scale = self.scale.astype(np.float32)
        if self.group:
            depth = self.codes.shape[1 - self.axis]
            by_row = np.repeat(scale, self.group, axis=0)[:depth]
            return by_row if self.axis == 1 else np.ascontiguousarray(by_row.T)
        if scale.size == 1:
            return scale.reshape((1,) * self.codes.ndim)
        return scale.reshape([-1 if i == self.axis else 1 for i in range(self.codes.ndim)])


@dataclass(frozen=True, eq=False)
class RowQuantization:
    """The weights of a recurrent node in integer form: real value ``scale[d, row] * codes[d, row, k]``.

    The rows that they are multiplied with get their codes at run time (docs/arithmetic.md, "Recurrent layers").

    Attributes:
        codes: int8 in [-127, 127], ``[directions, rows, k]``: the shape of the initializer.
        scale: float32 ``[directions, rows]``.
    """

    codes: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]


Quantization = ActivationQuantization | WeightQuantization | RowQuantization


def stays_float(node: ir.Node) -> bool:
    """Returns whether ``node`` computes in float32 although values around it may be quantized."""
    return bool(node.meta.get(_FLOAT_KEY, False))


def keep_float(node: ir.Node) -> None:
    """Says that ``node`` computes in float32."""
    node.meta[_FLOAT_KEY] = True


def is_dynamic(node: ir.Node) -> bool:
    """Returns whether ``node``, a layer between float32 tensors, multiplies codes that its rows get at run time."""
    return bool(node.meta.get(_DYNAMIC_KEY, False))


def make_dynamic(node: ir.Node, *, whole: bool = False) -> None:
    """Says that the rows of ``node``, whose weights carry codes, get codes at run time, by one scale if ``whole``."""
    node.meta[_DYNAMIC_KEY] = True
    node.meta[_WHOLE_KEY] = whole


def has_whole_scale(node: ir.Node) -> bool:
    """Returns whether all rows of ``node``, which is dynamic, have one scale."""
    return bool(node.meta.get(_WHOLE_KEY, False))


def has_float16_weights(node: ir.Node) -> bool:
    """Returns whether ``node``, a layer that stays float, has weights that float16 holds exactly and stores."""
    return bool(node.meta.get(_HALF_KEY, False))


def store_float16(node: ir.Node) -> None:
    """Says that float16 holds the weights of ``node`` exactly, and stores them."""
    node.meta[_HALF_KEY] = True


@dataclass(frozen=True)
class WideSteps:
    """Scales of the int16 codes around 0 of a 16x8 layer, whose tensors are float32.

    Attributes:
        input: Of its input.
        output: Of its output.
    """

    input: np.float32
    output: np.float32


def get_wide_steps(node: ir.Node) -> WideSteps | None:
    """Returns the scales of a layer that is computed in 16x8, None of any other node."""
    return cast("WideSteps | None", node.meta.get(_WIDE_KEY))


def make_wide(node: ir.Node, steps: WideSteps) -> None:
    """Says that ``node``, whose weights carry codes, is computed in 16x8."""
    node.meta[_WIDE_KEY] = steps


@dataclass(frozen=True)
class PartGrids:
    """The grids of a layer whose codes come in parts, between float32 tensors (docs/arithmetic.md, "Codes in parts").

    Attributes:
        input: Of its input where that is float32; its zero point leaves room for all parts.
        output: Of its output, where the kernels of the layer write codes: of a depthwise convolution.
        whole: Whether the input, though float32, is read as codes of ``input`` without parts.
    """

    input: ActivationQuantization
    output: ActivationQuantization
    whole: bool = False


def get_part_grids(node: ir.Node) -> PartGrids | None:
    """Returns the grids of a layer whose codes come in parts, None of any other node."""
    return cast("PartGrids | None", node.meta.get(_PARTS_KEY))


def take_parts(node: ir.Node, grids: PartGrids) -> None:
    """Says that ``node``, whose weights carry codes, takes its input in parts."""
    node.meta[_PARTS_KEY] = grids


def get_quantization(value: ir.Value) -> Quantization | None:
    """Returns the record of ``value``, or None where it stays float32."""
    return cast("Quantization | None", value.meta.get(_KEY))


def has_int8_rows(node: ir.Node) -> bool:
    """Returns whether ``node`` is recurrent and has int8 weights."""
    return any(
        value is not None and isinstance(get_quantization(value), RowQuantization)
        for value in node.inputs
    )


def set_quantization(value: ir.Value, record: Quantization | None) -> None:
    """Hangs ``record`` on ``value``, or takes it away."""
    if record is None:
        value.meta.pop(_KEY, None)
    else:
        value.meta[_KEY] = record
