"""Constants with which a layer is requantized in one multiplication and addition, where that is proved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.program import Conv, DType, FullyConnected, Int32Array, Tensor
from edgekit.converters.quantize.settle_scales import most_products

_SPARSE = frozenset(kernel.name for kernel in _native.sparse_gemm_kernels())


def pack_fused(
    op: Conv | FullyConnected,
    kernel: _native.KernelInfo,
    output: Tensor,
    stored_bias: Int32Array,
    add_blob: Callable[[Any], Any],
) -> schema.FusedRequantizeT | None:
    """Returns the table of FusedRequantize for the codes of a layer, or None where it has none.

    Args:
        op: The layer.
        kernel: A row of kernels.inc in csrc/kernels/gemm or csrc/kernels/sparse_gemm.
        output: What the layer writes.
        stored_bias: int32 ``[n]``, as the plan holds it.
        add_blob: Puts an array into the plan's constants.
    """
    rows = op.weights.reshape(len(op.weights), -1)
    has_sum = isinstance(op, Conv) and op.residual is not None
    if has_sum or output.dtype is not DType.CODE:
        return None
    is_sparse = kernel.name in _SPARSE
    depth = most_products(rows) if is_sparse else rows.shape[1]
    if depth > kernel.most_fused_depth:
        return None
    shift, most = (128, 255) if kernel.storage == "u8" else (0, 128)
    zero_point = output.zero_point if op.table is None else op.table.zero_point
    found = _native.fuse_requantize(
        kernel.name,
        op.groups if isinstance(op, Conv) else 1,
        np.ascontiguousarray(op.multiplier, np.float32),
        np.ascontiguousarray(stored_bias, np.int32),
        most * np.abs(rows.astype(np.int64)).sum(axis=1),
        int(zero_point) + shift,
        op.lo + shift,
        op.hi + shift,
    )
    if found is None:
        return None
    start, slope, shifts = (array.astype(array.dtype.newbyteorder("<")) for array in found)
    return schema.FusedRequantizeT(add_blob(start), add_blob(slope), add_blob(shifts))
