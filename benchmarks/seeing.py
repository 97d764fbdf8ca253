"""How many pictures networks name right: clothes, photographs and stamps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from edgekit import Preprocessing
from edgekit.session import Session
from efficientnet_lite0 import Variant
from find_data import find_data, read_idx
from intervals import Figure, share
from networks import normalize_clothes
from photos import Photo, read_photos, read_stamps


def measure_clothes(session: Session, limit: int | None) -> list[Figure]:
    """Returns the share of Fashion-MNIST's 10,000 test images whose class is found."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    images = normalize_clothes(read_idx(folder / "t10k-images-idx3-ubyte.gz")[:limit])
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")[:limit]
    hits = sum(
        int(_answer(session, image) == label) for image, label in zip(images, labels, strict=True)
    )
    return [share("accuracy", hits, len(labels), "images")]


def measure_photographs(session: Session, limit: int | None, variant: Variant) -> list[Figure]:
    """Returns the shares of the labelled photographs and stamps whose class is found."""
    size = variant.resolution
    preprocessing = Preprocessing(
        size=(size, size), crop=size / (size + 32), mean=127.0, scale=1 / 128
    )
    figures = []
    for unit, pictures in (("photos", read_photos()), ("stamps", read_stamps())):
        used = list(islice(_looked_at(session, preprocessing, pictures), limit))
        if used:
            figures.append(share(f"right {unit}", sum(used), len(used), unit))
    return figures


def _looked_at(
    session: Session, preprocessing: Preprocessing, pictures: list[Photo]
) -> Iterator[bool]:
    for picture in pictures:
        yield _answer(session, preprocessing.apply(picture.image)) in picture.classes


def _answer(session: Session, image: npt.NDArray[np.float32]) -> int:
    (scores,) = session.run({"image": image}).values()
    return int(np.argmax(scores))
