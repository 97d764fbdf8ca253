"""The command line on bad input: one line that begins with "error: ", exit code 1, nothing half written."""

import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgekit import cli

MODEL = """<ir_version: 8, opset_import: ["": 17]>
net (float[N, 3, 8, 8] x) => (float[N, 4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    c = GlobalAveragePool (b)
    y = Flatten (c)
}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, samples, and their like that are damaged or do not fit."""
    folder = tmp_path_factory.mktemp("bad")
    random = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, folder / "net.onnx")
    onnx.save(model, folder / "сеть ü.onnx")
    samples = random.normal(size=(8, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "s.npz", x=samples)
    samples[3] = np.nan
    np.savez(folder / "nan.npz", x=samples)
    np.savez(folder / "shape.npz", x=np.zeros((8, 8, 8, 3), np.float32))
    np.savez(folder / "names.npz", z=np.zeros((8, 3, 8, 8), np.float32))
    np.savez(folder / "none.npz", x=np.zeros((0, 3, 8, 8), np.float32))
    np.savez(folder / "object.npz", x=np.array([{}], dtype=object))
    np.save(folder / "x.npy", samples[:1])
    np.save(folder / "rows.npy", np.zeros((1, 8, 8, 3), np.float32))
    whole = (folder / "net.onnx").read_bytes()
    for name, data in {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "text": b"hello\nworld\n",
    }.items():
        for suffix in ("onnx", "tflite", "plan", "npz", "npy"):
            (folder / f"{name}.{suffix}").write_bytes(data)
    (folder / "labels.txt").write_text("a\nb\n")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "gone.onnx").symlink_to(folder / "nowhere.onnx")
    return folder


def command(*words):
    """Returns what the command exits with."""
    sys.argv = ["edgekit", *map(str, words)]
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code or 0


@pytest.fixture
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [])
    before = sorted(place.rglob("*"))
    yield place
    assert sorted(place.rglob("*")) == before


def check(capfd, words, message):
    code = command(*words)
    out, err = capfd.readouterr()
    assert (code, out) == (1, ""), err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert "Errno" not in err
    assert message in err


DEPLOY = ("--calibration", "s.npz", "--output", "out")
FILES = ["none", "empty", "half", "text", "gone", "folder"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "tflite", "plan"])
@pytest.mark.parametrize("file", FILES)
def test_files_that_are_none(in_place, capfd, file, suffix):
    name = file if file == "folder" else f"{file}.{suffix}"
    check(capfd, ("inspect", name), name)
    check(capfd, ("run", name, "--input", "x.npy"), name)
    if suffix != "plan":
        check(capfd, ("deploy", name, *DEPLOY), name)
        check(capfd, ("doctor", name), name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--calibration", "none.npz"], "none.npz: holds no sample"),
        (["--calibration", "missing.npz"], "missing.npz: no such file"),
        (["--calibration", "empty.npz"], "empty.npz: not an .npz"),
        (["--calibration", "folder"], "folder: holds no picture"),
        (["--calibration", "x.npy"], "neither a folder of pictures nor an .npz"),
        (["--calibration", "nan.npz"], "nan.npz[3]: input 'x' holds NaN"),
        (["--calibration", "shape.npz"], "takes shape [any, 3, 8, 8], but the sample has [1, 8, 8, 3]"),
        (["--calibration", "names.npz"], "holds z, but the model's inputs are x"),
        (["--calibration", "object.npz"], "object.npz: not an .npz of plain arrays"),
        (["--format", "tflite", "--labels", "labels.txt"], "2 names, but no dimension"),
        (["--format", "tflite", "--labels", "folder"], "folder: labels cannot be read: Is a directory"),
        (["--format", "tflite", "--labels", "missing"], "missing: labels cannot be read: No such file"),
        (["--output", "labels.txt"], "labels.txt: not overwritten"),
        (["--output", "labels.txt/out"], "labels.txt"),
        (["--output", "/proc/out"], "/proc/out: cannot be written: no folder can be made in /proc"),
        (["--output", "loop"], "loop: cannot be written: its links lead nowhere"),
        (["--output", "a" * 300], "File name too long"),
        (["--shape", "x=0,3,8,8"], "empty shape"),
        (["--shape", "x=1,3,9,9"], "dimension 2 of input 'x' is 8"),
        (["--state", "q=y"], "there is no input 'q'"),
        (["--target", "folder"], "folder"),
    ],
)  # fmt: skip
def test_arguments_of_deploy(in_place, capfd, words, message):
    check(capfd, ("deploy", "net.onnx", *DEPLOY, *words), message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "net.onnx", "--input", "rows.npy"], "input 'x' takes shape [any, 3, 8, 8], not"),
        (["run", "net.onnx", "--input", "text.npy"], "text.npy: not a valid .npy file"),
        (["run", "net.onnx", "--input", "z=x.npy"], "the inputs are x, not z"),
        (["run", "net.onnx", "--input", "x.npy", "--output-dir", "labels.txt"], "labels.txt: File exists"),
        (["run", "net.onnx", "--input", "x.npy", "--output-dir", "/proc/out"], "/proc/out: "),
        (["doctor", "net.onnx", "--shape", "x=0,3,8,8"], "empty shape [0, 3, 8, 8]"),
        (["doctor", "net.onnx", "--shape", "x=99999999999,3,8,8"], "does not fit into memory"),
        (["doctor", "net.onnx", "--seconds", "0", "--fix", "/proc/out.onnx"], "no folder can be made in /proc"),
        (["verify", "folder"], "folder: "),
        (["report", "labels.txt"], "labels.txt: no bundle: give its folder"),
    ],
)  # fmt: skip
def test_arguments_of_other_commands(in_place, capfd, words, message):
    check(capfd, words, message)


def test_names_beyond_ascii_and_suffixes_in_capitals(place, tmp_path, capfd):
    model = shutil.copy(place / "сеть ü.onnx", tmp_path / "СЕТЬ.ONNX")
    out = tmp_path / "выход 日本"
    words = ("--calibration", place / "s.npz", "--output", out, "--precision", "int8")
    assert command("deploy", model, *words, "--format", "onnx") == 0
    assert command("inspect", model) == 0
    assert (out / "model.onnx").is_file()
    assert capfd.readouterr().err == ""


def test_a_link_as_output_is_followed_and_stays(place, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    words = ("--calibration", place / "s.npz", "--format", "onnx", "--output", tmp_path / "link")
    assert command("deploy", place / "net.onnx", *words) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/model.onnx").is_file()


@pytest.fixture
def full_disk(tmp_path):
    """A file system with no more room than 64 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_called_so_and_left_clean(place, full_disk, capfd):
    words = ("--calibration", place / "s.npz", "--output", full_disk / "out")
    check(capfd, ("deploy", place / "net.onnx", *words), "No space left on device")
    assert list(full_disk.iterdir()) == []
