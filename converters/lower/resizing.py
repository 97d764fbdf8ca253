"""Lowers Resize of an image: where each output row and column lies in the input is decided here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.float_program import FloatResize
from edgekit.converters.lower.state import Lowering, normalized_axis, refuse
from edgekit.converters.program import DType, Resize

_ONE = 2048
# What a scale in float32 may miss a whole number of elements by.
_WHOLE = 1e-4
_F32 = np.float32
Float32 = npt.NDArray[np.float32]
Weights = tuple[int, ...]


def lower_resize(lowering: Lowering, node: ir.Node) -> None:
    """Resize of height and width, nearest or linear."""
    x = lowering.codes(node, 0)
    if len(x.shape) != 4:
        refuse(node, f"it resizes a tensor of rank {len(x.shape)}, not 4")
    x = lowering.channels_last(x)
    mode = _text(node, "mode", "nearest")
    if mode not in ("nearest", "linear"):
        refuse(node, f"it resizes in mode {mode!r}")
    if "antialias" in node.attributes and node.attributes["antialias"].as_int():
        refuse(node, "it filters against aliasing")
    batch, height, width, channels = x.shape
    sizes, scales = _sizes_and_scales(
        node,
        (batch, channels, height, width),
        lowering.constant(node, 3),
        lowering.constant(node, 2),
    )
    if sizes[:2] != [batch, channels]:
        refuse(node, "it resizes more than height and width")
    grid = lowering.moved_grid(node, x)
    x = lowering.on_grid(node, x, grid)
    places = [
        _coordinates(node, (height, width)[axis], sizes[2 + axis], scales[2 + axis])
        for axis in (0, 1)
    ]
    y = lowering.add_output(node, (batch, sizes[2], sizes[3], channels), grid, channels_last=True)
    if y.dtype is DType.FLOAT32:
        (rows, row_weights), (columns, column_weights) = (
            find_real_sources(node, mode, place, size)
            for place, size in zip(places, x.shape[1:3], strict=True)
        )
        lowering.emit(
            FloatResize(
                name=lowering.op_name(node),
                input=x.name,
                output=y.name,
                rows=rows,
                columns=columns,
                row_weights=row_weights,
                column_weights=column_weights,
            )
        )
        return
    weights: tuple[Weights | None, Weights | None]
    if mode == "nearest":
        sources = [
            _nearest(node, place, size) for place, size in zip(places, x.shape[1:3], strict=True)
        ]
        weights = (None, None)
    else:
        between = [_between(place, size) for place, size in zip(places, x.shape[1:3], strict=True)]
        sources = [first for first, _ in between]
        weights = (between[0][1], between[1][1])
    lowering.emit(
        Resize(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            rows=sources[0],
            columns=sources[1],
            row_weights=weights[0],
            column_weights=weights[1],
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def _text(node: ir.Node, name: str, default: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else default


def find_places(
    node: ir.Node,
    shape: tuple[int, ...],
    wanted: npt.NDArray[np.generic] | None,
    factors: npt.NDArray[np.generic] | None,
) -> tuple[Float32, Float32]:
    """Returns where each output row and each output column lies in an input ``[N, C, H, W]`` of ``shape``.

    Args:
        node: A Resize.
        shape: Of its input.
        wanted: Its sizes, where it has them.
        factors: Its scales, where it has them.

    Raises:
        ModelError: It resizes otherwise than the native form can.
    """
    sizes, scales = _sizes_and_scales(node, shape, wanted, factors)
    if sizes[:2] != list(shape[:2]):
        refuse(node, "it resizes more than height and width")
    rows, columns = (_coordinates(node, shape[axis], sizes[axis], scales[axis]) for axis in (2, 3))
    return rows, columns


def _sizes_and_scales(
    node: ir.Node,
    shape: tuple[int, ...],
    wanted: npt.NDArray[np.generic] | None,
    factors: npt.NDArray[np.generic] | None,
) -> tuple[list[int], list[np.float32]]:
    """Returns the output's size and the scale of each dimension, NCHW."""
    axes = list(range(4))
    if "axes" in node.attributes:
        axes = [normalized_axis(node, axis, 4) for axis in node.attributes["axes"].as_ints()]
    if _text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        refuse(node, "it keeps the aspect ratio")
    sizes, scales = list(shape), [_F32(1)] * 4
    if wanted is not None and wanted.size == len(axes):
        for axis, size in zip(axes, wanted.reshape(-1), strict=True):
            sizes[axis] = int(size)
            scales[axis] = _F32(sizes[axis]) / _F32(shape[axis])
    elif factors is not None and factors.size == len(axes):
        for axis, factor in zip(axes, factors.reshape(-1), strict=True):
            scales[axis] = _F32(factor)
            sizes[axis] = int(np.floor(_F32(shape[axis]) * scales[axis]))
    else:
        refuse(node, "its sizes and scales are computed or missing")
    return sizes, scales


