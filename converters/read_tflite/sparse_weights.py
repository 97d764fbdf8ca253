"""Fills zeros into tensors that a TFLite file stores sparsely, by the schema's SparsityParameters.

Dimensions are walked in `traversal_order`; those from the tensor's rank on are the insides of blocks, along the
dimension that `block_map` names. A dense dimension has all its places at every position of those before it; a sparse
one has those that its `indices` list between two of its `segments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgekit.converters.read_tflite.schema import name_of

Integers = npt.NDArray[np.int64]


def fill_zeros(
    raw: npt.NDArray[np.uint8],
    dtype: np.dtype[Any],
    sparsity: Any,
    shape: Sequence[int],
    schema: Any,
    numbers: Callable[[Any], npt.NDArray[Any]],
    refuse: Callable[[str], NoReturn],
) -> npt.NDArray[np.uint8]:
    """Returns the bytes of all elements of a tensor.

    Args:
        raw: Those that the file has, in the order of the walk.
        dtype: Of the elements.
        sparsity: The schema's SparsityParameters.
        shape: Of the tensor.
        schema: The schema's module.
        numbers: Takes a vector of the file, counting what is read, and returns it or, where it is missing, none.
        refuse: Raises the error of a damaged file, given what is wrong.
    """
    if raw.size % dtype.itemsize:
        refuse("its elements are cut off")
    stored = np.frombuffer(raw, dtype)
    rank = len(shape)
    order = numbers(sparsity.TraversalOrderAsNumpy()).astype(np.int64)
    inside = numbers(sparsity.BlockMapAsNumpy()).astype(np.int64)
    levels = sparsity.DimMetadataLength()
    if (
        levels != rank + inside.size
        or sorted(order.tolist()) != list(range(levels))
        or not all(0 <= place < rank for place in inside)
        or np.unique(inside).size != inside.size
    ):
        refuse("its order of dimensions makes no sense")
    sizes = np.array([*shape, *([1] * inside.size)], np.int64)
    for level, dimension in enumerate(order):
        if dimension < rank:
            continue
        block = sparsity.DimMetadata(level).DenseSize()
        whole = inside[dimension - rank]
        if block < 1 or shape[whole] % block:
            refuse("its blocks do not fill it")
        sizes[dimension] = block
        sizes[whole] = shape[whole] // block
    lists = [
        _lists(sparsity.DimMetadata(level), schema, numbers, refuse) for level in range(levels)
    ]
    walked = _walk(lists, [int(sizes[place]) for place in order], stored.size, refuse)
    places = np.zeros((levels, walked.shape[1]), np.int64)
    places[order] = walked
    for offset, whole in enumerate(inside):
        places[whole] = places[whole] * sizes[rank + offset] + places[rank + offset]
    flat = np.zeros(math.prod(shape), stored.dtype)
    flat[np.ravel_multi_index(tuple(places[:rank]), tuple(shape))] = stored
    return flat.view(np.uint8)


def _walk(
    lists: Sequence[tuple[Integers, Integers] | int],
    sizes: Sequence[int],
    count: int,
    refuse: Callable[[str], NoReturn],
) -> Integers:
    """Returns the position of each stored element, ``[levels, count]``."""
    walked = np.zeros((0, 1), np.int64)
    for found, size in zip(lists, sizes, strict=True):
        positions = walked.shape[1]
        if isinstance(found, int):
            if found != size:
                refuse("its dimensions have other sizes")
            if positions * size > count:
                refuse("it has fewer elements than its dimensions say")
            lengths, own = np.full(positions, size), np.tile(np.arange(size), positions)
        else:
            segments, own = found
            lengths = np.diff(segments)
            starts = segments.size == positions + 1 and segments[0] == 0
            if not starts or (lengths < 0).any() or segments[-1] != own.size:
                refuse("its segments make no sense")
            if own.size > count or (own < 0).any() or (own >= size).any():
                refuse("its indices make no sense")
        walked = np.vstack([walked.repeat(lengths, axis=1), own[None]])
    if walked.shape[1] != count:
        refuse("it has more elements than its dimensions say")
    return walked


def _lists(
    dimension: Any,
    schema: Any,
    numbers: Callable[[Any], npt.NDArray[Any]],
    refuse: Callable[[str], NoReturn],
) -> tuple[Integers, Integers] | int:
    """Returns the segments and indices of a sparse dimension, the size of a dense one."""
    if name_of(schema.DimensionType, dimension.Format()) == "DENSE":
        return int(dimension.DenseSize())
    found = []
    for kind, table in (
        (dimension.ArraySegmentsType(), dimension.ArraySegments()),
        (dimension.ArrayIndicesType(), dimension.ArrayIndices()),
    ):
        name = name_of(schema.SparseIndexVector, kind)
        if table is None or not name.endswith("Vector"):
            refuse("its indices are missing")
        vector = getattr(schema, name)()
        vector.Init(table.Bytes, table.Pos)
        found.append(numbers(vector.ValuesAsNumpy()).astype(np.int64))
    return found[0], found[1]
