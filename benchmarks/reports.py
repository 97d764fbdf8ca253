"""Writes reports of real deployments: DS-CNN on Fashion-MNIST, EfficientNet-Lite0 on photographs and stamps.

PYTHONPATH=examples python benchmarks/reports.py ds_cnn --output build/reports
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import edgekit
from edgekit import Classification, Preprocessing
from edgekit.report import Report
from edgekit.session import Session
from efficientnet_lite0 import LITE0
from find_data import find_data, read_idx
from networks import normalize_clothes, read_clothes, read_photographs, write_efficientnet
from photos import read_photos, read_stamps

CLOTHES = (
    "T-shirt or top",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def report_ds_cnn(folder: Path, images: int) -> Report:
    """Deploys DS-CNN; subgroups are test images by how much of them is covered, and by how light that is."""
    data = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    pixels = read_idx(data / "t10k-images-idx3-ubyte.gz")[:images]
    answers = read_idx(data / "t10k-labels-idx1-ubyte.gz")[:images].astype(np.int64)
    samples = normalize_clothes(pixels)[:, 0]
    covered = (pixels > 0).mean((1, 2))
    light = np.array([image[image > 0].mean() if image.any() else 0.0 for image in pixels])
    groups = {
        "covered part": np.where(covered < 0.3, "little", np.where(covered < 0.6, "half", "much")),
        "lightness": np.where(light < 85, "dark", np.where(light < 170, "grey", "light")),
    }
    model = Path(__file__).parent / "ds_cnn" / "ds_cnn.onnx"
    return edgekit.deploy(
        model,
        calibration=read_clothes(folder),
        evaluate=Classification(samples, answers, groups=groups),
        max_drop=0.01,
        max_ms=5.0,
        max_mb=1.0,
        labels=CLOTHES,
        output=folder / "ds_cnn",
    ).report


def report_lite0(folder: Path, images: int) -> Report:
    """Deploys EfficientNet-Lite0; subgroups are photographs and stamps, as which its labelled pictures come."""
    size = LITE0.resolution
    preprocessing = Preprocessing(
        size=(size, size), crop=size / (size + 32), mean=127.0, scale=1 / 128
    )
    pictures = [
        (kind, picture)
        for kind, read in (("photograph", read_photos), ("stamp", read_stamps))
        for picture in read()[:images]
    ]
    inputs = [{"image": preprocessing.apply(picture.image)} for _, picture in pictures]

    class Named:
        """Which pictures get one of the classes that count as right."""

        groups: ClassVar = {"kind": [kind for kind, _ in pictures]}

        def scores(self, session: Session) -> npt.NDArray[np.float64]:
            named = [int(next(iter(session.run(x).values())).argmax()) for x in inputs]
            pairs = zip(named, pictures, strict=True)
            return np.array([name in picture.classes for name, (_, picture) in pairs], np.float64)

        def __call__(self, session: Session) -> float:
            return float(self.scores(session).mean())

    model = folder / "efficientnet_lite0.onnx"
    write_efficientnet(model, LITE0)
    return edgekit.deploy(
        model,
        calibration=read_photographs(folder, LITE0),
        evaluate=Named(),
        output=folder / "lite0",
    ).report


REPORTS: dict[str, Callable[[Path, int], Report]] = {"ds_cnn": report_ds_cnn, "lite0": report_lite0}


def main(arguments: Any = None) -> None:
    """Writes a page and the JSON of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *REPORTS], help="default: all")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("build/reports"))
    options = parser.parse_args(arguments)
    for name in options.names or REPORTS:
        folder = options.output / f"{name}.work"
        folder.mkdir(parents=True, exist_ok=True)
        report = partial(REPORTS[name], folder, options.images)()
        print(report)
        for save, suffix in ((report.save_html, ".html"), (report.save_json, ".json")):
            print(save(options.output / f"{name}{suffix}"))


if __name__ == "__main__":
    main()
