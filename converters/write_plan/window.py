"""The fields of a window by their names in csrc/runtime/plan.fbs."""

from __future__ import annotations

from edgekit.converters.program import Window


def window_fields(window: Window) -> dict[str, int]:
    """Returns the fields of a convolution or a pool."""
    return {
        "kernelH": window.kernel_h,
        "kernelW": window.kernel_w,
        "strideH": window.stride_h,
        "strideW": window.stride_w,
        "dilationH": window.dilation_h,
        "dilationW": window.dilation_w,
        "padTop": window.pad_top,
        "padLeft": window.pad_left,
        "padBottom": window.pad_bottom,
        "padRight": window.pad_right,
    }


def transposed_window_fields(window: Window) -> dict[str, int]:
    """Returns the fields of a transposed convolution, whose output's shape says what the other pads would."""
    fields = window_fields(window)
    return {name: fields[name] for name in fields if name not in ("padBottom", "padRight")}
