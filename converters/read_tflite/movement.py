"""Operators of a TensorFlow Lite file that move elements, or change how they are held, as ONNX nodes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import onnx

from edgekit.converters.read_tflite.elementwise import join
from edgekit.converters.read_tflite.network import TO_FILE, WIDE, Layout, Network
from edgekit.converters.read_tflite.records import FLOAT_TYPES, Operator, Tensor
from edgekit.converters.read_tflite.windows import activate

# Where a dimension of the file's order lies in an image.
_PLACES = (0, 2, 3, 1)
_RESIZES = {"RESIZE_BILINEAR": "linear", "RESIZE_NEAREST_NEIGHBOR": "nearest"}
_MIRRORS = {0: "reflect"}


def read_reshape(network: Network, operator: Operator) -> None:
    """RESHAPE, SQUEEZE and EXPAND_DIMS, all by the shape of the result."""
    x, y = network.tensor(operator, 0), network.output(operator)
    if network.is_constant(x):
        _fold(network, y, x, y.shape)
        return
    if _is_plain_image(x, y) and not network.is_image(x):
        network.hold(y, Layout.IMAGE, x, Layout.FILE)
        return
    if operator.code != "RESHAPE" and y.signature.count(None) > 1:
        _change_rank(network, operator, x, y)
        return
    target = _target(network, operator, y)
    if network.is_image(x) and math.prod(x.shape[1:3]) == 1:
        # With a single place for each channel both orders are the same.
        _reshape(network, network.get(x, Layout.IMAGE), y, target)
    elif network.is_image(x) and len(y.shape) == 2 and y.shape[-1] == math.prod(x.shape[1:]):
        network.postpone(y, x, lambda: _reshape(network, network.get(x), y, target))
    else:
        _reshape(network, network.get(x), y, target)


def read_transpose(network: Network, operator: Operator) -> None:
    """TRANSPOSE by a constant order."""
    x, y = network.tensor(operator, 0), network.output(operator)
    order = network.integers(operator, 1)
    if sorted(order) != list(range(len(x.shape))):
        network.refuse(operator, f"its order {order} is none of {len(x.shape)} dimensions")
    if network.is_image(x):
        order = [_PLACES[axis] for axis in order]
        if order == [0, 1, 2, 3]:
            network.hold(y, Layout.FILE, x, Layout.IMAGE)
            return
        network.add("Transpose", [network.get(x, Layout.IMAGE)], network.give(y), perm=order)
    elif tuple(order) == TO_FILE:
        # What lies as ONNX has it is no image in the file's order yet.
        network.hold(y, Layout.IMAGE, x, Layout.FILE)
    else:
        network.add("Transpose", [network.get(x)], network.give(y), perm=order)


def read_concat(network: Network, operator: Operator) -> None:
    """CONCATENATION, with the activation that is fused into it."""
    y = network.output(operator)
    names, layout = join(network, operator, len(operator.inputs))
    axis = _axis(network, operator, network.option(operator, "Axis"), len(y.shape), layout)
    name = network.give(y, layout)
    if not network.option(operator, "FusedActivationFunction"):
        network.add("Concat", names, name, axis=axis)
        return
    linear = network.new_name(f"{name}:linear")
    network.add("Concat", names, linear, node=name, axis=axis)
    activate(network, operator, linear, y, name)


def read_pack(network: Network, operator: Operator) -> None:
    """PACK: inputs side by side in a dimension of their own."""
    y = network.output(operator)
    axis = network.option(operator, "Axis") % max(len(y.shape), 1)
    places = network.add_constant(f"{y.name}:axis", np.array([axis], np.int64))
    parts = []
    for index in range(len(operator.inputs)):
        tensor = network.tensor(operator, index)
        part = network.new_name(f"{y.name}:part")
        network.copy_record(tensor, part)
        parts.append(network.add("Unsqueeze", [network.get(tensor), places], part))
    network.add("Concat", parts, network.give(y), axis=axis)


def read_unpack(network: Network, operator: Operator) -> None:
    """UNPACK: the parts of a dimension, which goes."""
    x = network.tensor(operator, 0)
    axis = network.option(operator, "Axis") % max(len(x.shape), 1)
    parts = [network.new_name(f"{x.name}:part") for _ in operator.outputs]
    network.add("Split", [network.get(x)], parts, axis=axis, num_outputs=len(parts))
    places = network.add_constant(f"{x.name}:axis", np.array([axis], np.int64))
    for index, part in enumerate(parts):
        network.copy_record(x, part)
        y = network.output(operator, index)
        network.add("Squeeze", [part, places], network.give(y))


def read_split(network: Network, operator: Operator) -> None:
    """SPLIT and SPLIT_V."""
    first = operator.code == "SPLIT"
    x = network.tensor(operator, 1 if first else 0)
    found = network.integers(operator, 0 if first else 2)
    if len(found) != 1:
        network.refuse(operator, "its dimension is no single number")
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    axis = _axis(network, operator, found[0], len(x.shape), layout)
    sizes = [
        network.output(operator, index).shape[found[0] % len(x.shape)]
        for index in range(len(operator.outputs))
    ]
    name = network.add_constant(f"{x.name}:sizes", np.array(sizes, np.int64))
    outputs = [network.output(operator, index) for index in range(len(sizes))]
    network.add(
        "Split",
        [network.get(x, layout), name],
        [network.give(y, layout) for y in outputs],
        axis=axis,
    )


def read_slice(network: Network, operator: Operator) -> None:
    """SLICE by constant beginnings and sizes, -1 for all that is left."""
    x, y = network.tensor(operator, 0), network.output(operator)
    begins, sizes = network.integers(operator, 1), network.integers(operator, 2)
    if not len(begins) == len(sizes) == len(x.shape):
        network.refuse(operator, f"its bounds do not fit {len(x.shape)} dimensions")
    if min(begins, default=0) < 0 or any(size < 1 and size != -1 for size in sizes):
        network.refuse(operator, f"it cuts {sizes} elements from {begins} on")
    ends = [
        np.iinfo(np.int64).max if size == -1 else begin + size
        for begin, size in zip(begins, sizes, strict=True)
    ]
    _cut(network, x, y, begins, ends, [1] * len(begins))


def read_strided_slice(network: Network, operator: Operator) -> None:
    """STRIDED_SLICE by constants, without new dimensions or an ellipsis."""
    x, y = network.tensor(operator, 0), network.output(operator)
    for mask in ("EllipsisMask", "NewAxisMask"):
        if network.option(operator, mask):
            network.refuse(operator, f"its {mask} is not supported")
    begins, ends, steps = (network.integers(operator, index) for index in (1, 2, 3))
    rank = len(x.shape)
    if not len(begins) == len(ends) == len(steps) <= rank or min(steps, default=1) < 1:
        network.refuse(operator, f"its bounds do not fit {rank} dimensions, or go backwards")
    whole = range(len(begins))
    begin_mask, end_mask = (network.option(operator, f"{end}Mask") for end in ("Begin", "End"))
    shrink = network.option(operator, "ShrinkAxisMask")
    begins = [0 if begin_mask >> axis & 1 else begins[axis] for axis in whole]
    ends = [np.iinfo(np.int64).max if end_mask >> axis & 1 else ends[axis] for axis in whole]
    gone = [axis for axis in whole if shrink >> axis & 1]
    for axis in gone:
        ends[axis] = begins[axis] + 1 if begins[axis] != -1 else np.iinfo(np.int64).max
    if not gone:
        _cut(network, x, y, begins, ends, steps)
        return
    name = network.new_name(f"{y.name}:cut")
    network.copy_record(x, name)
    network.add("Slice", [network.get(x), *_bounds(network, y, begins, ends, steps, None)], name)
    places = network.add_constant(f"{y.name}:axes", np.array(gone, np.int64))
    network.add("Squeeze", [name, places], network.give(y))


def read_pad(network: Network, operator: Operator) -> None:
    """PAD, PADV2 and MIRROR_PAD by constants."""
    x, y = network.tensor(operator, 0), network.output(operator)
    amounts = network.integers(operator, 1)
    rank = len(x.shape)
    if len(amounts) != 2 * rank or min(amounts, default=0) < 0:
        network.refuse(operator, f"its padding {amounts} does not fit {rank} dimensions")
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    if rank == 4 and any(amounts[2:6]) and not any(amounts[:2] + amounts[6:]):
        layout = Layout.IMAGE
    order = [0, 3, 1, 2] if layout is Layout.IMAGE else list(range(rank))
    pads = [amounts[2 * axis] for axis in order] + [amounts[2 * axis + 1] for axis in order]
    inputs = [
        network.get(x, layout),
        network.add_constant(f"{y.name}:pads", np.array(pads, np.int64)),
    ]
    if operator.code == "MIRROR_PAD":
        mode = _MIRRORS.get(network.option(operator, "Mode"))
        if mode is None:
            network.refuse(operator, "it repeats the border's elements, which is not supported")
        network.add("Pad", inputs, network.give(y, layout), mode=mode)
        return
    fill = network.optional(operator, 2)
    if fill is not None:
        if not network.is_constant(fill) or math.prod(fill.shape) != 1:
            network.refuse(operator, "what it pads with is computed")
        value = network.reals(fill).astype(np.float32).reshape(())
        inputs.append(network.add_constant(f"{y.name}:fill", value))
    network.add("Pad", inputs, network.give(y, layout))


def read_resize(network: Network, operator: Operator) -> None:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR to a constant size."""
    x, y = network.tensor(operator, 0), network.output(operator)
    size = network.integers(operator, 1)
    if len(size) != 2 or len(x.shape) != 4 or min(size) < 1:
        network.refuse(operator, f"it does not resize an image to {size}")
    nearest = operator.code == "RESIZE_NEAREST_NEIGHBOR"
    if operator.options.get("AlignCorners"):
        mode, rounding = "align_corners", "round_prefer_ceil"
    elif operator.options.get("HalfPixelCenters"):
        # floor((i + 0.5) * s) is (i + 0.5) * s - 0.5, rounded with halves up.
        mode, rounding = "half_pixel", "round_prefer_ceil"
    else:
        mode, rounding = "asymmetric", "floor"
    attributes = {"nearest_mode": rounding} if nearest else {}
    network.add(
        "Resize",
        [network.get(x, Layout.IMAGE), "", *_sizes(network, x, y, size)],
        network.give(y, Layout.IMAGE),
        mode=_RESIZES[operator.code],
        coordinate_transformation_mode=mode,
        **attributes,
    )


