"""Calibration data: what is read is what was declared, and what does not fit is refused in words."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from edgekit import CalibrationError, Preprocessing
from edgekit.data import InputSpec, list_images, parse_preprocessing, read_samples

IMAGE = InputSpec("image", (None, 3, 4, 6), "float32")


def test_preprocessing_is_the_equation():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    prepared = Preprocessing(size=(4, 6), mean=(1, 2, 3), scale=(0.5, 1, 2)).apply(
        Image.fromarray(pixels)
    )
    expected = (pixels.astype(np.float32) - np.float32([1, 2, 3])) * np.float32([0.5, 1, 2])
    np.testing.assert_array_equal(prepared, expected.transpose(2, 0, 1)[None])
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous


def test_nhwc_bgr():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    prepared = Preprocessing(size=(4, 6), scale=1.0, layout="NHWC", channels="BGR").apply(
        Image.fromarray(pixels)
    )
    np.testing.assert_array_equal(prepared[0], pixels[..., ::-1])


def test_crop_is_centred_and_keeps_the_proportions_of_size():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 30:50] = 255
    prepared = Preprocessing(size=(20, 20), crop=0.5, scale=1.0).apply(Image.fromarray(pixels))
    assert (prepared == 255).all()


def test_transparency_is_white():
    prepared = Preprocessing(size=(2, 2), scale=1.0).apply(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert (prepared == 255).all()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"size": (0, 4)}, "size"),
        ({"size": (4,)}, "size"),
        ({"crop": 0.0}, "crop"),
        ({"crop": 1.5}, "crop"),
        ({"mean": (1.0, 2.0)}, "mean"),
        ({"scale": float("nan")}, "scale"),
        ({"layout": "CHW"}, "layout"),
        ({"channels": "CMYK"}, "channels"),
        ({"resample": "nearest"}, "resample"),
    ],
)
def test_wrong_preprocessing_names_the_field(fields, name):
    with pytest.raises(CalibrationError, match=name):
        Preprocessing(**{"size": (4, 6), **fields})


def test_folder_is_read_in_order_of_paths(tmp_path):
    (tmp_path / "b").mkdir()
    for name, value in (("b/1.png", 1), ("a.jpg", 0), ("c.PNG", 2)):
        Image.new("RGB", (6, 4), (value,) * 3).save(tmp_path / name)
    (tmp_path / "note.txt").write_text("not a picture")
    samples = read_samples(str(tmp_path), [IMAGE], Preprocessing(size=(4, 6), scale=1.0))
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "1.png", "c.PNG"]
    assert [int(sample["image"].max()) for sample in samples] == [0, 1, 2]
    assert len(list(samples)) == len(samples) == 3


def test_another_file_is_refused_with_what_to_give(tmp_path):
    np.save(tmp_path / "a.npy", ARRAY)
    with pytest.raises(
        CalibrationError, match=r"a\.npy: neither.*numpy\.savez\(FILE, image=\.\.\.\)"
    ):
        read_samples(tmp_path / "a.npy", [IMAGE])


def test_folder_needs_preprocessing(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(CalibrationError, match="--preprocess size="):
        read_samples(tmp_path, [IMAGE])


@pytest.mark.parametrize("make", [False, True])
def test_folder_without_pictures(tmp_path, make):
    folder = tmp_path / "pictures"
    if make:
        folder.mkdir()
    with pytest.raises(CalibrationError, match="pictures"):
        read_samples(folder, [IMAGE], Preprocessing(size=(4, 6)))


def _png(width, height, *, header=13):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)[:header]
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    "content",
    [
        b"not a picture",
        _png(2, 2, header=2),
        _png(100_000, 100_000),
        b"P6 4 4 0\n",
        # A format that Pillow would hand to Ghostscript, under the name of another.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_damaged_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    samples = read_samples(tmp_path, [IMAGE], Preprocessing(size=(4, 6)))
    with pytest.raises(CalibrationError, match=r"a\.png"):
        list(samples)


def test_pictures_of_the_wrong_size_are_named(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    samples = read_samples(tmp_path, [IMAGE], Preprocessing(size=(6, 6)))
    with pytest.raises(CalibrationError, match=r"a\.png.*\[any, 3, 4, 6\].*\[1, 3, 6, 6\]"):
        list(samples)


ARRAY = np.arange(5 * 3 * 4 * 6, dtype=np.float32).reshape(5, 3, 4, 6)


def sources(tmp_path):
    np.savez(tmp_path / "a.npz", image=ARRAY)
    return {
        "array": ARRAY,
        "mapping": {"image": ARRAY},
        "npz": tmp_path / "a.npz",
        "list of dicts": [{"image": ARRAY[i : i + 1]} for i in range(5)],
        "generator": ({"image": ARRAY[i : i + 1]} for i in range(5)),
        "list of arrays": [ARRAY[i : i + 1] for i in range(5)],
    }


@pytest.mark.parametrize(
    "source", ["array", "mapping", "npz", "list of dicts", "generator", "list of arrays"]
)
def test_each_source_gives_the_same_samples_twice(tmp_path, source):
    samples = read_samples(sources(tmp_path)[source], [IMAGE])
    for _ in range(2):
        read = [sample["image"] for sample in samples]
        np.testing.assert_array_equal(np.concatenate(read), ARRAY)
        assert {array.shape for array in read} == {(1, 3, 4, 6)}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "needs calibration data"),
        (42, "int is not understood"),
        ([], "empty"),
        ("missing.npz", "no such file"),
        ({"picture": ARRAY}, "holds picture, but the model's inputs are image"),
        (ARRAY[:0], "holds no sample"),
        ([{"image": ARRAY[:1], "more": ARRAY}], "holds image, more"),
        (["a"], "must be a dict"),
        ({1: ARRAY}, "holds 1, but the model's inputs are image"),
        ({"image": None}, "holds no sample"),
        ({"image": [[1.0, 2.0], [3.0]]}, "input 'image' is not an array"),
        ([{"image": [[1.0, 2.0], [3.0]]}], "sample 0: input 'image' is not an array"),
        ([{1: ARRAY, "image": ARRAY}], "holds 1, image"),
        ([{"image": ARRAY[:0]}], "sample 0: input 'image' holds no element"),
    ],
)
def test_source_that_does_not_fit(source, words):
    with pytest.raises(CalibrationError, match=words):
        list(read_samples(source, [IMAGE]))


def test_a_model_without_inputs_takes_no_samples():
    with pytest.raises(CalibrationError, match="no input"):
        read_samples({}, [])


def test_an_input_of_a_type_that_arrays_lack_is_named():
    with pytest.raises(CalibrationError, match=r"takes tensor\(string\)"):
        list(
            read_samples({"x": np.ones(3, np.float32)}, [InputSpec("x", (None,), "tensor(string)")])
        )


def _npz(array):
    stream = io.BytesIO()
    np.savez_compressed(stream, image=array)
    return stream.getvalue()


def _zip(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\x03\x04",
        _npz(ARRAY)[:-30],
        _npz(ARRAY).replace(_npz(ARRAY)[60:90], b"\xff" * 30),
        _npy(ARRAY),
        _zip("image.npy", b"text"),
    ],
)
def test_damaged_npz_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"a\.npz: not an \.npz of plain arrays"):
        read_samples(tmp_path / "a.npz", [IMAGE])


def test_npz_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{}], object))
    with pytest.raises(CalibrationError, match="plain arrays"):
        read_samples(tmp_path / "a.npz", [IMAGE])


def test_inputs_of_different_lengths():
    inputs = [InputSpec("a", (None, 1), "float32"), InputSpec("b", (None, 1), "float32")]
    arrays = {"a": np.zeros((2, 1), np.float32), "b": np.zeros((3, 1), np.float32)}
    with pytest.raises(CalibrationError, match="different numbers"):
        read_samples(arrays, inputs)
    with pytest.raises(CalibrationError, match="name them in a dict"):
        read_samples(arrays["a"], inputs)


def test_integers_for_a_float_input_are_refused():
    samples = read_samples(ARRAY.astype(np.uint8), [IMAGE])
    with pytest.raises(CalibrationError, match="float32, but the sample is uint8"):
        list(samples)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    array = ARRAY.copy()
    array[3, 0, 0, 0] = value
    samples = read_samples(array, [IMAGE])
    with pytest.raises(CalibrationError, match=r"\[3\].*NaN or infinity"):
        list(samples)


def test_preprocessing_of_arrays_is_refused():
    with pytest.raises(CalibrationError, match="as they are"):
        read_samples(ARRAY, [IMAGE], Preprocessing(size=(4, 6)))


def test_preprocessing_in_words():
    words = [
        "size=4x6",
        "crop=7/8",
        "mean=1,2,3",
        "scale=1/128",
        "layout=NHWC",
        "channels=BGR",
        "resample=bilinear",
    ]
    assert parse_preprocessing(words) == Preprocessing(
        size=(4, 6),
        crop=0.875,
        mean=(1.0, 2.0, 3.0),
        scale=1 / 128,
        layout="NHWC",
        channels="BGR",
        resample="bilinear",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crop=1"], "size of the model's input"),
        (["size=a"], "'a' is not a whole number"),
        (["size=8.7"], "'8.7' is not a whole number"),
        (["size=4x"], "'' is not a whole number"),
        (["size=4", "crop=1e999"], "'1e999' is not a number"),
        (["size=4", "scale=1/0"], "'1/0' is not a number"),
        (["size=4", "size=5"], "each key once"),
        (["size"], "KEY=VALUE"),
        (["size=4", "median=3"], "unknown key; known: size, crop, mean"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(CalibrationError, match=message):
        parse_preprocessing(words)
