"""Draws pages and lines of text, as samples for reading text in pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgekit.data import Sample

COUNT = 24
PAGE = (640, 640)
LINE = (48, 320)
_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
_TEXT = """
a network on a board takes less time where its numbers are small and its layers lie close together
Total 42.50 EUR Invoice 2024-117 paid by card thank you see you again Room 3 is on the second floor
"""


def read_pages(_folder: Path) -> list[Sample]:
    """Returns pages of words in several sizes: float32 [1, 3, 640, 640], BGR, normalized as PP-OCR's detection asks."""
    random = np.random.default_rng(0)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return [{"x": _to_planes((_draw_page(random) / 255 - mean) / deviation)} for _ in range(COUNT)]


def read_lines(_folder: Path) -> list[Sample]:
    """Returns single lines: float32 [1, 3, 48, 320], BGR in [-1, 1], as PP-OCR's recognition asks."""
    random = np.random.default_rng(1)
    return [{"x": _to_planes(_draw_line(random) / 127.5 - 1)} for _ in range(2 * COUNT)]


def _to_planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)[None], dtype=np.float32)


def _draw_page(random: np.random.Generator) -> np.ndarray:
    height, width = PAGE
    paper = tuple(int(v) for v in random.integers(200, 256, 3))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    top = int(random.integers(10, 40))
    while top < height - 50:
        size = int(random.integers(14, 36))
        draw.text(
            (int(random.integers(5, 120)), top),
            _pick_words(random, int(random.integers(1, 6))),
            fill=tuple(int(v) for v in random.integers(0, 120, 3)),
            font=_pick_font(random, size),
        )
        top += size + int(random.integers(8, 40))
    return np.asarray(image, np.float64)


def _draw_line(random: np.random.Generator) -> np.ndarray:
    height, width = LINE
    image = Image.new("RGB", (width, height), tuple(int(v) for v in random.integers(190, 256, 3)))
    ImageDraw.Draw(image).text(
        (4, int(random.integers(2, 10))),
        _pick_words(random, 4),
        fill=tuple(int(v) for v in random.integers(0, 120, 3)),
        font=_pick_font(random, int(random.integers(24, 34))),
    )
    return np.asarray(image, np.float64)


def _pick_words(random: np.random.Generator, count: int) -> str:
    return " ".join(random.choice(_TEXT.split()) for _ in range(count))


def _pick_font(random: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    """Returns one of the DejaVu fonts, or Pillow's own where they are not installed."""
    try:
        return ImageFont.truetype(str(random.choice(_FONTS)), size)
    except OSError:
        return ImageFont.load_default(size)
