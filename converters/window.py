"""Reads the sliding window of a 2-D convolution or pool from the attributes of its ONNX node."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgekit.converters.program import Window

# What csrc/ops takes as padding; no network has larger strides or dilations either.
LARGEST = 65535


def read_window(node: ir.Node, kernel: Sequence[int], height: int, width: int) -> Window:
    """Returns the window of ``node`` over an input of that height and width, with its pads resolved.

    ``auto_pad`` and ``ceil_mode`` become explicit pads: an output that ceil_mode adds is one whose window starts
    inside the input or its leading padding, as ONNX's AveragePool and MaxPool say.

    Args:
        node: A Conv, MaxPool or AveragePool.
        kernel: Height and width of the kernel.
        height: Of the input.
        width: Of the input.

    Raises:
        ValueError: An attribute is not that of a 2-D window; the message says which.
    """
    strides = _pair(node, "strides")
    dilations = _pair(node, "dilations")
    auto_pad = _string(node, "auto_pad", "NOTSET")
    pads = _pads(node)
    ceil_mode = _ints(node, "ceil_mode", [0])[0] != 0
    begin, end = list(pads[:2]), list(pads[2:])
    for axis, size in enumerate((height, width)):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            outputs = -(-size // strides[axis])
            total = max((outputs - 1) * strides[axis] + span - size, 0)
            begin[axis] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            end[axis] = total - begin[axis]
        elif auto_pad == "VALID":
            begin[axis] = end[axis] = 0
        elif auto_pad != "NOTSET":
            raise ValueError(f"auto_pad {auto_pad!r} is not an ONNX mode")
        elif ceil_mode:
            room = size + begin[axis] + end[axis] - span
            outputs = -(-room // strides[axis]) + 1
            if (outputs - 1) * strides[axis] >= size + begin[axis]:
                outputs -= 1
            end[axis] += max((outputs - 1) * strides[axis] - room, 0)
    return _make_window(kernel, strides, dilations, begin, end)


def read_transposed_window(
    node: ir.Node, kernel: Sequence[int], height: int, width: int
) -> tuple[Window, tuple[int, int]]:
    """Returns the window of a ConvTranspose, and the height and width of its output.

    Args:
        node: A ConvTranspose.
        kernel: Height and width of the kernel.
        height: Of the input.
        width: Of the input.

    Raises:
        ValueError: An attribute is not that of a 2-D window; the message says which.
    """
    strides = _pair(node, "strides")
    dilations = _pair(node, "dilations")
    auto_pad = _string(node, "auto_pad", "NOTSET")
    pads = _pads(node)
    extra = _ints(node, "output_padding", [0, 0])
    shape = _ints(node, "output_shape", [])
    if len(extra) != 2 or min(extra) < 0 or max(extra) > LARGEST:
        raise ValueError(f"output_padding {extra} is not two numbers from 0 to {LARGEST}")
    begin, end, out = list(pads[:2]), list(pads[2:]), [0, 0]
    for axis, size in enumerate((height, width)):
        whole = (size - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + extra[axis]
        wanted = shape[-2:][axis] if len(shape) >= 2 else None
        if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            wanted = size * strides[axis]
        if wanted is not None:
            total = max(whole - wanted, 0)
            begin[axis] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            out[axis] = wanted
            continue
        if auto_pad == "VALID":
            begin[axis] = end[axis] = 0
        elif auto_pad != "NOTSET":
            raise ValueError(f"auto_pad {auto_pad!r} is not an ONNX mode")
        out[axis] = whole - begin[axis] - end[axis]
    # The outputs are known, so nothing has to say what lies behind them.
    window = _make_window(kernel, strides, dilations, begin, [0, 0])
    return window, (max(out[0], 0), max(out[1], 0))


def _make_window(
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    begin: Sequence[int],
    end: Sequence[int],
) -> Window:
    return Window(
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=strides[0],
        stride_w=strides[1],
        dilation_h=dilations[0],
        dilation_w=dilations[1],
        pad_top=begin[0],
        pad_left=begin[1],
        pad_bottom=end[0],
        pad_right=end[1],
    )


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.type is ir.AttributeType.INT:
        return [attribute.as_int()]
    return list(attribute.as_ints())


def _pair(node: ir.Node, name: str) -> list[int]:
    values = _ints(node, name, [1, 1])
    if len(values) != 2 or min(values) < 1 or max(values) > LARGEST:
        raise ValueError(f"{name} {values} are not two numbers from 1 to {LARGEST}")
    return values


def _pads(node: ir.Node) -> list[int]:
    values = _ints(node, "pads", [0, 0, 0, 0])
    if len(values) != 4 or min(values) < 0 or max(values) > LARGEST:
        raise ValueError(f"pads {values} are not four numbers from 0 to {LARGEST}")
    return values


def _string(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()
