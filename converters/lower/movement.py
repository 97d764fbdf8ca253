"""Lowers operators that move codes and compute nothing: reshapes, transposes, joins, cuts and padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.state import (
    TO_CHANNELS_LAST,
    TO_SOURCE_ORDER,
    Lowering,
    element_count,
    keeps_bytes,
    normalized_axis,
    plan_axis,
    refuse,
    same_grid,
)
from edgekit.converters.program import (
    Concat,
    DType,
    Pad,
    Requantize,
    Reshape,
    Slice,
    Tensor,
    Transpose,
)
from edgekit.converters.quantization import ActivationQuantization, get_quantization

_FULLY_CONNECTED = frozenset({"Gemm", "MatMul"})


def lower_identity(lowering: Lowering, node: ir.Node) -> None:
    """Identity and Dropout in inference: the input's tensor, or its codes on another grid."""
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = lowering.constant(node, 2)
        if training is None or training.any():
            refuse(node, "it drops elements at random, as in training")
    x = lowering.elements(node, 0)
    record = get_quantization(node.outputs[0])
    if x.dtype is DType.FLOAT32 and isinstance(record, ActivationQuantization):
        # A copy that is rounded, of a value that is read unrounded too.
        lowering.quantized(node.outputs[0], x, record)
        return
    grid = lowering.moved_grid(node, x)
    if lowering.is_on_grid(x, grid):
        lowering.bind(node.outputs[0], x)
        return
    y = lowering.add_output(node, x.shape, grid, channels_last=x.channels_last)
    lowering.emit(
        Requantize(name=lowering.op_name(node), input=x.name, output=y.name, lo=grid.lo, hi=grid.hi)
    )


