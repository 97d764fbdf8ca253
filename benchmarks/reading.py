"""How well PP-OCR's networks find lines of text on drawn pages, and read them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx

from edgekit.session import Session
from intervals import Figure, ratio_of_sums
from networks import OCR, RECOGNITION
from pages import PAGE, draw_labelled_lines, draw_labelled_pages
from photos import find_package

PAGES, LINES = 300, 2000
# Of lines that no figure is measured on.
_OTHER_SEED = 201
# As PP-OCR's configuration of DBNet has them (Liao et al., "Real-time Scene Text Detection with Differentiable
# Binarization", 2020): a pixel is text from this probability on, a box from this mean on, and boxes that the network
# shrinks grow by area * ratio / perimeter.
_PIXEL, _BOX, _RATIO = 0.3, 0.5, 1.6
_LEAST_SIDE = 3
# A box is found where it and the true one share half of what they cover together.
_OVERLAP = 0.5

Box = tuple[float, float, float, float]


def measure_detection(
    session: Session, limit: int | None, page: tuple[int, int] = PAGE
) -> list[Figure]:
    """Returns precision and recall of the boxes on drawn pages."""
    found, wanted, hits = [], [], []
    for sample, texts in draw_labelled_pages(min(limit or PAGES, PAGES), page):
        (scores,) = session.run(sample).values()
        boxes = find_boxes(scores[0, 0])
        found.append(len(boxes))
        wanted.append(len(texts))
        hits.append(_count_matches(boxes, [text.box for text in texts]))
    return [
        ratio_of_sums("precision", hits, found, "pages"),
        ratio_of_sums("recall", hits, wanted, "pages"),
    ]


def measure_recognition(session: Session, limit: int | None) -> list[Figure]:
    """Returns the rate of wrong characters in drawn lines."""
    characters = list_characters()
    wrong, length = [], []
    for sample, words in draw_labelled_lines(min(limit or LINES, LINES)):
        (scores,) = session.run(sample).values()
        wrong.append(count_edits(read_line(scores[0], characters), words))
        length.append(len(words))
    return [ratio_of_sums("character errors", wrong, length, "lines", errors=True)]


def score_other_lines(session: Session, limit: int | None) -> npt.NDArray[np.float64]:
    """Returns the share of characters that are read rightly of each of as many other lines, at least 0."""
    characters = list_characters()
    right = []
    for sample, words in draw_labelled_lines(min(limit or LINES, LINES), seed=_OTHER_SEED):
        (scores,) = session.run(sample).values()
        wrong = count_edits(read_line(scores[0], characters), words)
        right.append(max(1 - wrong / len(words), 0.0))
    return np.array(right, np.float64)


def list_characters() -> list[str]:
    """Returns what each column of the recognition's scores stands for, the blank first."""
    model = onnx.load(find_package(OCR) / RECOGNITION, load_external_data=False)
    listed = {entry.key: entry.value for entry in model.metadata_props}["character"].splitlines()
    return ["", *listed, " "]


def find_boxes(scores: npt.NDArray[np.float32]) -> list[Box]:
    """Returns the boxes of text in a map of probabilities ``[h, w]``, upright ones."""
    boxes = []
    for rows, columns in _find_regions(scores > _PIXEL):
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        height, width = float(bottom - top), float(right - left)
        if min(height, width) < _LEAST_SIDE or scores[top:bottom, left:right].mean() < _BOX:
            continue
        grown = _RATIO * height * width / (2 * (height + width))
        boxes.append((left - grown, top - grown, right + grown, bottom + grown))
    return boxes


def count_edits(a: str, b: str) -> int:
    """Returns how many characters have to be changed, added or taken out (Levenshtein, 1966).

    >>> count_edits("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, first in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, second in enumerate(b, 1):
            change = diagonal + (first != second)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, change)
    return row[-1]


def _find_regions(mask: npt.NDArray[np.bool_]) -> list[tuple[npt.NDArray[np.intp], ...]]:
    """Returns the rows and columns of each set of connected pixels."""
    parents: list[int] = []

    def root(label: int) -> int:
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    runs: list[list[tuple[int, int, int]]] = [[]]
    for line in mask:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
        now = []
        for begin, end in edges.reshape(-1, 2):
            label = len(parents)
            parents.append(label)
            for first, last, other in runs[-1]:
                if first <= end and begin <= last:
                    parents[root(other)] = root(label)
            now.append((int(begin), int(end), label))
        runs.append(now)
    labels = np.full(mask.shape, -1)
    for y, line_runs in enumerate(runs[1:]):
        for begin, end, label in line_runs:
            labels[y, begin:end] = root(label)
    rows, columns = np.nonzero(mask)
    order = np.argsort(labels[rows, columns], kind="stable")
    cuts = np.flatnonzero(np.diff(labels[rows, columns][order])) + 1
    starts = [0, *cuts.tolist(), len(order)]
    return [(rows[order[a:b]], columns[order[a:b]]) for a, b in pairwise(starts) if b > a]


def _count_matches(found: list[Box], wanted: list[Box]) -> int:
    """Returns how many boxes match one to one, the best pairs first."""
    pairs = sorted(
        ((_overlap(a, b), i, j) for i, a in enumerate(found) for j, b in enumerate(wanted)),
        reverse=True,
    )
    used_found, used_wanted = set[int](), set[int]()
    for overlap, i, j in pairs:
        if overlap >= _OVERLAP and i not in used_found and j not in used_wanted:
            used_found.add(i)
            used_wanted.add(j)
    return len(used_found)


def _overlap(a: Box, b: Box) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(math.fsum(areas) - width * height, 1e-9)


def read_line(scores: npt.NDArray[np.float32], characters: list[str]) -> str:
    """Returns the text of a line by the likeliest character of each step; repeats, blanks and outer spaces left out."""
    steps = scores.argmax(axis=1)
    kept = np.concatenate([[True], steps[1:] != steps[:-1]])
    return "".join(characters[step] for step in steps[kept]).strip()
