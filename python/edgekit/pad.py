"""Which of a network's sizes takes an input, and how a smaller input is filled up to one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.converters.size_names import describe_shapes
from edgekit.targets.errors import EdgekitError

# Shapes by input.
Size = Mapping[str, tuple[int, ...]]
Arrays = dict[str, npt.NDArray[Any]]


def describe_sizes(sizes: Sequence[Size]) -> str:
    """Returns sizes in words.

    >>> describe_sizes([{"x": (1, 8)}, {"x": (1, 16)}])
    'x [1, 8]; x [1, 16]'
    """
    return "; ".join(map(describe_shapes, sizes))


def fits(arrays: Mapping[str, npt.NDArray[Any]], size: Size) -> bool:
    """Returns whether ``size`` takes ``arrays``, whatever their first dimensions are."""
    return all(
        array.ndim == len(size[name]) and array.shape[1:] == size[name][1:]
        for name, array in arrays.items()
        if name in size
    )


def pad_to_size(arrays: Arrays, sizes: Sequence[Size], value: float) -> Arrays:
    """Returns ``arrays`` filled up with ``value`` at the end of every dimension but the first, to the next size.

    That is the one of fewest elements among those that are large enough; what fits a size already stays as it is.

    Args:
        arrays: By input; inputs that no size names stay as they are.
        sizes: Of the network.
        value: What is filled in, in the input's own terms: after normalization where it has one.

    Raises:
        EdgekitError: No size is large enough.

    >>> pad_to_size({"x": np.ones((1, 2))}, [{"x": (1, 4)}, {"x": (1, 3)}], 0.0)["x"]
    array([[1., 1., 0.]])
    """
    if any(fits(arrays, size) for size in sizes):
        return arrays
    able = [
        size
        for size in sizes
        if all(_is_inside(array, size.get(name)) for name, array in arrays.items())
    ]
    if not able:
        given = describe_sizes([{name: array.shape for name, array in arrays.items()}])
        there = describe_sizes(sizes) or "none is fixed"
        raise EdgekitError(f"no size is large enough for {given}: there are {there}")
    best = min(able, key=lambda size: sum(math.prod(shape[1:]) for shape in size.values()))
    return {
        name: _pad(array, best[name], value) if name in best else array
        for name, array in arrays.items()
    }


def _is_inside(array: npt.NDArray[Any], shape: tuple[int, ...] | None) -> bool:
    return shape is None or (
        array.ndim == len(shape)
        and all(have <= want for have, want in zip(array.shape[1:], shape[1:], strict=True))
    )


def _pad(array: npt.NDArray[Any], shape: tuple[int, ...], value: float) -> npt.NDArray[Any]:
    if array.ndim == 0:
        return array
    missing = [(0, want - have) for have, want in zip(array.shape[1:], shape[1:], strict=True)]
    return np.pad(array, [(0, 0), *missing], constant_values=value)