def lower_reshape(lowering: Lowering, node: ir.Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze."""
    x = lowering.elements(node, 0)
    shape = _SHAPE_RULES[node.op_type](lowering, node, x.source_shape)
    if element_count(shape) != x.size:
        refuse(node, f"{list(x.source_shape)} cannot take the shape {list(shape)}")
    x = lowering.on_grid(node, x, lowering.moved_grid(node, x))
    if x.channels_last and not keeps_bytes(x.source_shape, TO_CHANNELS_LAST):
        batch, height, width, channels = x.shape
        if shape == (batch, x.size // batch) and _feeds_fully_connected(node.outputs[0]):
            _emit_reshape(lowering, node, x, shape, flattened=(channels, height, width))
            return
        x = lowering.source_order(x)
    _emit_reshape(lowering, node, x, shape)


def lower_transpose(lowering: Lowering, node: ir.Node) -> None:
    """Transpose, in whatever layout the input has."""
    x = lowering.elements(node, 0)
    rank = len(x.shape)
    permutation = (
        tuple(node.attributes["perm"].as_ints())
        if "perm" in node.attributes
        else tuple(reversed(range(rank)))
    )
    if sorted(permutation) != list(range(rank)):
        refuse(node, f"its perm {list(permutation)} does not order {rank} dimensions")
    grid = lowering.moved_grid(node, x)
    x = lowering.on_grid(node, x, grid)
    if permutation == TO_SOURCE_ORDER and not x.channels_last:
        # Channels lie last already, which is how images are held.
        y = lowering.add_output(node, x.shape, grid, channels_last=True)
        lowering.emit(Reshape(name=lowering.op_name(node), input=x.name, output=y.name))
        return
    order = tuple(plan_axis(axis, channels_last=x.channels_last) for axis in permutation)
    y = lowering.add_output(
        node, [x.shape[axis] for axis in order], grid, channels_last=False, dtype=x.dtype
    )
    name = lowering.op_name(node)
    if keeps_bytes(x.shape, order):
        lowering.emit(Reshape(name=name, input=x.name, output=y.name))
    else:
        lowering.emit(Transpose(name=name, input=x.name, output=y.name, permutation=order))


def lower_concat(lowering: Lowering, node: ir.Node) -> None:
    """Concat; parts on another grid are requantized by the operator itself."""
    parts = [lowering.elements(node, index) for index in range(len(node.inputs))]
    rank = len(parts[0].shape)
    axis = normalized_axis(node, node.attributes["axis"].as_int(), rank)
    if any(part.channels_last for part in parts) and rank == 4:
        parts = [lowering.channels_last(part) for part in parts]
    channels_last = parts[0].channels_last
    place = plan_axis(axis, channels_last=channels_last)
    for part in parts[1:]:
        rest = [size for index, size in enumerate(part.shape) if index != place]
        if len(part.shape) != rank or rest != [
            size for index, size in enumerate(parts[0].shape) if index != place
        ]:
            refuse(node, "its inputs differ in more than the dimension that joins them")
    shape = list(parts[0].shape)
    shape[place] = sum(part.shape[place] for part in parts)
    grid = lowering.grid(node)
    y = lowering.add_output(node, shape, grid, channels_last=channels_last, dtype=parts[0].dtype)
    lowering.emit(
        Concat(
            name=lowering.op_name(node),
            parts=tuple(part.name for part in parts),
            output=y.name,
            axis=place,
        )
    )


def lower_pad(lowering: Lowering, node: ir.Node) -> None:
    """Pad with a constant, or with what lies at the border."""
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if mode not in ("constant", "edge", "reflect"):
        refuse(node, f"it pads in mode {mode!r}")
    x = lowering.elements(node, 0)
    rank = len(x.shape)
    amounts = _integers(lowering, node, 1, "pads")
    if amounts is None:
        refuse(node, "its pads are computed or missing")
    axes = _integers(lowering, node, 3, "axes") or list(range(rank))
    if len(amounts) != 2 * len(axes) or min(amounts, default=0) < 0:
        refuse(node, f"its pads {amounts} do not fit {len(axes)} dimensions or cut instead")
    pads = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        place = plan_axis(normalized_axis(node, axis, rank), channels_last=x.channels_last)
        pads[place] = (amounts[index], amounts[index + len(axes)])
    grid = lowering.moved_grid(node, x)
    x = lowering.on_grid(node, x, grid)
    if mode != "constant":
        _pad_from_border(lowering, node, x, pads, grid, reflect=mode == "reflect")
        return
    real = _fill(lowering, node)
    if x.dtype not in (DType.CODE, DType.FLOAT32) and real != 0:
        refuse(node, f"it pads {x.dtype.value} with {real:g}, not with 0")
    bounded = np.clip(
        np.float32(real) / np.float32(grid.scale), -128 - grid.zero_point, 127 - grid.zero_point
    )
    y = lowering.add_output(
        node,
        [size + sum(pads[index]) for index, size in enumerate(x.shape)],
        grid,
        channels_last=x.channels_last,
        dtype=x.dtype,
    )
    lowering.emit(
        Pad(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            pads=tuple(pads),
            value=grid.zero_point + int(np.rint(bounded)) if x.dtype is DType.CODE else 0,
            real=float(np.float32(real)) if x.dtype is DType.FLOAT32 else 0.0,
        )
    )


def _fill(lowering: Lowering, node: ir.Node) -> float:
    """Returns what a Pad fills with."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        constant = lowering.constant(node, 2)
        if constant is None or constant.size != 1:
            refuse(node, "what it pads with is computed")
        return float(constant.astype(np.float64).reshape(()))
    return node.attributes["value"].as_float() if "value" in node.attributes else 0.0


def _pad_from_border(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    pads: Sequence[tuple[int, int]],
    grid: ActivationQuantization,
    *,
    reflect: bool,
) -> None:
    """Joins ``x`` with what it is padded with, one dimension after another."""
    padded = [axis for axis, pair in enumerate(pads) if any(pair)] or [0]
    for axis in padded:
        size = x.shape[axis]
        before, after = pads[axis]
        if reflect and max(before, after) >= size:
            refuse(node, f"it reflects {max(before, after)} elements of {size}")
        if reflect:
            parts = [
                _cut(lowering, node, x, axis, before, before, -1),
                x,
                _cut(lowering, node, x, axis, size - 2, after, -1),
            ]
        else:
            parts = [_cut(lowering, node, x, axis, 0, 1, 1)] * before
            parts += [x, *[_cut(lowering, node, x, axis, size - 1, 1, 1)] * after]
        shape = list(x.shape)
        shape[axis] += before + after
        if axis == padded[-1]:
            y = lowering.add_output(node, shape, grid, channels_last=x.channels_last, dtype=x.dtype)
        else:
            y = lowering.new_tensor(replace(x, name=f"{x.name}:padded", shape=tuple(shape)))
        names = tuple(part.name for part in parts if part is not None)
        lowering.emit(Concat(name=lowering.op_name(node), parts=names, output=y.name, axis=axis))
        x = y


def _cut(
    lowering: Lowering, node: ir.Node, x: Tensor, axis: int, begin: int, count: int, step: int
) -> Tensor | None:
    """Returns ``count`` elements of dimension ``axis``, None where there are none to cut."""
    if count == 0:
        return None
    shape = [count if place == axis else size for place, size in enumerate(x.shape)]
    y = lowering.new_tensor(replace(x, name=f"{x.name}:border", shape=tuple(shape)))
    rank = len(shape)
    lowering.emit(
        Slice(
            name=lowering.op_name(node, ":border"),
            input=x.name,
            output=y.name,
            begin=tuple(begin if place == axis else 0 for place in range(rank)),
            step=tuple(step if place == axis else 1 for place in range(rank)),
        )
    )
    return y


def lower_depth_to_space(lowering: Lowering, node: ir.Node) -> None:
    """DepthToSpace: a transpose of six dimensions, in both of ONNX's orders of channels."""
    size = node.attributes["blocksize"].as_int()
    x = lowering.source_order(_image(lowering, node))
    batch, channels, height, width = x.shape
    if channels % (size * size):
        refuse(node, f"{channels} channels do not make blocks of {size} x {size}")
    depth = channels // (size * size)
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "DCR"
    if mode == "DCR":
        split, order = (batch, size, size, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (batch, depth, size, size, height, width), (0, 1, 4, 2, 5, 3)
    _move_blocks(lowering, node, x, split, order, (batch, depth, height * size, width * size))


def lower_space_to_depth(lowering: Lowering, node: ir.Node) -> None:
    """SpaceToDepth: a transpose of six dimensions."""
    size = node.attributes["blocksize"].as_int()
    x = lowering.source_order(_image(lowering, node))
    batch, channels, height, width = x.shape
    if height % size or width % size:
        refuse(node, f"an image of {height} x {width} has no blocks of {size} x {size}")
    split = (batch, channels, height // size, size, width // size, size)
    shape = (batch, channels * size * size, height // size, width // size)
    _move_blocks(lowering, node, x, split, (0, 3, 5, 1, 2, 4), shape)


def _image(lowering: Lowering, node: ir.Node) -> Tensor:
    x = lowering.elements(node, 0)
    if len(x.shape) != 4:
        refuse(node, f"it takes a tensor of rank {len(x.shape)}, not 4")
    return x


def _move_blocks(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    split: Sequence[int],
    order: Sequence[int],
    shape: Sequence[int],
) -> None:
    grid = lowering.moved_grid(node, x)
    x = lowering.on_grid(node, x, grid)
    y = lowering.add_output(node, shape, grid, channels_last=False, dtype=x.dtype)
    blocks = lowering.reshaped(x, split, f"{y.name}:blocks")
    moved = lowering.new_tensor(
        replace(blocks, name=f"{y.name}:moved", shape=tuple(split[axis] for axis in order))
    )
    lowering.emit(
        Transpose(
            name=lowering.op_name(node, ":move"),
            input=blocks.name,
            output=moved.name,
            permutation=tuple(order),
        )
    )
    lowering.emit(Reshape(name=lowering.op_name(node), input=moved.name, output=y.name))


def lower_slice(lowering: Lowering, node: ir.Node) -> None:
    """Slice with constant bounds, forwards or backwards."""
    x = lowering.elements(node, 0)
    rank = len(x.shape)
    starts, ends = (
        _integers(lowering, node, index, name) for index, name in ((1, "starts"), (2, "ends"))
    )
    if starts is None or ends is None:
        refuse(node, "its bounds are computed or missing")
    axes = _integers(lowering, node, 3, "axes") or list(range(len(starts)))
    steps = _integers(lowering, node, 4, "steps") or [1] * len(starts)
    if 0 in steps:
        refuse(node, "it has a step of 0")
    begin, step, shape = [0] * rank, [1] * rank, list(x.shape)
    for first, last, axis, stride in zip(starts, ends, axes, steps, strict=True):
        place = plan_axis(normalized_axis(node, axis, rank), channels_last=x.channels_last)
        begin[place], stop, step[place] = slice(first, last, stride).indices(x.shape[place])
        shape[place] = len(range(begin[place], stop, stride))
    _emit_slice(lowering, node, x, begin, step, shape, 0)


def lower_split(lowering: Lowering, node: ir.Node) -> None:
    """Split, as one slice an output."""
    x = lowering.elements(node, 0)
    rank = len(x.shape)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    place = plan_axis(normalized_axis(node, axis, rank), channels_last=x.channels_last)
    total, count = x.shape[place], len(node.outputs)
    sizes = _integers(lowering, node, 1, "split")
    if sizes is None:
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            refuse(node, "its sizes are computed")
        size = -(-total // count)
        sizes = [min(size, total - index * size) for index in range(count)]
    if len(sizes) != count or sum(sizes) != total:
        refuse(node, f"its sizes {sizes} do not add up to {total}")
    first = 0
    for index, size in enumerate(sizes):
        begin, shape = [0] * rank, list(x.shape)
        begin[place], shape[place] = first, size
        _emit_slice(lowering, node, x, begin, [1] * rank, shape, index)
        first += size


def _emit_slice(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    begin: Sequence[int],
    step: Sequence[int],
    shape: Sequence[int],
    index: int,
) -> None:
    grid = lowering.moved_grid(node, x, index)
    source = x if same_grid(x, grid) else lowering.on_grid(node, x, grid)
    y = lowering.add_output(
        node, shape, grid, channels_last=x.channels_last, index=index, dtype=x.dtype
    )
    lowering.emit(
        Slice(
            name=lowering.op_name(node, f":{index}" if len(node.outputs) > 1 else ""),
            input=source.name,
            output=y.name,
            begin=tuple(begin),
            step=tuple(step),
        )
    )


def _emit_reshape(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    shape: Sequence[int],
    *,
    flattened: tuple[int, int, int] | None = None,
) -> None:
    grid = lowering.moved_grid(node, x)
    y = lowering.add_output(
        node, shape, grid, channels_last=False, flattened=flattened, dtype=x.dtype
    )
    lowering.emit(Reshape(name=lowering.op_name(node), input=x.name, output=y.name))


def _feeds_fully_connected(value: ir.Value) -> bool:
    """Returns whether ``value`` is read by nothing but the first operand of layers with constant weights."""
    uses = value.uses()
    return (
        bool(uses)
        and not value.is_graph_output()
        and all(
            use.node.op_type in _FULLY_CONNECTED
            and use.idx == 0
            and use.node.inputs[1] is not None
            and use.node.inputs[1].const_value is not None
            for use in uses
        )
    )


def _integers(lowering: Lowering, node: ir.Node, index: int, attribute: str) -> list[int] | None:
    """Returns a list that is a constant input, or an attribute in older opsets; None where it is neither.

    Raises:
        ModelError: It is a computed input.
    """
    constant = lowering.constant(node, index)
    if constant is not None:
        return [int(number) for number in constant.reshape(-1)]
    if index < len(node.inputs) and node.inputs[index] is not None:
        refuse(node, f"its input {attribute!r} is computed")
    if attribute in node.attributes:
        return list(node.attributes[attribute].as_ints())
    return None


def _shape_of_reshape(
    lowering: Lowering, node: ir.Node, source: tuple[int, ...]
) -> tuple[int, ...]:
    wanted = _integers(lowering, node, 1, "shape")
    if wanted is None:
        refuse(node, "its shape is computed")
    keep_zero = "allowzero" in node.attributes and node.attributes["allowzero"].as_int() != 0
    if wanted.count(-1) > 1 or (not keep_zero and 0 in wanted[len(source) :]):
        refuse(node, f"its shape {wanted} is ambiguous")
    shape = [
        source[index] if size == 0 and not keep_zero else size for index, size in enumerate(wanted)
    ]
    if -1 in shape:
        known = element_count([size for size in shape if size != -1])
        shape[shape.index(-1)] = element_count(source) // known if known else 0
    return tuple(shape)


def _shape_of_flatten(
    lowering: Lowering, node: ir.Node, source: tuple[int, ...]
) -> tuple[int, ...]:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    if axis != len(source):
        axis = normalized_axis(node, axis, len(source))
    return (element_count(source[:axis]), element_count(source[axis:]))


def _shape_of_squeeze(
    lowering: Lowering, node: ir.Node, source: tuple[int, ...]
) -> tuple[int, ...]:
    axes = _integers(lowering, node, 1, "axes")
    if axes is None:
        return tuple(size for size in source if size != 1)
    dropped = {normalized_axis(node, axis, len(source)) for axis in axes}
    return tuple(size for index, size in enumerate(source) if index not in dropped)


def _shape_of_unsqueeze(
    lowering: Lowering, node: ir.Node, source: tuple[int, ...]
) -> tuple[int, ...]:
    axes = _integers(lowering, node, 1, "axes")
    if axes is None:
        refuse(node, "its axes are computed or missing")
    rank = len(source) + len(axes)
    added = {normalized_axis(node, axis, rank) for axis in axes}
    rest = iter(source)
    return tuple(1 if index in added else next(rest) for index in range(rank))


_SHAPE_RULES: dict[str, Callable[[Lowering, ir.Node, tuple[int, ...]], tuple[int, ...]]] = {
    "Reshape": _shape_of_reshape,
    "Flatten": _shape_of_flatten,
    "Squeeze": _shape_of_squeeze,
    "Unsqueeze": _shape_of_unsqueeze,
}
