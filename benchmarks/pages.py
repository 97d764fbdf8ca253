"""Draws pages and lines of text, as samples for reading text in pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgekit.data import Sample

COUNT = 24
PAGE = (640, 640)
LINE = (48, 320)
_TALL = "Hg"
_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
_TEXT = """
a network on a board takes less time where its numbers are small and its layers lie close together
Total 42.50 EUR Invoice 2024-117 paid by card thank you see you again Room 3 is on the second floor
"""


@dataclass(frozen=True)
class Text:
    """A piece of text on a page; its box is (left, top, right, bottom) in pixels, as tall as any letters."""

    words: str
    box: tuple[float, float, float, float]


def draw_labelled_pages(
    count: int, page: tuple[int, int] = PAGE, seed: int = 100
) -> Iterator[tuple[Sample, list[Text]]]:
    """Yields pages as `read_pages` makes them, but others, and what is written on each."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        pixels, texts = _draw_page(random, page)
        yield {"x": _normalize_page(pixels)}, texts


def draw_labelled_lines(count: int, seed: int = 101) -> Iterator[tuple[Sample, str]]:
    """Yields lines as `read_lines` makes them, but others, of words that fit wholly, and what is written on each."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        pixels, words = _draw_line(random, whole=True)
        yield {"x": _to_planes(pixels / 127.5 - 1)}, words


def draw_mixed_lines(count: int, most: int, seed: int = 102) -> Iterator[tuple[Sample, str]]:
    """Yields lines of one to eight words, as wide as their text and at most ``most``, and what is written on each."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        wanted = int(random.integers(1, 9))
        pixels, words = _draw_line(random, whole=True, count=wanted, width=most, cut=True)
        yield {"x": _to_planes(pixels / 127.5 - 1)}, words


def read_pages(_folder: Path) -> list[Sample]:
    """Returns pages of words in several sizes: float32 [1, 3, 640, 640], BGR, normalized as PP-OCR's detection asks."""
    random = np.random.default_rng(0)
    return [{"x": _normalize_page(_draw_page(random)[0])} for _ in range(COUNT)]


def read_lines(_folder: Path) -> list[Sample]:
    """Returns single lines: float32 [1, 3, 48, 320], BGR in [-1, 1], as PP-OCR's recognition asks."""
    random = np.random.default_rng(1)
    return [{"x": _to_planes(_draw_line(random)[0] / 127.5 - 1)} for _ in range(2 * COUNT)]


def _normalize_page(pixels: np.ndarray) -> np.ndarray:
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return _to_planes((pixels / 255 - mean) / deviation)


def _to_planes(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)[None], dtype=np.float32)


def _draw_page(
    random: np.random.Generator, page: tuple[int, int] = PAGE
) -> tuple[np.ndarray, list[Text]]:
    height, width = page
    paper = tuple(int(v) for v in random.integers(200, 256, 3))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    top = int(random.integers(10, 40))
    texts = []
    while top < height - 50:
        size = int(random.integers(14, 36))
        place = (int(random.integers(5, 120)), top)
        words = _pick_words(random, int(random.integers(1, 6)))
        fill = tuple(int(v) for v in random.integers(0, 120, 3))
        font = _pick_font(random, size)
        draw.text(place, words, fill=fill, font=font)
        left, _, right, _ = draw.textbbox(place, words, font=font)
        _, upper, _, lower = draw.textbbox(place, _TALL, font=font)
        texts.append(Text(words, (left, upper, min(right, width), min(lower, height))))
        top += size + int(random.integers(8, 40))
    return np.asarray(image, np.float64), texts


def _draw_line(
    random: np.random.Generator,
    *,
    whole: bool = False,
    count: int = 4,
    width: int = LINE[1],
    cut: bool = False,
) -> tuple[np.ndarray, str]:
    """Draws a line of ``count`` words, with ``whole`` of as many of them as fit, with ``cut`` cut behind the last."""
    height = LINE[0]
    image = Image.new("RGB", (width, height), tuple(int(v) for v in random.integers(190, 256, 3)))
    draw = ImageDraw.Draw(image)
    place = (4, int(random.integers(2, 10)))
    words = _pick_words(random, count)
    fill = tuple(int(v) for v in random.integers(0, 120, 3))
    font = _pick_font(random, int(random.integers(24, 34)))
    while whole and " " in words and draw.textbbox(place, words, font=font)[2] > width - 4:
        words = words.rpartition(" ")[0]
    draw.text(place, words, fill=fill, font=font)
    pixels = np.asarray(image, np.float64)
    if cut:
        pixels = pixels[:, : int(draw.textbbox(place, words, font=font)[2]) + 4]
    return pixels, words


def _pick_words(random: np.random.Generator, count: int) -> str:
    return " ".join(random.choice(_TEXT.split()) for _ in range(count))


def _pick_font(random: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    """Returns one of the DejaVu fonts, or Pillow's own where they are not installed."""
    try:
        return ImageFont.truetype(str(random.choice(_FONTS)), size)
    except OSError:
        return ImageFont.load_default(size)
