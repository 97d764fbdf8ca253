"""Where the inputs of a layer's weights lie: the patches that a Hessian is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit import _native
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import RECURRENT

Floats = npt.NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Patches:
    """What a layer's output channels multiply: patches of an input, the same for all channels of a group.

    Equal for layers that read the same patches of the same input, which then share a Hessian.

    Attributes:
        source: Name of the input.
        groups: Groups of channels, each with a Hessian of its own.
        depth: Elements of a group's patch, in the order (channel, taps) of the weights.
        kernel: Taps; those of rows are 1 by 1.
        stride: Vertical and horizontal, as are the others.
        dilation: Between taps.
        pads: Top, left, bottom, right.
        extra: Rows and columns that a transposed convolution adds at the end.
        transposed: Whether outputs are places that an input reaches, not inputs that an output reads.
        is_image: Whether the input is [batch, channels, height, width] or [batch, channels, width]; otherwise
            its last dimension is a row.
    """

    source: str
    groups: int
    depth: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    extra: Pair = (0, 0)
    transposed: bool = False
    is_image: bool = False

    @property
    def bytes(self) -> int:
        """What the Hessians take while they are gathered."""
        side = -(-self.depth // 8) * 8
        return 8 * self.groups * side * side

    def images(self, values: Floats) -> Floats:
        """Returns an input as images [count, channels, height, width]; rows are one image of height 1."""
        if not self.is_image:
            rows = values.reshape(-1, values.shape[-1])
            return np.ascontiguousarray(rows.T)[None, :, None, :]
        if values.ndim == 3:
            values = values[:, :, None]
        return np.ascontiguousarray(values)

    def window(self, height: int, width: int) -> _native.Window:
        """Returns where patches lie in an image of some size."""
        out = tuple(self._extent(size, axis) for axis, size in enumerate((height, width)))
        channels = self.groups * self.depth // (self.kernel[0] * self.kernel[1])
        return _native.Window(
            channels,
            groups=self.groups,
            size=(height, width),
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            pad=self.pads[:2],
            out=out,
            transposed=self.transposed,
        )

    def _extent(self, size: int, axis: int) -> int:
        reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        padding = self.pads[axis] + self.pads[axis + 2]
        if self.transposed:
            return max(0, (size - 1) * self.stride[axis] + reach - padding + self.extra[axis])
        return max(0, (size + padding - reach) // self.stride[axis] + 1)


def find_patches(node: ir.Node) -> Patches | None:
    """Returns what the weights of ``node`` multiply, or None where it is no layer with constant float32 weights."""
    find = _FINDERS.get(node.op_type)
    if find is None or node.domain or not node.inputs or node.inputs[0] is None:
        return None
    source, weight = node.inputs[0], constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or source.dtype != ir.DataType.FLOAT:
        return None
    # Of a constant there is nothing to learn.
    if not source.name or constant(source) is not None or not weight.size:
        return None
    return find(node, str(source.name), weight.shape)


def _of_conv(node: ir.Node, source: str, shape: tuple[int, ...]) -> Patches | None:
    if len(shape) not in (3, 4) or _text(node, "auto_pad") not in ("", "NOTSET"):
        return None
    groups = attribute(node, "group", 1)
    found = Patches(source, groups, int(np.prod(shape[1:])), is_image=True)
    return _place(found, node, shape[2:])


def _of_conv_transpose(node: ir.Node, source: str, shape: tuple[int, ...]) -> Patches | None:
    settled = _text(node, "auto_pad") in ("", "NOTSET") and "output_shape" not in node.attributes
    groups = attribute(node, "group", 1)
    if len(shape) not in (3, 4) or not settled or groups != 1:
        return None
    depth = shape[0] * int(np.prod(shape[2:]))
    found = Patches(source, groups, depth, transposed=True, is_image=True)
    return replace(
        _place(found, node, shape[2:]), extra=_pair(node, "output_padding", 0, len(shape) - 2)
    )


def _of_product(node: ir.Node, source: str, shape: tuple[int, ...]) -> Patches | None:
    if len(shape) != 2 or attribute(node, "transA", 0):
        return None
    return Patches(source, 1, shape[1 if attribute(node, "transB", 0) else 0])


def _of_recurrent(_node: ir.Node, source: str, shape: tuple[int, ...]) -> Patches | None:
    return Patches(source, 1, shape[2]) if len(shape) == 3 else None


_FINDERS: dict[str, Callable[[ir.Node, str, tuple[int, ...]], Patches | None]] = {
    "Conv": _of_conv,
    "ConvTranspose": _of_conv_transpose,
    "Gemm": _of_product,
    "MatMul": _of_product,
    **dict.fromkeys(RECURRENT, _of_recurrent),
}


def _place(patches: Patches, node: ir.Node, taps: tuple[int, ...]) -> Patches:
    rank = len(taps)
    kernel = (taps[0], taps[1]) if rank == 2 else (1, taps[0])
    given = node.attributes.get("pads")
    pads = [0] * (2 * rank) if given is None else list(given.as_ints())
    if rank == 1:
        pads = [0, pads[0], 0, pads[1]]
    return replace(
        patches,
        kernel=kernel,
        stride=_pair(node, "strides", 1, rank),
        dilation=_pair(node, "dilations", 1, rank),
        pads=(pads[0], pads[1], pads[2], pads[3]),
    )


def _pair(node: ir.Node, name: str, default: int, rank: int) -> Pair:
    given = node.attributes.get(name)
    values = [default] * rank if given is None else list(given.as_ints())
    if rank == 1:
        return (0 if default == 0 else 1), values[0]
    return values[0], values[1]


def _text(node: ir.Node, name: str) -> str:
    found = node.attributes.get(name)
    return "" if found is None else found.as_string()