def _coordinates(node: ir.Node, size: int, wanted: int, scale: np.float32) -> Float32:
    """Returns where each output element lies in the input, in float32 as ONNX Runtime computes it."""
    mode = _text(node, "coordinate_transformation_mode", "half_pixel")
    x = np.arange(wanted, dtype=_F32)
    half = _F32(0.5)
    half_pixel = (x + half) / scale - half
    if wanted == size and scale == 1:
        return x
    match mode:
        case "asymmetric":
            return x / scale
        case "half_pixel":
            return half_pixel
        case "pytorch_half_pixel":
            return half_pixel if wanted > 1 else np.zeros(1, _F32)
        case "align_corners":
            if abs(float(scale) * size - wanted) > _WHOLE * wanted:
                refuse(
                    node,
                    f"it aligns the corners of {size} elements at a scale of {scale:g}, which gives no whole number of "
                    "them: ONNX and ONNX Runtime disagree there",
                )
            if wanted == 1:
                return np.zeros(1, _F32)
            return x * _F32(size - 1) / _F32(wanted - 1)
        case "half_pixel_symmetric":
            share = _F32(wanted) / (scale * _F32(size))
            return _F32(size) / _F32(2) * (_F32(1) - share) + half_pixel
        case _:
            return refuse(node, f"its coordinate_transformation_mode is {mode!r}")


def _nearest(node: ir.Node, place: Float32, size: int) -> tuple[int, ...]:
    """Returns the input element for each output element."""
    rounding: dict[str, Callable[[Float32], Float32]] = {
        "round_prefer_floor": lambda x: np.ceil(x - _F32(0.5)),
        "round_prefer_ceil": lambda x: np.floor(x + _F32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    mode = _text(node, "nearest_mode", "round_prefer_floor")
    if mode not in rounding:
        refuse(node, f"its nearest_mode is {mode!r}")
    return tuple(int(i) for i in rounding[mode](place).clip(0, size - 1))


def _between(place: Float32, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the input element before each output element, and how far it is to the next, in 1/2048."""
    inside = place.clip(0, size - 1)
    first = np.floor(inside).astype(np.int64)
    weight = np.rint((inside - first.astype(_F32)) * _F32(_ONE)).astype(np.int64)
    return tuple(int(i) for i in first), tuple(int(w) for w in weight)


def find_real_sources(
    node: ir.Node, mode: str, place: Float32, size: int
) -> tuple[npt.NDArray[np.int32], Float32]:
    """Returns the two input elements that each output element lies between, and how far it is to the second."""
    if mode == "nearest":
        nearest = np.array(_nearest(node, place, size), np.int32)
        return np.stack([nearest, nearest], axis=1), np.zeros(len(nearest), _F32)
    inside = place.clip(0, size - 1)
    first = np.floor(inside).astype(np.int32)
    pairs = np.stack([first, np.minimum(first + 1, size - 1)], axis=1)
    return np.ascontiguousarray(pairs, np.int32), inside - first.astype(_F32)
