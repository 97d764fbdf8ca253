"""Reads calibration and evaluation data: image folders, ``.npz`` files, arrays and iterables of input dicts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgekit.converters.read_arrays import read_npz
from edgekit.targets.errors import CalibrationError, ToolError

Sample = dict[str, npt.NDArray[Any]]
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
# Pillow goes by content, not by name, and hands some formats to other programs.
_IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
_LARGEST_SIDE = 65535


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input: ``(pixel - mean) * scale``, pixels in [0, 255].

    Attributes:
        size: Height and width of the input in pixels.
        crop: Share of the shorter side that the centred crop keeps, in (0, 1]. The crop has the proportions of
            ``size``.
        mean: Subtracted from each channel, one number or one a channel.
        scale: Multiplied afterwards, one number or one a channel.
        layout: "NCHW" or "NHWC".
        channels: "RGB", "BGR" or "L" (grey, one channel). Transparent pictures are laid on white.
        resample: "bicubic" or "bilinear".
    """

    size: tuple[int, int]
    crop: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0 / 255.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    resample: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        count = 1 if self.channels == "L" else 3
        sides = self.size if isinstance(self.size, (tuple, list)) else ()
        if len(sides) != 2 or not all(
            isinstance(side, int) and 1 <= side <= _LARGEST_SIDE for side in sides
        ):
            raise CalibrationError(
                f"size must be a height and a width, whole numbers from 1 to {_LARGEST_SIDE}, not {self.size!r}"
            )
        if not isinstance(self.crop, (int, float)) or not 0 < self.crop <= 1:
            raise CalibrationError(f"crop must be a number in (0, 1], not {self.crop!r}")
        for name in ("mean", "scale"):
            try:
                value = np.asarray(getattr(self, name), np.float64)
            except (TypeError, ValueError):
                value = np.asarray(np.nan)
            if value.shape not in ((), (count,)) or not np.isfinite(value).all():
                raise CalibrationError(
                    f"{name} must be one finite number or one for each of {count} channels, "
                    f"not {getattr(self, name)}"
                )
        for name, known in (
            ("layout", ("NCHW", "NHWC")),
            ("channels", ("RGB", "BGR", "L")),
            ("resample", ("bicubic", "bilinear")),
        ):
            if getattr(self, name) not in known:
                raise CalibrationError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of one prepared picture, batch of 1."""
        count = 1 if self.channels == "L" else 3
        height, width = self.size
        return (1, count, height, width) if self.layout == "NCHW" else (1, height, width, count)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return asdict(self)

    def read(self, path: Path) -> npt.NDArray[np.float32]:
        """Returns the picture at ``path`` as a float32 array of ``shape``.

        Raises:
            CalibrationError: The file is missing or not a picture.
            ToolError: Pillow is not installed.
        """
        image = _import_pillow()
        try:
            picture = image.open(path, formats=_IMAGE_FORMATS)
            picture.load()
        except Exception as error:  # Each of Pillow's readers has its own classes for damage.
            raise CalibrationError(f"{path}: cannot be read as a picture: {error}") from error
        with picture:
            return self.apply(picture)

    def apply(self, picture: Any) -> npt.NDArray[np.float32]:
        """Returns a ``PIL.Image.Image`` as a float32 array of ``shape``."""
        image = _import_pillow()
        picture = _lay_on_white(picture).convert("L" if self.channels == "L" else "RGB")
        height, width = self.size
        unit = self.crop * min(picture.height / height, picture.width / width)
        crop_height, crop_width = max(round(unit * height), 1), max(round(unit * width), 1)
        left, top = (picture.width - crop_width) // 2, (picture.height - crop_height) // 2
        filters = {
            "bicubic": image.Resampling.BICUBIC,
            "bilinear": image.Resampling.BILINEAR,
        }
        picture = picture.crop((left, top, left + crop_width, top + crop_height))
        picture = picture.resize((width, height), filters[self.resample])
        pixels = np.asarray(picture, np.float32).reshape(height, width, -1)
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        values = (pixels - np.asarray(self.mean, np.float32)) * np.asarray(self.scale, np.float32)
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None])


def parse_preprocessing(items: Sequence[str]) -> Preprocessing:
    """Returns what ``KEY=VALUE`` items say, in the words of `Preprocessing`.

    >>> parse_preprocessing(["size=224x320", "mean=124,117,104", "scale=1/128"]).size
    (224, 320)

    Raises:
        CalibrationError: A key is unknown or given twice, a value is no number, or the size is missing.
    """
    values: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or key in values:
            raise CalibrationError(
                f"preprocessing '{item}': each must be KEY=VALUE, and each key once"
            )
        if key == "size":
            height, times, width = text.partition("x")
            values[key] = (
                _parse_side(height, item),
                _parse_side(width if times else height, item),
            )
        elif key == "crop":
            values[key] = _parse_number(text, item)
        elif key in ("mean", "scale"):
            numbers = tuple(_parse_number(part, item) for part in text.split(","))
            values[key] = numbers[0] if len(numbers) == 1 else numbers
        elif key in ("layout", "channels", "resample"):
            values[key] = text
        else:
            known = ", ".join(field.name for field in fields(Preprocessing))
            raise CalibrationError(f"preprocessing '{item}': unknown key; known: {known}")
    if "size" not in values:
        raise CalibrationError(
            "preprocessing: say the size of the model's input: size=224 or 224x320"
        )
    return Preprocessing(**values)


def _parse_number(text: str, item: str) -> float:
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise CalibrationError(f"preprocessing '{item}': '{text}' is not a number") from error


def _parse_side(text: str, item: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise CalibrationError(f"preprocessing '{item}': '{text}' is not a whole number") from error


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ToolError("reading pictures needs Pillow: pip install 'edgekit[images]'") from error
    return Image


def _lay_on_white(picture: Any) -> Any:
    """Returns the picture without transparency."""
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture
    picture = picture.convert("RGBA")
    white = _import_pillow().new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: its name, its shape with None for a symbolic dimension, its dtype's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def takes(self, shape: Sequence[int]) -> bool:
        """Returns whether an array of ``shape`` fits."""
        return len(shape) == len(self.shape) and all(
            n is None or n == m for n, m in zip(self.shape, shape, strict=True)
        )

    def describe_shape(self) -> str:
        """Returns the shape in words.

        >>> InputSpec("x", (None, 3), "float32").describe_shape()
        '[any, 3]'
        """
        return f"[{', '.join('any' if n is None else str(n) for n in self.shape)}]"

    def check(self, array: npt.NDArray[Any], source: str) -> npt.NDArray[Any]:
        """Returns ``array`` in this input's dtype.

        Raises:
            CalibrationError: Shape or dtype does not fit, or a value is not finite; names ``source``.
        """
        if not self.takes(array.shape):
            raise CalibrationError(
                f"{source}: input '{self.name}' takes shape {self.describe_shape()}, "
                f"but the sample has {list(array.shape)}"
            )
        if array.dtype.name != self.dtype:
            both_float = array.dtype.kind == "f" and self.dtype in ("float16", "float32", "float64")
            if not both_float:
                raise CalibrationError(
                    f"{source}: input '{self.name}' takes {self.dtype}, but the sample is {array.dtype}; "
                    f"convert it, so that its range is what the model was trained on"
                )
            array = array.astype(self.dtype)
        if array.size == 0:
            raise CalibrationError(f"{source}: input '{self.name}' holds no element")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(f"{source}: input '{self.name}' holds NaN or infinity")
        return array


class Samples:
    """Samples for calibration: may be iterated again and again, each time from the source.

    Attributes:
        kind: What the samples come from, for reports: "images", "npz", "arrays" or "iterable".
        description: Where they come from, in words.
    """

    def __init__(
        self, kind: str, description: str, length: int, read: Callable[[int], Sample]
    ) -> None:
        self.kind = kind
        self.description = description
        self._length = length
        self._read = read
        # By index, kept as samples are read, so that nobody has to read them again for it.
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(index)
        sample = self._read(index)
        if index not in self._digests:
            self._digests[index] = _digest_sample(sample)
        return sample

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted SHA-256 of all samples, in hexadecimal: the same in any order."""
        for index in set(range(len(self))) - self._digests.keys():
            self[index]
        return hashlib.sha256(b"".join(sorted(self._digests.values()))).hexdigest()

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._length))


