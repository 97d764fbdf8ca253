"""What several sizes in one deployment are worth: PP-OCR on lines of mixed length, and on pages of two sizes.

Lines are read by one deployment of three widths, each filled up to the next one, and by deployments of one width: lines
that are longer are squeezed to it, shorter ones filled up. The errors, the time for a line, and the bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import edgekit
from edgekit.data import Sample
from edgekit.pad import pad_to_size
from edgekit.session import Session
from edgekit.timing import describe_machine
from intervals import Figure, ratio_of_sums
from networks import OCR, RECOGNITION
from pages import LINE, draw_labelled_pages, draw_mixed_lines
from photos import find_package
from reading import count_edits, list_characters, measure_detection, read_line

DETECTION = "models/ch_PP-OCRv4_det_infer.onnx"
WIDTHS = (320, 160, 640)
PAGES = ((640, 640), (320, 640))
CALIBRATION = 48
FORMS = ("native", "onnx", "tflite")

Fit = Callable[[Sample], Sample]


def fill_up(sample: Sample, widths: Sequence[int]) -> Sample:
    """Returns a line filled up with grey to the next of ``widths``, as PP-OCR does."""
    return pad_to_size(dict(sample), [{"x": (1, 3, LINE[0], width)} for width in widths], 0.0)


def squeeze(sample: Sample, width: int) -> Sample:
    """Returns a line of one width: squeezed where it is longer, else filled up."""
    x = sample["x"]
    if x.shape[3] > width:
        planes = [
            np.asarray(
                Image.fromarray(plane).resize((width, x.shape[2]), Image.Resampling.BILINEAR)
            )
            for plane in x[0]
        ]
        x = np.stack(planes)[None]
    return fill_up({"x": x}, [width])


def read_lines(session: Session, fit: Fit, count: int) -> tuple[Figure, float]:
    """Returns the rate of wrong characters and the mean milliseconds for a line."""
    characters = list_characters()
    wrong, length, seconds = [], [], 0.0
    for sample, words in draw_mixed_lines(count, max(WIDTHS)):
        fitted = fit(sample)
        session.run(fitted)
        begin = time.perf_counter()
        (scores,) = session.run(fitted).values()
        seconds += time.perf_counter() - begin
        wrong.append(count_edits(read_line(scores[0], characters), words))
        length.append(len(words))
    figure = ratio_of_sums("character errors", wrong, length, "lines", errors=True)
    return figure, 1e3 * seconds / count


def measure_recognition(folder: Path, forms: Sequence[str], count: int, precision: str) -> Table:
    """Returns a row for each deployment."""
    model = find_package(OCR) / RECOGNITION
    table = Table("recognition", "form", "character errors", "ms a line", "MB")
    lines = [sample for sample, _ in draw_mixed_lines(CALIBRATION, max(WIDTHS), seed=2)]

    def add(name: str, form: str, path: Path, fit: Fit) -> None:
        figure, milliseconds = read_lines(edgekit.load(path), fit, count)
        size = path.stat().st_size / 1e6
        table.add_row(name, form, str(figure), f"{milliseconds:.2f}", f"{size:.2f}")

    fit = partial(fill_up, widths=WIDTHS)
    add("every width", "float", model, fit)
    deployed = edgekit.deploy(
        model,
        calibration=[fit(line) for line in lines],
        shapes=[{"x": (1, 3, *LINE[:1], width)} for width in WIDTHS],
        format=list(forms),
        precision=precision,
        output=folder / "widths",
    )
    paths = {"native": deployed.plan, "onnx": deployed.onnx, "tflite": deployed.tflite}
    for form in forms:
        path = paths[form]
        assert path is not None
        add(f"{len(WIDTHS)} widths", form, path, fit)
    for width in (LINE[1], max(WIDTHS)):
        fit = partial(squeeze, width=width)
        add(f"{width} alone", "float", model, fit)
        single = edgekit.deploy(
            model,
            calibration=[fit(line) for line in lines],
            format="native",
            precision=precision,
            output=folder / f"width-{width}",
        )
        assert single.plan is not None
        add(f"{width} alone", "native", single.plan, fit)
    return table


def measure_pages(folder: Path, forms: Sequence[str], count: int, precision: str) -> Table:
    """Returns a row for each form and size of page."""
    model = find_package(OCR) / DETECTION
    samples = [
        sample
        for seed, page in enumerate(PAGES)
        for sample, _ in draw_labelled_pages(CALIBRATION // 4, page, seed)
    ]
    deployed = edgekit.deploy(
        model,
        calibration=samples,
        shapes=[{"x": (1, 3, *page)} for page in PAGES],
        format=list(forms),
        precision=precision,
        output=folder / "pages",
    )
    paths = {"native": deployed.plan, "onnx": deployed.onnx, "tflite": deployed.tflite}
    table = Table("detection", "form", "precision", "recall")
    for page in PAGES:
        for form in ("float", *forms):
            path = paths.get(form, model)
            assert path is not None
            figures = measure_detection(edgekit.load(path), count, page)
            table.add_row(f"{page[0]} x {page[1]}", form, *map(str, figures))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/sizes"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--precision", choices=("auto", "int8"), default="auto")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    where = (arguments.output, arguments.forms)
    if arguments.lines:
        console.print(measure_recognition(*where, arguments.lines, arguments.precision))
    if arguments.pages:
        console.print(measure_pages(*where, arguments.pages, arguments.precision))
    machine = describe_machine()
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
