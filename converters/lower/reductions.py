"""Lowers reductions over neighbouring dimensions to pools and means of images, whose pixels are rows of elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.converters.lower.pooling import MAX_MEAN_ELEMENTS
from edgekit.converters.lower.state import Lowering, element_count, normalized_axis, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import (
    MAX_CODE,
    MIN_CODE,
    GlobalMean,
    Lookup,
    Pool,
    PoolKind,
    Reshape,
    Tensor,
    Window,
)
from edgekit.converters.quantization import ActivationQuantization

REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin"})
# Height and width of an image in the source model's order.
_PLANE = [2, 3]
# The code of -x on the mirrored grid, whose zero point is -1 - z: exact, and turns the order round.
_MIRROR = np.arange(MAX_CODE, MIN_CODE - 1, -1).astype(np.int8)


def read_reduction(
    lowering: Lowering, node: ir.Node, sizes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Returns the dimensions that a Reduce operator brings to one element each, and the shape of the result.

    There are none where it is said to do nothing.

    Args:
        lowering: The program so far.
        node: With its axes as an input, an attribute, or for all.
        sizes: Shape of its input in the source model's order.

    Raises:
        ModelError: The axes are computed, or are not neighbours.
    """
    rank = len(sizes)
    axes = lowering.constant(node, 1)
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        refuse(node, "its axes are computed")
    if axes is not None:
        given = [int(axis) for axis in axes.reshape(-1)]
    else:
        given = list(node.attributes["axes"].as_ints()) if "axes" in node.attributes else []
    places = sorted({normalized_axis(node, axis, rank) for axis in given})
    if not places and attribute(node, "noop_with_empty_axes", 0):
        return [], list(sizes)
    places = places or list(range(rank))
    if places and places != list(range(places[0], places[-1] + 1)):
        refuse(node, f"it reduces the dimensions {places}, which are not neighbours")
    keep = attribute(node, "keepdims", 1)
    return places, [
        1 if index in places else size
        for index, size in enumerate(sizes)
        if keep or index not in places
    ]


def lower_reduce(lowering: Lowering, node: ir.Node) -> None:
    """ReduceMax, ReduceMin and ReduceMean of codes."""
    x = lowering.codes(node, 0)
    places, shape = read_reduction(lowering, node, x.source_shape)
    _reduce(lowering, node, x, places, shape)


def lower_global_max_pool(lowering: Lowering, node: ir.Node) -> None:
    """GlobalMaxPool, of an image or of any dimensions behind the channels."""
    x = lowering.codes(node, 0)
    rank = len(x.shape)
    if rank < 3:
        refuse(node, f"it takes a tensor of rank {rank}, which has nothing behind its channels")
    if rank == 4:
        x = lowering.channels_last(x)
    shape = [*x.source_shape[:2], *(1 for _ in range(rank - 2))]
    _reduce(lowering, node, x, list(range(2, rank)), shape)


def _reduce(
    lowering: Lowering, node: ir.Node, x: Tensor, places: list[int], shape: list[int]
) -> None:
    """Emits the reduction of the dimensions ``places`` of ``x`` to ``shape``, both in the source model's order."""
    mean = node.op_type == "ReduceMean"
    grid = lowering.grid(node) if mean else lowering.moved_grid(node, x)
    if not mean:
        x = lowering.on_grid(node, x, grid)
    is_plane = x.channels_last and places == _PLANE
    if is_plane:
        image = x
    else:
        x = lowering.source_order(x)
        begin, end = (places[0], places[-1] + 1) if places else (0, 0)
        outer, inner = element_count(x.shape[:begin]), element_count(x.shape[end:])
        size = (outer, element_count(x.shape[begin:end]), 1, inner)
        image = lowering.reshaped(x, size, f"{x.name}:rows")
    stays_image = is_plane and len(shape) == len(image.shape)
    sizes = (image.shape[0], 1, 1, image.shape[3])
    y = lowering.add_output(node, sizes if stays_image else shape, grid, channels_last=stays_image)
    reduced = y
    if not stays_image:
        reduced = lowering.new_tensor(replace(y, name=f"{y.name}:pixels", shape=sizes))
    if mean:
        _emit_mean(lowering, node, image, reduced, grid)
    elif node.op_type == "ReduceMin":
        _emit_minimum(lowering, node, image, reduced, grid)
    else:
        _emit_maximum(lowering, node, image, reduced, (grid.lo, grid.hi))
    if reduced is not y:
        name = lowering.op_name(node, ":shape")
        lowering.emit(Reshape(name=name, input=reduced.name, output=y.name))


def _emit_mean(
    lowering: Lowering, node: ir.Node, image: Tensor, y: Tensor, grid: ActivationQuantization
) -> None:
    count = image.shape[1] * image.shape[2]
    if count > MAX_MEAN_ELEMENTS:
        refuse(node, f"the sum of {count} codes could leave int32")
    name = lowering.op_name(node)
    lowering.emit(GlobalMean(name=name, input=image.name, output=y.name, lo=grid.lo, hi=grid.hi))


def _emit_maximum(
    lowering: Lowering, node: ir.Node, image: Tensor, y: Tensor, bounds: tuple[int, int]
) -> None:
    _, height, width, _ = image.shape
    lowering.emit(
        Pool(
            name=lowering.op_name(node),
            input=image.name,
            output=y.name,
            pool=PoolKind.MAX,
            window=Window(kernel_h=height, kernel_w=width),
            lo=bounds[0],
            hi=bounds[1],
        )
    )


def _emit_minimum(
    lowering: Lowering, node: ir.Node, image: Tensor, y: Tensor, grid: ActivationQuantization
) -> None:
    """The smallest is the largest of what was mirrored at 0."""
    mirrored, largest = (
        lowering.new_tensor(
            replace(tensor, name=f"{y.name}:{part}", zero_point=-1 - tensor.zero_point)
        )
        for tensor, part in ((image, "mirrored"), (y, "largest"))
    )
    name = lowering.op_name(node, ":mirror")
    lowering.emit(Lookup(name=name, input=image.name, output=mirrored.name, table=_MIRROR))
    _emit_maximum(lowering, node, mirrored, largest, (-1 - grid.hi, -1 - grid.lo))
    name = lowering.op_name(node, ":back")
    lowering.emit(Lookup(name=name, input=largest.name, output=y.name, table=_MIRROR))
