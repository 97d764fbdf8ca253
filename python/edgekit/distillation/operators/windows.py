"""Convolutions and pools: what looks at an image or a signal through windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nn
from torch import Tensor

from edgekit.distillation.operators.call import Call, Operator

_CONV: dict[int, Callable[..., Tensor]] = {1: nn.conv1d, 2: nn.conv2d, 3: nn.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: nn.conv_transpose1d,
    2: nn.conv_transpose2d,
    3: nn.conv_transpose3d,
}
_MAX: dict[int, Callable[..., Tensor]] = {1: nn.max_pool1d, 2: nn.max_pool2d, 3: nn.max_pool3d}
_MEAN: dict[int, Callable[..., Tensor]] = {1: nn.avg_pool1d, 2: nn.avg_pool2d, 3: nn.avg_pool3d}


@dataclass(frozen=True)
class _Window:
    """Sizes along each dimension of an image: of the kernel, between windows, of borders before and behind."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    behind: list[int]

    def pad(self, x: Tensor, value: float, further: Sequence[int] | None = None) -> Tensor:
        """Returns ``x`` with its borders, and ``further`` elements behind them."""
        ends = (
            list(self.behind)
            if further is None
            else [a + b for a, b in zip(self.behind, further, strict=True)]
        )
        sizes = [size for pair in zip(self.before, ends, strict=True) for size in pair]
        if not any(sizes):
            return x
        backwards = [size for pair in zip(sizes[-2::-2], sizes[::-2], strict=True) for size in pair]
        return nn.pad(x, backwards, value=value)


def _read_window(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> _Window:
    rank = len(kernel)
    if len(sizes) != rank or rank not in _CONV:
        call.refuse(f"it looks at a tensor of rank {len(sizes) + 2}")
    strides = call.integers("strides") or [1] * rank
    dilations = call.integers("dilations") or [1] * rank
    mode = call.text("auto_pad", "NOTSET")
    pads = call.integers("pads") or [0] * (2 * rank)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * rank)
        for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
            small, large = missing // 2, missing - missing // 2
            pads[axis], pads[rank + axis] = (
                (small, large) if mode == "SAME_UPPER" else (large, small)
            )
    elif mode == "VALID":
        pads = [0] * (2 * rank)
    return _Window(list(kernel), strides, dilations, pads[:rank], pads[rank:])


def _conv(call: Call) -> Tensor:
    x, weight, bias = call[0], call[1], call.get(2)
    window = _read_window(call, x.shape[2:], list(weight.shape[2:]))
    groups = call.integer("group", 1)
    padding: list[int] = window.before
    if window.before != window.behind:
        x, padding = window.pad(x, 0.0), [0] * len(window.kernel)
    convolve = _CONV[len(window.kernel)]
    return convolve(x, weight, bias, window.strides, padding, window.dilations, groups)


def _conv_transpose(call: Call) -> Tensor:
    x, weight, bias = call[0], call[1], call.get(2)
    kernel = list(weight.shape[2:])
    rank = len(kernel)
    if call.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or rank not in _TRANSPOSED:
        call.refuse("its borders are not said by pads")
    strides = call.integers("strides") or [1] * rank
    dilations = call.integers("dilations") or [1] * rank
    pads = call.integers("pads") or [0] * (2 * rank)
    further = call.integers("output_padding") or [0] * rank
    wanted = call.integers("output_shape")
    whole = _TRANSPOSED[rank](x, weight, None, strides, 0, 0, call.integer("group", 1), dilations)
    cuts = []
    for axis in range(rank):
        before, behind = -pads[axis], further[axis] - pads[rank + axis]
        if wanted is not None:
            # The larger half of what is too much goes before, as ONNX has it.
            size = wanted[-rank + axis]
            spare = max(whole.shape[2 + axis] + further[axis] - size, 0)
            before = -((spare + 1) // 2)
            behind = size - whole.shape[2 + axis] - before
        cuts.append((before, behind))
    if any(cut != (0, 0) for cut in cuts):
        whole = nn.pad(whole, [size for cut in reversed(cuts) for size in cut])
    return whole if bias is None else whole + bias.reshape(1, -1, *[1] * rank)


def _pool_window(call: Call, x: Tensor) -> tuple[_Window, list[int]]:
    """Returns the window of a pool, and elements behind the border that its last windows reach."""
    kernel = call.integers("kernel_shape") or []
    window = _read_window(call, x.shape[2:], kernel)
    further = [0] * len(kernel)
    if call.integer("ceil_mode", 0):
        for axis, size in enumerate(x.shape[2:]):
            stride = window.strides[axis]
            reach = (kernel[axis] - 1) * window.dilations[axis] + 1
            padded = size + window.before[axis] + window.behind[axis]
            count = -(-(padded - reach) // stride) + 1
            # A window that begins behind the last element does not count.
            if (count - 1) * stride >= size + window.before[axis]:
                count -= 1
            further[axis] = max((count - 1) * stride + reach - padded, 0)
    return window, further


def _max_pool(call: Call) -> Tensor:
    x = call[0]
    window, further = _pool_window(call, x)
    padded = window.pad(x, -torch.inf, further)
    pool = _MAX[len(window.kernel)]
    return pool(padded, window.kernel, window.strides, 0, window.dilations)


def _average_pool(call: Call) -> Tensor:
    x = call[0]
    window, further = _pool_window(call, x)
    if any(step != 1 for step in window.dilations):
        call.refuse("its window has gaps")
    pool = _MEAN[len(window.kernel)]
    means = pool(window.pad(x, 0.0, further), window.kernel, window.strides)
    ones = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if call.integer("count_include_pad", 0):
        inside = _Window(window.kernel, window.strides, window.dilations, *[[0] * len(further)] * 2)
        ones = inside.pad(window.pad(ones, 1.0), 0.0, further)
    else:
        ones = window.pad(ones, 0.0, further)
    return means / pool(ones, window.kernel, window.strides)


def _global_average_pool(call: Call) -> Tensor:
    x = call[0]
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(call: Call) -> Tensor:
    x = call[0]
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def _local_response(call: Call) -> Tensor:
    x, size = call[0], call.integer("size", 1)
    square = nn.pad((x * x).unsqueeze(1), [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    total = square.unfold(2, size, 1).sum(dim=-1).squeeze(1)
    alpha, beta = call.number("alpha", 1e-4), call.number("beta", 0.75)
    base = total * (alpha / size) + call.number("bias", 1.0)
    return x / base**beta


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "LRN": _local_response,
    "MaxPool": _max_pool,
}
