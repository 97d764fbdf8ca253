"""Lowers pools, reductions and resizing that stay float32."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.float_program import (
    FloatBinary,
    FloatFunction,
    FloatOperator,
    FloatPool,
    FloatReduce,
    FloatReduction,
    FloatUnary,
)
from edgekit.converters.lower.reductions import read_reduction
from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.passes.rewrite import attribute
from edgekit.converters.program import PoolKind, Tensor
from edgekit.converters.window import read_window

# Sums of squares, of ReduceL2 the root.
_OF_SQUARES = frozenset({"ReduceL2", "ReduceSumSquare"})
_REDUCTIONS = {
    "ReduceL2": FloatReduction.SUM,
    "ReduceMax": FloatReduction.MAX,
    "ReduceMean": FloatReduction.MEAN,
    "ReduceMin": FloatReduction.MIN,
    "ReduceSum": FloatReduction.SUM,
    "ReduceSumSquare": FloatReduction.SUM,
}
REDUCTIONS = frozenset(_REDUCTIONS)


def lower_pool(lowering: Lowering, node: ir.Node) -> None:
    """MaxPool and AveragePool of an image."""
    x = _image(lowering, node)
    kernel = list(node.attributes["kernel_shape"].as_ints())
    if len(kernel) != 2:
        refuse(node, f"its kernel has {len(kernel)} dimensions, not 2")
    try:
        window = read_window(node, kernel, x.shape[1], x.shape[2])
    except ValueError as error:
        refuse(node, str(error))
    include = bool(attribute(node, "count_include_pad", 0))
    if include and attribute(node, "ceil_mode", 0):
        refuse(node, "it counts padding and rounds its size up, which leaves the count open")
    rows, columns = window.output_size(x.shape[1], x.shape[2])
    y = lowering.add_real_output(node, (x.shape[0], rows, columns, x.shape[3]), channels_last=True)
    lowering.emit(
        FloatPool(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            pool=PoolKind.MAX if node.op_type == "MaxPool" else PoolKind.AVERAGE,
            window=window,
            count_include_pad=include,
        )
    )


def lower_global_pool(lowering: Lowering, node: ir.Node) -> None:
    """GlobalAveragePool and GlobalMaxPool, of images or of any dimensions behind the channels."""
    x = lowering.codes(node, 0)
    rank = len(x.shape)
    if rank < 3:
        refuse(node, f"it takes a tensor of rank {rank}, which has nothing behind its channels")
    image = rank == 4
    x = lowering.channels_last(x) if image else lowering.source_order(x)
    mean = node.op_type == "GlobalAveragePool"
    shape = (x.shape[0], 1, 1, x.shape[3]) if image else (*x.shape[:2], *(1,) * (rank - 2))
    y = lowering.add_real_output(node, shape, channels_last=image)
    lowering.emit(
        FloatReduce(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            reduction=FloatReduction.MEAN if mean else FloatReduction.MAX,
            begin=1 if image else 2,
            end=3 if image else rank,
        )
    )


def lower_reduce(lowering: Lowering, node: ir.Node) -> None:
    """ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceSumSquare and ReduceL2 over neighbouring dimensions."""
    x = lowering.source_order(lowering.codes(node, 0))
    places, shape = read_reduction(lowering, node, x.shape)
    if not places:
        lowering.bind(node.outputs[0], x)
        return
    squares = node.op_type in _OF_SQUARES
    root = node.op_type == "ReduceL2"
    if squares:
        square = lowering.real_tensor(f"{x.name}:square", x.shape)
        name = lowering.op_name(node, ":square")
        lowering.emit(
            FloatBinary(
                name=name, operator=FloatOperator.MUL, a=x.name, b=x.name, output=square.name
            )
        )
        x = square
    y = lowering.add_real_output(node, shape, channels_last=False)
    total = lowering.real_tensor(f"{y.name}:sum", shape) if root else y
    lowering.emit(
        FloatReduce(
            name=lowering.op_name(node),
            input=x.name,
            output=total.name,
            reduction=_REDUCTIONS[node.op_type],
            begin=places[0],
            end=places[-1] + 1,
        )
    )
    if root:
        lowering.emit(
            FloatUnary(
                name=lowering.op_name(node, ":root"),
                input=total.name,
                output=y.name,
                function=FloatFunction.SQRT,
            )
        )


def _image(lowering: Lowering, node: ir.Node) -> Tensor:
    source = lowering.codes(node, 0)
    if len(source.shape) != 4:
        refuse(node, f"it takes a tensor of rank {len(source.shape)}, not 4")
    return lowering.channels_last(source)
