"""Lowers pools over a window and over the whole image."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.lower.state import Lowering, refuse
from edgekit.converters.program import GlobalMean, Pool, PoolKind, Tensor, Window
from edgekit.converters.window import read_window

# Codes whose sum cannot leave int32.
MAX_MEAN_ELEMENTS = (2**31 - 1) // 255


def lower_max_pool(lowering: Lowering, node: ir.Node) -> None:
    """MaxPool of an image."""
    x = _image(lowering, node)
    window = _read_window(node, x)
    _emit_pool(lowering, node, x, PoolKind.MAX, window)


def lower_average_pool(lowering: Lowering, node: ir.Node) -> None:
    """AveragePool of an image; the count excludes padding unless count_include_pad says otherwise."""
    x = _image(lowering, node)
    window = _read_window(node, x)
    include = _flag(node, "count_include_pad")
    if include and _flag(node, "ceil_mode"):
        refuse(node, "it counts padding and rounds its size up, which leaves the count open")
    _emit_pool(lowering, node, x, PoolKind.AVERAGE, window, count_include_pad=include)


def lower_global_average_pool(lowering: Lowering, node: ir.Node) -> None:
    """GlobalAveragePool of an image."""
    x = _image(lowering, node)
    batch, height, width, channels = x.shape
    if height * width > MAX_MEAN_ELEMENTS:
        refuse(node, f"the sum of {height * width} codes could leave int32")
    grid = lowering.grid(node)
    y = lowering.add_output(node, (batch, 1, 1, channels), grid, channels_last=True)
    lowering.emit(
        GlobalMean(name=lowering.op_name(node), input=x.name, output=y.name, lo=grid.lo, hi=grid.hi)
    )


def _emit_pool(
    lowering: Lowering,
    node: ir.Node,
    x: Tensor,
    kind: PoolKind,
    window: Window,
    *,
    count_include_pad: bool = False,
) -> None:
    batch, height, width, channels = x.shape
    rows, columns = window.output_size(height, width)
    grid = lowering.moved_grid(node, x) if kind is PoolKind.MAX else lowering.grid(node)
    if kind is PoolKind.MAX:
        x = lowering.on_grid(node, x, grid)
    y = lowering.add_output(node, (batch, rows, columns, channels), grid, channels_last=True)
    lowering.emit(
        Pool(
            name=lowering.op_name(node),
            input=x.name,
            output=y.name,
            pool=kind,
            window=window,
            count_include_pad=count_include_pad,
            lo=grid.lo,
            hi=grid.hi,
        )
    )


def _image(lowering: Lowering, node: ir.Node) -> Tensor:
    x = lowering.codes(node, 0)
    if len(x.shape) != 4:
        refuse(node, f"it pools a tensor of rank {len(x.shape)}, not 4")
    return lowering.channels_last(x)


def _read_window(node: ir.Node, x: Tensor) -> Window:
    """Returns the node's window, every placement of which holds an element of the input."""
    if "kernel_shape" not in node.attributes:
        refuse(node, "its kernel_shape is missing")
    kernel = list(node.attributes["kernel_shape"].as_ints())
    if len(kernel) != 2:
        refuse(node, f"its kernel {kernel} is not that of an image")
    _, height, width, _ = x.shape
    try:
        window = read_window(node, kernel, height, width)
    except ValueError as error:
        refuse(node, str(error))
    rows, columns = window.output_size(height, width)
    for outputs, size, taps, stride, dilation, pad in (
        (rows, height, window.kernel_h, window.stride_h, window.dilation_h, window.pad_top),
        (columns, width, window.kernel_w, window.stride_w, window.dilation_w, window.pad_left),
    ):
        for output in range(outputs):
            first = output * stride - pad
            if not any(0 <= first + tap * dilation < size for tap in range(taps)):
                refuse(node, "one of its windows lies wholly in the padding")
    if window.kernel_h * window.kernel_w > MAX_MEAN_ELEMENTS:
        refuse(node, f"the sum over a window of {kernel} could leave int32")
    return window


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() != 0
