"""The networks of the contest: where each comes from, and samples for it that are like what it meets in use.

Every network lies ready in a package or is built from a package's weights; nothing is downloaded here. The samples are
photographs, drawn pages, clothes and speech that packages carry (``requirements-data.txt``, ``.ci/get_data``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import filetypes
import minilm
import pages
import speech
from edgekit import Preprocessing
from edgekit.data import Sample, list_images
from efficientnet_lite0 import LITE0, LITE1, Variant, build_model
from find_data import find_data, read_idx
from photos import find_package, write_calibration

SAMPLES = 48


@dataclass(frozen=True)
class Network:
    """A network of the contest.

    Attributes:
        name: The name to show.
        is_cnn: Whether the bars for convolutional networks hold for it.
        write: Writes the float model to a path.
        read_samples: Returns calibration samples; may use a folder that is given.
        samples: What the samples are, in words.
        suffix: Of the file that ``write`` makes.
        arguments: What ``deploy`` has to know of it.
    """

    name: str
    is_cnn: bool
    write: Callable[[Path], None]
    read_samples: Callable[[Path], list[Sample]]
    samples: str
    suffix: str = ".onnx"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def write_efficientnet(path: Path, variant: Variant) -> None:
    build_model(path, variant=variant)


def read_photographs(folder: Path, variant: Variant) -> list[Sample]:
    """Returns photographs as the network sees them; those of scikit-image, whole and in quarters."""
    size = variant.resolution
    preprocessing = Preprocessing(
        size=(size, size), crop=size / (size + 32), mean=127.0, scale=1 / 128
    )
    pictures = folder / "pictures"
    write_calibration(pictures, stamps=1)
    return [{"image": preprocessing.read(path)} for path in list_images(pictures)[:SAMPLES]]


def write_trained(path: Path, name: str) -> None:
    """Copies what ``train_on_clothes.py`` trained."""
    shutil.copyfile(Path(__file__).parent / name / f"{name}.onnx", path)


def read_clothes(_folder: Path) -> list[Sample]:
    """Returns the first of Fashion-MNIST's training images, normalized as in training."""
    file = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    pixels = read_idx(file / "train-images-idx3-ubyte.gz")[: 4 * SAMPLES]
    return [{"image": image} for image in normalize_clothes(pixels)]


def normalize_clothes(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Returns Fashion-MNIST's images ``[n, 28, 28]`` as the network takes them, ``[n, 1, 1, 28, 28]``."""
    images: npt.NDArray[np.float32] = (pixels.astype(np.float32) / 255 - 0.286) / 0.353
    return images[:, None, None]


def copy_from_package(path: Path, package: str, inside: str) -> None:
    shutil.copyfile(find_package(package) / inside, path)


OCR = "rapidocr_onnxruntime"
RECOGNITION = "models/ch_PP-OCRv4_rec_infer.onnx"

NETWORKS = (
    Network(
        "EfficientNet-Lite0",
        True,
        partial(write_efficientnet, variant=LITE0),
        partial(read_photographs, variant=LITE0),
        "photographs of scikit-image",
    ),
    Network(
        "EfficientNet-Lite1",
        True,
        partial(write_efficientnet, variant=LITE1),
        partial(read_photographs, variant=LITE1),
        "photographs of scikit-image",
    ),
    Network("DS-CNN", True, partial(write_trained, name="ds_cnn"), read_clothes, "Fashion-MNIST"),
    Network(
        "PP-OCRv4 detection",
        True,
        partial(copy_from_package, package=OCR, inside="models/ch_PP-OCRv4_det_infer.onnx"),
        pages.read_pages,
        "drawn pages, 640 x 640",
    ),
    Network(
        "PP-OCRv4 recognition",
        True,
        partial(copy_from_package, package=OCR, inside=RECOGNITION),
        pages.read_lines,
        "drawn lines, 48 x 320",
    ),
    Network(
        "silero-vad",
        False,
        partial(
            copy_from_package, package="silero_vad", inside="data/silero_vad_openvino_16k.onnx"
        ),
        speech.read_frames,
        "speech of pocketsphinx-testdata, the state as it runs",
    ),
    Network(
        "openWakeWord embedding",
        True,
        partial(
            copy_from_package,
            package="openwakeword",
            inside="resources/models/embedding_model.onnx",
        ),
        speech.read_spectrograms,
        "speech of pocketsphinx-testdata",
    ),
    Network(
        "MiniLM encoder",
        False,
        minilm.write_encoder,
        minilm.read_sentences,
        "this repository's documents, 128 words",
    ),
    Network(
        "MiniLM whole",
        False,
        minilm.write_minilm,
        minilm.read_ids,
        "lines of this repository's documents, up to 128 words",
    ),
    Network(
        "magika",
        False,
        partial(copy_from_package, package="magika", inside=f"{filetypes.MODEL}/model.onnx"),
        filetypes.read_files,
        "files of this machine, 2 of each extension",
    ),
)

# Measured for accuracy, not for speed.
UNTIMED = (Network("CNN", True, partial(write_trained, name="cnn"), read_clothes, "Fashion-MNIST"),)