def read_depth_to_space(network: Network, operator: Operator) -> None:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH: blocks of places from or to channels, the places outermost."""
    x, y = network.tensor(operator, 0), network.output(operator)
    size = network.option(operator, "BlockSize")
    if len(x.shape) != 4 or size < 1:
        network.refuse(operator, f"it cannot make blocks of {size} of {list(x.shape)}")
    source = network.get(x, Layout.IMAGE)
    if operator.code == "DEPTH_TO_SPACE":
        network.add(
            "DepthToSpace", [source], network.give(y, Layout.IMAGE), blocksize=size, mode="DCR"
        )
    else:
        network.add("SpaceToDepth", [source], network.give(y, Layout.IMAGE), blocksize=size)


def read_gather(network: Network, operator: Operator) -> None:
    """GATHER without leading dimensions of its own."""
    x, y = network.tensor(operator, 0), network.output(operator)
    if network.option(operator, "BatchDims"):
        network.refuse(operator, "its leading dimensions are gathered one by one")
    indices = network.get(network.tensor(operator, 1))
    axis = network.option(operator, "Axis") % max(len(x.shape), 1)
    network.add("Gather", [network.get(x), indices], network.give(y), axis=axis)


def read_quantize(network: Network, operator: Operator) -> None:
    """QUANTIZE: the same numbers on a grid, or on another one."""
    x, y = network.tensor(operator, 0), network.output(operator)
    if y.grid is None:
        network.refuse(operator, "its output has no scale")
    if not network.is_constant(x) and (
        y.type == WIDE or (x.type != WIDE and network.grid(x) is None and not network.has_record(x))
    ):
        network.alias(y, x)
        return
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    network.add("Identity", [network.get(x, layout)], network.give(y, layout))


def read_dequantize(network: Network, operator: Operator) -> None:
    """DEQUANTIZE: the numbers that codes or short floats stand for, at once where they are constant."""
    x, y = network.tensor(operator, 0), network.output(operator)
    if network.is_constant(x):
        reals = network.reals(x).astype(np.float32)
        network.tensors[y.index] = dataclasses.replace(y, type="FLOAT32", data=reals, grid=None)
        return
    network.alias(y, x)


def read_densify(network: Network, operator: Operator) -> None:
    """DENSIFY: the constant itself, whose zeros were filled in when the file was read."""
    x, y = network.tensor(operator, 0), network.output(operator)
    if not network.is_constant(x) or x.type != y.type or x.shape != y.shape:
        network.refuse(operator, "it makes another tensor of what it reads")
    network.tensors[y.index] = dataclasses.replace(y, data=x.data, grid=y.grid or x.grid)


def read_cast(network: Network, operator: Operator) -> None:
    """CAST to a type of numbers."""
    x, y = network.tensor(operator, 0), network.output(operator)
    types = {
        "BOOL": onnx.TensorProto.BOOL,
        "INT32": onnx.TensorProto.INT32,
        "INT64": onnx.TensorProto.INT64,
        **dict.fromkeys(FLOAT_TYPES, onnx.TensorProto.FLOAT),
    }
    if y.type not in types or x.type not in types:
        network.refuse(operator, f"it makes {y.type} of {x.type}, which is not supported")
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    network.add("Cast", [network.get(x, layout)], network.give(y, layout), to=types[y.type])


def _sizes(network: Network, x: Tensor, y: Tensor, size: Sequence[int]) -> list[str]:
    """Returns the last operands of a Resize: factors where the batch is open, whole sizes else.

    ONNX Runtime 1.31 takes a Resize of two dimensions apart wrongly where a Transpose comes before it.
    """
    if x.signature[0] is not None:
        whole = np.array([x.shape[0], x.shape[3], *size], np.int64)
        return ["", network.add_constant(f"{y.name}:size", whole)]
    factors = np.ones(4, np.float32)
    for place, (old, new) in enumerate(zip(x.shape[1:3], size, strict=True)):
        factor = np.float32(new) / np.float32(max(old, 1))
        while int(np.float32(old) * factor) < new:
            factor = np.nextafter(factor, np.float32(np.inf))
        factors[2 + place] = factor
    return [network.add_constant(f"{y.name}:factors", factors)]


def _is_plain_image(x: Tensor, y: Tensor) -> bool:
    """Returns whether ``x``, reshaped to ``y``, is that image with its channels second: it has one channel."""
    if not len(x.shape) == len(y.shape) == 4 or None in (*x.signature[1:], *y.signature[1:]):
        return False
    batch, height, width, channels = y.shape
    return channels == 1 and x.shape == (batch, channels, height, width)


def _change_rank(network: Network, operator: Operator, x: Tensor, y: Tensor) -> None:
    """SQUEEZE and EXPAND_DIMS by their dimensions, where several sizes are open."""
    rank = len(x.shape)
    if operator.code == "EXPAND_DIMS":
        axes = [axis % (rank + 1) for axis in network.integers(operator, 1)]
        op = "Unsqueeze"
    else:
        axes = [int(axis) % rank for axis in operator.options.get("SqueezeDims", [])]
        axes = axes or [axis for axis, size in enumerate(x.signature) if size == 1]
        op = "Squeeze"
    places = network.add_constant(f"{y.name}:axes", np.array(axes, np.int64))
    network.add(op, [network.get(x), places], network.give(y))


def _reshape(network: Network, source: str, y: Tensor, target: Sequence[int]) -> None:
    shape = network.add_constant(f"{y.name}:shape", np.array(target, np.int64))
    network.add("Reshape", [source, shape], network.give(y))


def _target(network: Network, operator: Operator, y: Tensor) -> list[int]:
    """Returns the shape that a result takes: as the file says, or as it was when the file was made."""
    said = [int(size) for size in operator.options.get("NewShape", [])]
    if operator.code == "RESHAPE":
        constant = network.constant(operator, 1)
        if constant is not None:
            said = [int(size) for size in constant.reshape(-1)]
        if said and said.count(-1) <= 1 and min(said) >= -1 and 0 not in said:
            return said
    target = [-1 if size is None else size for size in y.signature]
    if target.count(-1) > 1:
        network.refuse(operator, "several dimensions of its result are open: fix them in the file")
    return target


def _fold(network: Network, y: Tensor, x: Tensor, shape: Sequence[int]) -> None:
    """Makes ``y`` the constant ``x`` in another shape."""
    array = network.elements(x)
    assert array is not None
    if array.size != math.prod(shape):
        network.fail(f"tensor '{y.name}' of shape {list(shape)} cannot hold '{x.name}'")
    network.tensors[y.index] = dataclasses.replace(y, data=array.reshape(shape))


def _cut(
    network: Network,
    x: Tensor,
    y: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    steps: Sequence[int],
) -> None:
    layout = Layout.IMAGE if network.is_image(x) else Layout.FILE
    axes = [_PLACES[axis] if layout is Layout.IMAGE else axis for axis in range(len(begins))]
    bounds = _bounds(network, y, begins, ends, steps, axes)
    network.add("Slice", [network.get(x, layout), *bounds], network.give(y, layout))


def _bounds(
    network: Network,
    y: Tensor,
    begins: Sequence[int],
    ends: Sequence[int],
    steps: Sequence[int],
    axes: Sequence[int] | None,
) -> list[str]:
    """Adds the operands of a Slice besides what it cuts."""
    axes = range(len(begins)) if axes is None else axes
    return [
        network.add_constant(f"{y.name}:{name}", np.array(numbers, np.int64))
        for name, numbers in (("begin", begins), ("end", ends), ("axes", axes), ("step", steps))
    ]


def _axis(network: Network, operator: Operator, axis: int, rank: int, layout: Layout) -> int:
    """Returns where a dimension of the file's order lies in ``layout``."""
    if not -rank <= axis < rank:
        network.refuse(operator, f"its dimension {axis} is none of {rank}")
    return _PLACES[axis % rank] if layout is Layout.IMAGE else axis % rank