def _digest_sample(sample: Sample) -> bytes:
    """Returns SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(sample):
        array = np.ascontiguousarray(sample[name])
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes() if array.dtype.hasobject else array.data)
    return digest.digest()


def list_images(folder: Path) -> list[Path]:
    """Returns the pictures below ``folder``, sorted by path.

    Raises:
        CalibrationError: The folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder of calibration images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: holds no picture ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def read_samples(
    source: Any, inputs: list[InputSpec], preprocessing: Preprocessing | None = None
) -> Samples:
    """Returns calibration samples in the model's terms, each checked when it is read.

    Args:
        source: A folder of pictures (with ``preprocessing``), the path of an ``.npz`` (one array an input, samples
            along the first dimension), an array (the same, for a model of one input), a mapping from input to such
            an array, or an iterable of dicts (kept in memory if it is not a sequence).
        inputs: The model's inputs.
        preprocessing: How pictures become inputs; required for a folder and refused elsewhere.

    Raises:
        CalibrationError: There is nothing to read, or it does not fit the model.
    """
    if not inputs:
        raise CalibrationError("the model has no input that calibration data could be given to")
    if source is None:
        raise CalibrationError(
            "int8 needs calibration data: give a folder of images, an .npz, an array or an iterable of input dicts"
        )
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.suffix == ".npz":
            _refuse_preprocessing(preprocessing, path)
            return _from_arrays(_load_npz(path), inputs, "npz", str(path))
        if path.is_file():
            names = ", ".join(f"{spec.name}=..." for spec in inputs)
            raise CalibrationError(
                f"{path}: neither a folder of pictures nor an .npz: give one of them; "
                f"numpy.savez(FILE, {names}) writes arrays as an .npz"
            )
        return _from_images(path, inputs, preprocessing)
    _refuse_preprocessing(preprocessing, "samples that are arrays")
    if isinstance(source, np.ndarray):
        return _from_arrays({_single(inputs).name: source}, inputs, "arrays", "an array")
    if isinstance(source, Mapping):
        return _from_arrays(source, inputs, "arrays", "arrays")
    if isinstance(source, Iterable):
        return _from_iterable(source, inputs)
    raise CalibrationError(
        f"calibration data of type {type(source).__name__} is not understood: "
        "give a folder of images, an .npz, an array or an iterable of input dicts"
    )


