"""How many pictures networks name right: clothes, photographs and stamps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekit import Preprocessing
from edgekit.session import Session
from efficientnet_lite0 import Variant
from find_data import find_data, read_idx
from intervals import Figure, share_of
from networks import normalize_clothes
from photos import find_package, read_other_stamps, read_photos, read_stamps

# Of scikit-image's photographs and scans: none of which a network of the contest is calibrated with.
_OTHER_PHOTOGRAPHS = (
    "cell.png",
    "clock_motion.png",
    "color.png",
    "horse.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)


def measure_clothes(session: Session, limit: int | None) -> list[Figure]:
    """Returns the share of Fashion-MNIST's 10,000 test images whose class is found."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    images = normalize_clothes(read_idx(folder / "t10k-images-idx3-ubyte.gz")[:limit])
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")[:limit]
    right = [_answer(session, image) == label for image, label in zip(images, labels, strict=True)]
    return [share_of("accuracy", right, "images")]


def measure_photographs(session: Session, limit: int | None, variant: Variant) -> list[Figure]:
    """Returns the shares of the labelled photographs and stamps whose class is found.

    The session answers unlabelled pictures as well, for the sake of whoever compares its answers with others.
    """
    size = variant.resolution
    preprocessing = Preprocessing(
        size=(size, size), crop=size / (size + 32), mean=127.0, scale=1 / 128
    )
    figures = []
    for unit, pictures in (("photos", read_photos()), ("stamps", read_stamps())):
        right = [
            _answer(session, preprocessing.apply(picture.image)) in picture.classes
            for picture in pictures[:limit]
        ]
        if right:
            figures.append(share_of(f"right {unit}", right, unit))
    for image in islice(read_unlabelled(), limit):
        _answer(session, preprocessing.apply(image))
    return figures


def read_unlabelled() -> Iterator[Image.Image]:
    """Yields pictures that nobody calibrates with: stamps without a label, parts of scikit-image's other photographs.

    Stamps are framed as the labelled ones are; photographs come whole and in overlapping ninths. None is there twice,
    mirrored stamps are left out.
    """
    yield from read_other_stamps()
    for name in _OTHER_PHOTOGRAPHS:
        whole = Image.open(find_package("skimage") / "data" / name).convert("RGB")
        yield whole
        width, height = whole.width // 2, whole.height // 2
        for left in range(3):
            for top in range(3):
                corner = left * width // 2, top * height // 2
                yield whole.crop((*corner, corner[0] + width, corner[1] + height))


def _answer(session: Session, image: npt.NDArray[np.float32]) -> int:
    (scores,) = session.run({"image": image}).values()
    return int(np.argmax(scores))
