"""The ONNX form for an x86 without VNNI: no two products of its weights saturate, and every form has them."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import edgekit
from edgekit.doctor.examine import examine

RUN = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
with numpy.load(sys.argv[2]) as images:
    numpy.save(sys.argv[3], session.run(None, {"image": images["image"]})[0])
"""


@pytest.fixture(scope="module")
def narrow(cnn, images, tmp_path_factory):
    return edgekit.deploy(
        cnn,
        target="x86-64-v3",
        calibration=images,
        format=["native", "onnx"],
        precision="int8",
        output=tmp_path_factory.mktemp("narrow") / "v3",
    )


@pytest.mark.slow
def test_the_doctor_finds_no_saturation_and_all_forms_agree(narrow, images):
    report = narrow.report
    assert report.ranges.endswith("narrow weights")
    assert [note for note in report.notes if "wider scale, of which no two can" in note]
    assert not examine(narrow.onnx, target="x86-64-v3", seconds=0).findings
    (native,) = narrow.load().run({"image": images}).values()
    (onnx,) = edgekit.load(narrow.onnx).run({"image": images}).values()
    np.testing.assert_array_equal(native, onnx)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "formats", "is_narrow"),
    [
        ("x86-64-v2", ["onnx"], True),
        ("x86-64-v3", ["native"], False),
        ("x86-64-v4", ["onnx"], False),
        ("rpi4", ["onnx"], False),
    ],
)
def test_weights_are_narrow_where_it_is_needed(cnn, images, tmp_path, target, formats, is_narrow):
    deployed = edgekit.deploy(
        cnn,
        target=target,
        calibration=images[:4],
        format=formats,
        precision="int8",
        ranges="minmax",
        output=tmp_path / "out",
    )
    assert ("narrow weights" in deployed.report.ranges) == is_narrow


def test_a_models_own_weights_stay_and_are_warned_of(deployment, images, tmp_path):
    deployed = edgekit.deploy(
        deployment.onnx,
        target="x86-64-v3",
        calibration=images[:4],
        format="onnx",
        output=tmp_path / "out",
    )
    assert [note for note in deployed.report.notes if "own weights may do so" in note]


@pytest.mark.cross
def test_an_emulated_haswell_gives_the_same_bytes(narrow, images, tmp_path):
    """ONNX Runtime itself, on a CPU with AVX2 and without VNNI."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64 to emulate a Haswell (Debian: qemu-user)")
    np.savez(tmp_path / "images.npz", image=images)
    outputs = {}
    for name, prefix in (("here", []), ("haswell", [emulator, "-cpu", "Haswell-v4"])):
        output = tmp_path / f"{name}.npy"
        words = [sys.executable, "-c", RUN, narrow.onnx, tmp_path / "images.npz", output]
        subprocess.run([*prefix, *map(str, words)], check=True, capture_output=True, timeout=120)
        outputs[name] = np.load(output)
    np.testing.assert_array_equal(outputs["haswell"], outputs["here"])
