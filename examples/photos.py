"""The pictures that the demo calibrates with and looks at: labelled and calibration pictures never overlap.

- 20 ImageNet photographs in ``foolbox``: the class is the last number of the file's name.
- 69 Tux Paint stamps, photographs cut out of their background; ``stamps.json`` maps each to the classes that are right
  (a hen may be answered as cock or hen).
- Calibration: crops of the photographs in ``scikit-image`` and unlabelled stamps.

All are read where their package put them; none is part of this repository.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edgekit import Preprocessing

# The network's own: a centred crop of 224 out of 256, and pixels as (x - 127) / 128.
PREPROCESSING = Preprocessing(size=(224, 224), crop=224 / 256, mean=127.0, scale=1 / 128)

_STAMP_FOLDERS = (
    Path("/usr/share/tuxpaint/stamps"),
    Path(__file__).parent.parent / ".cache" / "stamps",
)
_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
# Folders whose stamps are mostly photographs; the others hold drawings and letters.
_STAMP_KINDS = ("animals", "clothes", "food", "household", "plants", "sports", "town", "vehicles")


@dataclass(frozen=True)
class Photo:
    """A labelled picture; ``classes`` are the ImageNet classes that count as right."""

    name: str
    source: str
    image: Image.Image
    classes: frozenset[int]


def find_package(name: str) -> Path:
    """Returns the folder of an installed package without importing it.

    Raises:
        FileNotFoundError: It is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{name} is not installed: pip install --no-deps -r examples/requirements.txt"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def find_stamps() -> Path | None:
    """Returns the folder of Tux Paint's stamps, or None where they are not to be had."""
    return next((folder for folder in _STAMP_FOLDERS if folder.is_dir()), None)


def read_photos() -> list[Photo]:
    """Returns the 20 labelled photographs."""
    photos = []
    for path in sorted((find_package("foolbox") / "data").glob("imagenet_*.jpg")):
        label = int(path.stem.rpartition("_")[2])
        photos.append(Photo(path.name, "photos", Image.open(path), frozenset({label})))
    return photos


def read_stamps() -> list[Photo]:
    """Returns the 69 labelled stamps; empty where they are not to be had."""
    folder = find_stamps()
    if folder is None:
        return []
    labels = json.loads((Path(__file__).parent / "stamps.json").read_text())
    return [
        Photo(name, "stamps", _frame(folder / name), frozenset(classes))
        for name, classes in labels.items()
    ]


def read_other_stamps() -> Iterator[Image.Image]:
    """Yields every stamp that has no label, drawings and letters too, but those that are others' mirror images.

    The first of those that `write_calibration` takes, with which one stamp calibrates, is not among them.
    """
    folder = find_stamps()
    if folder is None:
        return
    labelled = set(json.loads((Path(__file__).parent / "stamps.json").read_text()))
    known = {(folder / name) for name in labelled} | set(_list_unlabelled(folder)[:1])
    for path in sorted(folder.rglob("*.png")):
        if path not in known and "_mirror" not in path.stem:
            yield _frame(path)


def write_calibration(folder: Path, stamps: int = 128) -> int:
    """Writes the calibration pictures to ``folder`` as PNG and returns how many there are.

    Args:
        folder: Is made; what it holds is overwritten.
        stamps: How many unlabelled stamps to take at most, evenly spread over the list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [*_crop_photographs(), *_unlabelled_stamps(stamps)]
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{index:04}.png", compress_level=1)
    return len(pictures)


def _crop_photographs() -> Iterator[Image.Image]:
    """Yields each photograph whole and its four quarters."""
    for name in _PHOTOGRAPHS:
        whole = Image.open(find_package("skimage") / "data" / name).convert("RGB")
        yield whole
        half_width, half_height = whole.width // 2, whole.height // 2
        for left in (0, half_width):
            for top in (0, half_height):
                yield whole.crop((left, top, left + half_width, top + half_height))


def _unlabelled_stamps(count: int) -> Iterator[Image.Image]:
    folder = find_stamps()
    if folder is None:
        return
    paths = _list_unlabelled(folder)
    step = max(len(paths) / count, 1.0)
    for index in range(min(count, len(paths))):
        yield _frame(paths[int(index * step)])


def _list_unlabelled(folder: Path) -> list[Path]:
    """Returns the stamps without a label that are mostly photographs."""
    labelled = set(json.loads((Path(__file__).parent / "stamps.json").read_text()))
    return [
        path
        for kind in _STAMP_KINDS
        for path in sorted((folder / kind).rglob("*.png"))
        if path.relative_to(folder).as_posix() not in labelled and "_mirror" not in path.stem
    ]


def _frame(path: Path) -> Image.Image:
    """Returns a stamp in the middle of a white square 1.25 times its longer side."""
    stamp = Image.open(path).convert("RGBA")
    side = round(1.25 * max(stamp.size))
    square = Image.new("RGB", (side, side), "white")
    square.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2), stamp)
    return square
