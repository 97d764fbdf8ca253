"""Shows a network's input as a picture, where it is one: PNG without an imaging library."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data import Preprocessing

Pixels = npt.NDArray[np.uint8]

# Of a picture that is shown: what is larger is averaged down by whole numbers.
_SIDE = 96
# What is smaller is no picture that anybody would know.
_LEAST_SIDE = 8
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2


def to_picture(array: npt.NDArray[Any], preprocessing: Preprocessing | None) -> Pixels | None:
    """Returns an input as pixels, uint8 [height, width, 1 or 3], or None where it is no picture.

    ``preprocessing`` is undone where it made the input; else the least value is black and the largest white.

    Args:
        array: [1, channels, height, width] or [1, height, width, channels], with 1 or 3 channels.
        preprocessing: How pictures became inputs.
    """
    if array.ndim != 4 or array.shape[0] != 1 or array.dtype.kind not in "fiu":
        return None
    made = preprocessing is not None and array.shape == preprocessing.shape
    first = preprocessing.layout == "NCHW" if made and preprocessing else array.shape[1] in (1, 3)
    if not first and array.shape[3] not in (1, 3):
        return None
    values = array[0].astype(np.float64)
    if first:
        values = values.transpose(1, 2, 0)
    if min(values.shape[:2]) < _LEAST_SIDE or not np.isfinite(values).all():
        return None
    if made and preprocessing is not None:
        scale = np.asarray(preprocessing.scale, np.float64)
        # Nothing is left of a channel whose scale is 0.
        values = values / np.where(scale == 0, np.inf, scale) + np.asarray(preprocessing.mean)
        if preprocessing.channels == "BGR":
            values = values[..., ::-1]
    else:
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low) if high > low else 0.0)
    return np.clip(np.rint(_shrink(values)), 0, 255).astype(np.uint8)


def encode_png(pixels: Pixels) -> bytes:
    """Returns a PNG (ISO/IEC 15948) of pixels, uint8 [height, width, 1 or 3]; the same pixels give the same bytes."""
    height, width, channels = pixels.shape
    color = _GREY if channels == 1 else _RGB
    rows = pixels.reshape(height, width * channels)
    # Each row begins with the number of its filter, 0 for none.
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(raw, 9))
        + _chunk(b"IEND", b"")
    )


def to_data_uri(png: bytes) -> str:
    """Returns a PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _shrink(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns means of squares of pixels, so that no side is larger than is shown."""
    step = -(-max(values.shape[:2]) // _SIDE)
    height, width = (max(1, size // step) for size in values.shape[:2])
    cut = values[: height * step, : width * step]
    if cut.shape[0] < height * step or cut.shape[1] < width * step:
        return values
    means: npt.NDArray[np.float64] = cut.reshape(height, step, width, step, -1).mean(axis=(1, 3))
    return means
