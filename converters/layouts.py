"""Which kernel takes a layer, and how its weights meet the input: the choice by rule, and what else would do.

Every choice gives the same bytes of output; only time differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgekit import _native
from edgekit.converters.float_program import DynamicFullyConnected
from edgekit.converters.program import (
    Conv,
    DepthwiseConv,
    DType,
    FullyConnected,
    Int8Array,
    Program,
)
from edgekit.converters.sparse_layouts import (
    SparseGain,
    choose_sparse,
    find_sparse,
    measure_density,
)

Layer = Conv | DepthwiseConv | FullyConnected

# Up to this many channels, walking a kernel tap by tap costs more than gathering the patch first.
_FEW_CHANNELS = 8
# So does padding each tap's channels to the multiplication's unit, once it adds this share of products.
_MOST_PADDING = 0.2


@dataclass(frozen=True)
class Layout:
    """How a layer is computed.

    Attributes:
        kernel: A row of csrc/kernels/gemm, sparse_gemm, depthwise or shallow's kernels.inc.
        patches: Whether whole patches of a convolution are gathered, so that k runs over one instead of a tap.
    """

    kernel: str
    patches: bool = False

    def __str__(self) -> str:
        return f"{self.kernel} on gathered patches" if self.patches else self.kernel


def choose_layout(program: Program, op: Layer, isa: str) -> Layout:
    """Returns the layout by rule: a pure function of shapes, weights and instruction set."""
    match op:
        case DepthwiseConv():
            return Layout(_select_depthwise(op, isa).name)
        case FullyConnected():
            sparse = find_sparse_gain(program, op, isa)
            if sparse is not None:
                return Layout(sparse.kernel.name)
            return Layout(
                select_gemm(_rows(program, op), split_taps(op), 1, isa, op.weight_bits).name
            )
    shallow = _select_shallow(program, op, isa)
    if shallow is not None:
        return Layout(shallow.name)
    sparse = find_sparse_gain(program, op, isa)
    if sparse is not None:
        return Layout(sparse.kernel.name)
    rows = _rows(program, op)
    weights = split_taps(op)
    kernel = select_gemm(rows, weights, op.groups, isa, op.weight_bits)
    _, taps, depth = weights.shape
    unit = kernel.kr * 8 // kernel.bits
    if op.groups > 1 or taps == 1 or not _gathers_patches(taps, depth, unit):
        return Layout(kernel.name)
    return Layout(select_gemm(rows, join_taps(op), 1, isa, op.weight_bits).name, patches=True)


def list_layouts(program: Program, op: Layer, isa: str) -> tuple[Layout, ...]:
    """Returns every layout that this machine can run for a plan of `isa`, the one by rule first.

    Plain C++ is left out where an instruction set has kernels of its own.
    """
    layouts = [choose_layout(program, op, isa)]
    kin = _ancestors(isa)
    if isinstance(op, DepthwiseConv):
        layouts += [Layout(kernel.name) for kernel in _fitting(_native.depthwise_kernels(), kin)]
    else:
        kernels = [
            kernel
            for kernel in _fitting(_native.gemm_kernels(), kin)
            if kernel.bits == op.weight_bits
        ]
        layouts += [Layout(kernel.name) for kernel in kernels if _is_exact(kernel, split_taps(op))]
        layouts += [Layout(kernel.name) for kernel in _find_sparse(op, kin)]
        if isinstance(op, Conv) and op.groups == 1 and split_taps(op).shape[1] > 1:
            layouts += [
                Layout(kernel.name, patches=True)
                for kernel in kernels
                if _is_exact(kernel, join_taps(op))
            ]
    return tuple(dict.fromkeys(layouts))


def split_taps(op: Conv | FullyConnected | DynamicFullyConnected) -> Int8Array:
    """Returns the weights as ``[n, taps, k]``: one k for each tap, of all groups."""
    count, depth = len(op.weights), op.weights.shape[-1]
    return op.weights.reshape(count, -1, depth)


def join_taps(op: Conv) -> Int8Array:
    """Returns the weights as ``[n, 1, k]``: one k for the whole patch."""
    return op.weights.reshape(len(op.weights), 1, -1)


def select_gemm(
    rows: int, weights: Int8Array, groups: int, isa: str, bits: int = 8
) -> _native.KernelInfo:
    """Returns the kernel for all groups of weights ``[n, taps, k]`` of 8 or 4 bits."""
    count, taps, depth = weights.shape
    fits = _native.pair_sums_fit_16(np.ascontiguousarray(weights))
    return _native.select_gemm(isa, rows, count // groups, depth, taps, fits, bits)


def find_sparse_gain(
    program: Program, op: Conv | FullyConnected | DynamicFullyConnected, isa: str
) -> SparseGain | None:
    """Returns what the sparse kernel of a layer gains, None where it is computed by a dense one."""
    if op.weight_bits != 8:
        return None
    if isinstance(op, Conv) and _select_shallow(program, op, isa) is not None:
        return None
    groups = op.groups if isinstance(op, Conv) else 1
    return choose_sparse(_rows(program, op), split_taps(op), groups, isa)


def _find_sparse(op: Conv | FullyConnected, kin: set[str]) -> list[_native.KernelInfo]:
    """Returns the sparse kernels of these instruction sets that run here, for weights with a block of zeros."""
    if op.weight_bits != 8:
        return []
    groups = op.groups if isinstance(op, Conv) else 1
    found = [find_sparse(split_taps(op), groups, isa) for isa in sorted(kin)]
    return [
        kernel
        for kernel in _fitting([kernel for kernel in found if kernel is not None], kin)
        if measure_density(kernel, split_taps(op)) < 1
    ]


def _rows(program: Program, op: Layer | DynamicFullyConnected) -> int:
    return math.prod(program.tensors[op.output].shape[:-1])


def _select_depthwise(op: DepthwiseConv, isa: str) -> _native.KernelInfo:
    window = op.window
    return _native.select_depthwise(
        isa,
        len(op.weights),
        window.kernel_h,
        window.kernel_w,
        window.stride_w,
        window.dilation_w,
    )


def _select_shallow(program: Program, op: Conv, isa: str) -> _native.KernelInfo | None:
    """Returns the kernel that needs no gathered patches, where one takes this convolution."""
    count, kernel_h, kernel_w, depth = op.weights.shape
    codes = program.tensors[op.output].dtype is DType.CODE
    if op.groups != 1 or op.window.dilation_w != 1 or not codes:
        return None
    return _native.select_shallow(isa, count, depth, kernel_h, kernel_w)


def _gathers_patches(taps: int, depth: int, unit: int) -> bool:
    """Returns whether k should run over the whole patch instead of one tap at a time."""
    by_tap = taps * _round_up(depth, unit)
    gathered = _round_up(taps * depth, unit)
    return depth <= _FEW_CHANNELS or by_tap > gathered * (1 + _MOST_PADDING)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _ancestors(isa: str) -> set[str]:
    """Returns the instruction set and those that it contains, without plain C++ unless that is it."""
    parents = {info.name: info.parent for info in _native.isas()}
    kin = {isa}
    while parents[isa] not in kin and parents[isa] != "generic":
        isa = parents[isa]
        kin.add(isa)
    return kin


def _fitting(kernels: list[_native.KernelInfo], kin: set[str]) -> list[_native.KernelInfo]:
    """Returns the kernels of these instruction sets that run here, in the storage that the sets share."""
    storages = {info.storage for info in _native.isas() if info.name in kin}
    return [
        kernel
        for kernel in kernels
        if kernel.isa in kin and kernel.storage in storages and kernel.built and kernel.supported
    ]


def _is_exact(kernel: _native.KernelInfo, weights: Int8Array) -> bool:
    return kernel.exactness == "always" or _native.pair_sums_fit_16(np.ascontiguousarray(weights))