def _refuse_preprocessing(preprocessing: Preprocessing | None, source: object) -> None:
    if preprocessing is not None:
        raise CalibrationError(
            f"{source}: preprocessing is for a folder of images; arrays are used as they are"
        )


def _single(inputs: list[InputSpec]) -> InputSpec:
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise CalibrationError(f"the model has {len(inputs)} inputs ({names}): name them in a dict")
    return inputs[0]


def _from_images(
    folder: Path, inputs: list[InputSpec], preprocessing: Preprocessing | None
) -> Samples:
    paths = list_images(folder)
    if preprocessing is None:
        raise CalibrationError(
            f"{folder}: say how pictures become inputs: preprocessing=edgekit.Preprocessing(size=..., mean=..., "
            "scale=...), on the command line --preprocess size=... and so on"
        )
    spec = _single(inputs)

    def read(index: int) -> Sample:
        return {spec.name: spec.check(preprocessing.read(paths[index]), str(paths[index]))}

    return Samples("images", f"{len(paths)} pictures in {folder}", len(paths), read)


def _load_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_npz(path)
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: not an .npz of plain arrays: {error}") from error


def _from_arrays(
    given: Mapping[str, Any], inputs: list[InputSpec], kind: str, source: str
) -> Samples:
    _check_names(given, inputs, source)
    arrays = {name: _as_array(values, name, source) for name, values in given.items()}
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise CalibrationError(f"{source}: inputs hold different numbers of samples: {lengths}")
    length = next(iter(lengths.values()))
    if length == 0:
        raise CalibrationError(f"{source}: holds no sample")

    def read(index: int) -> Sample:
        return {
            spec.name: spec.check(arrays[spec.name][index : index + 1], f"{source}[{index}]")
            for spec in inputs
        }

    return Samples(kind, f"{length} samples from {source}", length, read)


def _from_iterable(source: Iterable[Any], inputs: list[InputSpec]) -> Samples:
    samples = source if isinstance(source, (list, tuple)) else list(source)
    if not samples:
        raise CalibrationError("the iterable of calibration samples is empty")

    def read(index: int) -> Sample:
        sample, where = samples[index], f"calibration sample {index}"
        if isinstance(sample, np.ndarray):
            sample = {_single(inputs).name: sample}
        if not isinstance(sample, Mapping):
            raise CalibrationError(
                f"{where}: must be a dict of arrays by input, not {type(sample).__name__}"
            )
        _check_names(sample, inputs, where)
        return {
            spec.name: spec.check(_as_array(sample[spec.name], spec.name, where), where)
            for spec in inputs
        }

    return Samples("iterable", f"{len(samples)} samples", len(samples), read)


def _as_array(values: Any, name: str, source: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise CalibrationError(f"{source}: input '{name}' is not an array: {error}") from error


def _check_names(arrays: Mapping[str, Any], inputs: list[InputSpec], source: str) -> None:
    wanted = {spec.name for spec in inputs}
    if set(arrays) != wanted:
        raise CalibrationError(
            f"{source}: holds {', '.join(sorted(map(str, arrays))) or 'nothing'}, "
            f"but the model's inputs are {', '.join(sorted(wanted))}"
        )
