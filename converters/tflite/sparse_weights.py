"""Weights of which most blocks are zeros, as TFLite stores them: the other blocks alone, and where they lie.

Weights ``[n, ..., k]`` are cut into blocks of rows of n by 4 of k. The file holds, for each position of all
dimensions but k, how many blocks lie before it (segments) and the number along k of each block (indices), in
the schema's SparsityParameters; DENSIFY fills in the zeros when an interpreter starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import Int8Array
from edgekit.converters.tflite.schema import schema

_BLOCK_ROWS = (32, 16, 8)
_BLOCK_COLUMNS = 4
# A file that is less smaller than this is not worth an operator more.
_MOST_SHARE = 0.8
_MOST_BYTE_INDEX = 256
_MOST_SHORT_INDEX = 65536


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """Weights as they are stored.

    Attributes:
        values: int8, block after block, rows outside.
        sparsity: The schema's SparsityParametersT.
    """

    values: Int8Array
    sparsity: Any


def find_sparse_weights(weights: Int8Array) -> SparseWeights | None:
    """Returns weights ``[n, ..., k]`` in the blocks that take the fewest bytes, None where that is not clearly less."""
    count, depth = weights.shape[0], weights.shape[-1]
    if not weights.any() or depth % _BLOCK_COLUMNS or depth // _BLOCK_COLUMNS > _MOST_SHORT_INDEX:
        return None
    found = [_encode(weights, rows) for rows in _BLOCK_ROWS if count % rows == 0]
    best = min(found, key=lambda pair: pair[0], default=None)
    return best[1] if best is not None and best[0] <= _MOST_SHARE * weights.size else None


def _encode(weights: Int8Array, rows: int) -> tuple[int, SparseWeights]:
    """Returns weights in blocks of that many rows, and the bytes of values, indices and segments."""
    count, *middle, depth = weights.shape
    steps = depth // _BLOCK_COLUMNS
    # [n / rows, ..., k / 4, rows, 4]
    blocks = weights.reshape(count // rows, rows, *middle, steps, _BLOCK_COLUMNS)
    blocks = np.moveaxis(blocks, 1, -2).reshape(-1, steps, rows, _BLOCK_COLUMNS)
    full = blocks.any(axis=(2, 3))
    indices = np.nonzero(full)[1]
    segments = np.concatenate([[0], np.cumsum(full.sum(axis=1))]).astype(np.int32)
    last = _sparse_dimension(segments, indices, steps)
    rank = weights.ndim
    outer = [_dense_dimension(size) for size in (count // rows, *middle)]
    inner = [_dense_dimension(size) for size in (rows, _BLOCK_COLUMNS)]
    sparsity = schema.SparsityParametersT(
        traversalOrder=np.arange(rank + 2, dtype=np.int32),
        blockMap=np.array([0, rank - 1], np.int32),
        dimMetadata=[*outer, last, *inner],
    )
    values = np.ascontiguousarray(blocks[full]).reshape(-1)
    stored = indices.astype(_index_type(steps))
    return values.nbytes + stored.nbytes + segments.nbytes, SparseWeights(values, sparsity)


def _index_type(steps: int) -> npt.DTypeLike:
    return np.uint8 if steps <= _MOST_BYTE_INDEX else np.uint16


def _dense_dimension(size: int) -> Any:
    return schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size)


def _sparse_dimension(
    segments: npt.NDArray[np.int32], indices: npt.NDArray[np.intp], steps: int
) -> Any:
    kinds = schema.SparseIndexVector
    if steps <= _MOST_BYTE_INDEX:
        kind, vector = kinds.Uint8Vector, schema.Uint8VectorT(indices.astype(np.uint8))
    else:
        kind, vector = kinds.Uint16Vector, schema.Uint16VectorT(indices.astype(np.uint16))
    return schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=kinds.Int32Vector,
        arraySegments=schema.Int32VectorT(segments),
        arrayIndicesType=kind,
        arrayIndices=vector,
    )
