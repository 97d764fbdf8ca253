"""Whether a sparse kernel takes a layer: where blocks of zeros are many enough that it is the faster one.

Every choice gives the same bytes of output; only time differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit import _native
from edgekit.converters.program import Int8Array
from edgekit.converters.prune.break_even import BreakEven, Shape, find_break_even
from edgekit.converters.prune.pattern import Blocks

# Below this the table says little: its rows are lines through measured times, of the nearest shape.
_LEAST_SPEEDUP = 1.03
# Steps along k are numbered by 16 bits.
_MOST_STEPS = 1 << 16


@dataclass(frozen=True)
class SparseGain:
    """What a sparse kernel gains over the dense ones.

    Attributes:
        kernel: A row of csrc/kernels/sparse_gemm/kernels.inc.
        density: The share of its blocks that it multiplies.
        speedup: How many times faster it is, by the table of break-even.
    """

    kernel: _native.KernelInfo
    density: float
    speedup: float


def choose_sparse(
    rows: int,
    weights: Int8Array,
    groups: int,
    isa: str,
    table: Sequence[BreakEven] | None = None,
) -> SparseGain | None:
    """Returns the sparse kernel that is faster than any dense one, or None: a pure function.

    Args:
        rows: Output positions.
        weights: ``[n, taps, k]``, of 8 bits.
        groups: Of the convolution; a sparse kernel takes one.
        isa: A token of csrc/isa/isa.inc.
        table: When it is faster; that of this version, if not given.
    """
    kernel = find_sparse(weights, groups, isa)
    if kernel is None:
        return None
    count, taps, depth = weights.shape
    shape = Shape(rows, taps * depth, count)
    row = find_break_even(isa, Blocks(kernel.nr, kernel.kr), shape, table)
    if row is None:
        return None
    density = measure_density(kernel, weights)
    gain = SparseGain(kernel, density, row.speedup(density))
    return gain if row.pays(density) and gain.speedup >= _LEAST_SPEEDUP else None


def find_sparse(weights: Int8Array, groups: int, isa: str) -> _native.KernelInfo | None:
    """Returns the sparse kernel of a set, its own or its parent's, for weights ``[n, taps, k]``, or None."""
    fits = _native.pair_sums_fit_16(np.ascontiguousarray(weights))
    kernel = _native.select_sparse_gemm(isa, fits)
    takes = groups == 1 and weights.shape[2] <= _MOST_STEPS * kernel.kr
    return kernel if takes else None


def measure_density(kernel: _native.KernelInfo, weights: Int8Array) -> float:
    """Returns the share of the kernel's blocks of weights ``[n, taps, k]`` that hold anything but zeros."""
    return _native.block_density(kernel.name, np.ascontiguousarray(weights))
