"""Writes Resize: as TFLite's operator where one of its rules means the same places, else as gathers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgekit.converters.program import Resize
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.state import State, refuse

_F32 = np.float32
Places = npt.NDArray[np.floating]
# TFLite's integer weights have 10 or 11 bits, the program's 11.
_WEIGHT_TOLERANCE = 1 / 1024


def write_resize(state: State, op: Resize) -> None:
    """RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR, or GATHER."""
    y, clamp = state.clamped(op.output, op.lo, op.hi)
    if op.row_weights is None or op.column_weights is None:
        write_nearest(state, op.input, op.output, op.rows, op.columns, y)
    else:
        rows, columns = (
            np.array(first) + np.array(weights) / 2048
            for first, weights in ((op.rows, op.row_weights), (op.columns, op.column_weights))
        )
        flags = find_linear(state.tensor(op.input).shape, rows, columns)
        if flags is None:
            refuse(op, "none of the rules by which TFLite resizes has these places")
        add_resize(state, "RESIZE_BILINEAR", op.input, op.output, flags, y)
    clamp()


def write_nearest(
    state: State,
    source: str,
    output: str,
    rows: Sequence[int],
    columns: Sequence[int],
    target: int,
) -> None:
    """Resizes ``source`` to these of its rows and columns."""
    x = state.tensor(source)
    batch, height, width, channels = x.shape
    for flags, rule in _NEAREST.items():
        if _is_rule(rule, height, rows, 0) and _is_rule(rule, width, columns, 0):
            add_resize(state, "RESIZE_NEAREST_NEIGHBOR", source, output, flags, target)
            return
    tall = state.codes(f"{output}:rows", (batch, len(rows), width, channels), x)
    for axis, places, given, made in (
        (1, rows, state.index(source), tall),
        (2, columns, tall, target),
    ):
        state.add("GATHER", [given, state.integers(places)], made, schema.GatherOptionsT(axis=axis))


def find_linear(
    shape: tuple[int, ...],
    rows: npt.NDArray[np.floating],
    columns: npt.NDArray[np.floating],
) -> tuple[bool, bool] | None:
    """Returns the flags of RESIZE_BILINEAR that put rows and columns at these places, None where none do."""
    for flags, rule in _LINEAR.items():
        if all(
            _is_rule(rule, size, places, _WEIGHT_TOLERANCE)
            for size, places in zip(shape[1:3], (rows, columns), strict=True)
        ):
            return flags
    return None


def add_resize(
    state: State, operator: str, source: str, output: str, flags: tuple[bool, bool], target: int
) -> None:
    """Adds a resize with the flags align_corners and half_pixel_centers."""
    options = {
        "RESIZE_BILINEAR": schema.ResizeBilinearOptionsT,
        "RESIZE_NEAREST_NEIGHBOR": schema.ResizeNearestNeighborOptionsT,
    }[operator]
    size = state.integers(state.tensor(output).shape[1:3])
    state.add(
        operator,
        [state.index(source), size],
        target,
        options(alignCorners=flags[0], halfPixelCenters=flags[1]),
    )


def _scale(size: int, wanted: int, *, corners: bool) -> np.float32:
    if corners and wanted > 1:
        return _F32(size - 1) / _F32(wanted - 1)
    return _F32(size) / _F32(wanted)


def _places(wanted: int) -> Places:
    return np.arange(wanted, dtype=_F32)


def _nearest_plain(size: int, wanted: int) -> Places:
    places: Places = np.floor(_places(wanted) * _scale(size, wanted, corners=False))
    return places


def _nearest_centers(size: int, wanted: int) -> Places:
    places: Places = np.floor((_places(wanted) + _F32(0.5)) * _scale(size, wanted, corners=False))
    return places


def _nearest_corners(size: int, wanted: int) -> Places:
    places: Places = np.floor(_places(wanted) * _scale(size, wanted, corners=True) + _F32(0.5))
    return places


def _linear_plain(size: int, wanted: int) -> Places:
    places: Places = _places(wanted) * _scale(size, wanted, corners=False)
    return places


def _linear_centers(size: int, wanted: int) -> Places:
    places: Places = (_places(wanted) + _F32(0.5)) * _scale(size, wanted, corners=False) - _F32(0.5)
    return places


def _linear_corners(size: int, wanted: int) -> Places:
    places: Places = _places(wanted) * _scale(size, wanted, corners=True)
    return places


_Rule = Callable[[int, int], Places]
# By the flags align_corners and half_pixel_centers.
_NEAREST: dict[tuple[bool, bool], _Rule] = {
    (False, False): _nearest_plain,
    (False, True): _nearest_centers,
    (True, False): _nearest_corners,
}
_LINEAR: dict[tuple[bool, bool], _Rule] = {
    (False, False): _linear_plain,
    (False, True): _linear_centers,
    (True, False): _linear_corners,
}


def _is_rule(
    rule: _Rule, size: int, places: Sequence[int] | npt.NDArray[np.floating], tolerance: float
) -> bool:
    """Returns whether ``rule`` puts the output elements at these places of ``size`` input elements."""
    found = rule(size, len(places)).clip(0, size - 1)
    return bool(np.all(np.abs(found - np.asarray(places)) <= tolerance))
