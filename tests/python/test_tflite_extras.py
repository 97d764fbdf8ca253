"""The extras for TFLite in environments of their own, as pip makes them, beside numpy 2 and numpy 1."""

import importlib.metadata
import site
import subprocess
import sys

import numpy as np
import pytest

import edgekit

pytestmark = pytest.mark.slow

RUN = """
import site, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")) if sys.argv[1] else {})
# What edgekit itself needs comes last: the environment's own packages win.
for folder in sys.argv[2].split(","):
    site.addsitedir(folder)
import numpy, edgekit
from edgekit.interpreter import find_interpreter
print(numpy.__version__, find_interpreter())
numpy.save(sys.argv[5], edgekit.load(sys.argv[3]).run(numpy.load(sys.argv[4]))["logits"])
"""


def requirements(extra: str) -> list[str]:
    """Returns what the distribution asks for with an extra, without what it asks for in any case."""
    marked = f'extra == "{extra}"'
    found = importlib.metadata.requires("edgekit") or []
    return [entry.partition(";")[0].strip() for entry in found if marked in entry.replace("'", '"')]


@pytest.fixture(scope="module")
def form(cnn, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("form")
    np.save(folder / "images.npy", images[:4])
    deployed = edgekit.deploy(
        cnn, calibration=images, format="tflite", ranges="minmax", output=folder / "net"
    )
    return deployed.tflite, folder / "images.npy", deployed.load().run(images[:4])["logits"]


def install(folder, *wanted: str):
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"pip finds no {', '.join(wanted)} for this Python or system")
    assert done.returncode == 0, done.stderr
    return python


def run(python, form, tmp_path, hidden: str = ""):
    file, images, _ = form
    folders = ",".join([*site.getsitepackages()])
    command = [python, "-c", RUN, hidden, folders, file, images, tmp_path / "logits.npy"]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_extra_works_beside_numpy_2(form, tmp_path):
    python = install(tmp_path / "env", "numpy>=2", *requirements("tflite"))
    done = run(python, form, tmp_path)
    assert done.returncode == 0, done.stderr
    version, package = done.stdout.split()
    assert int(version.split(".")[0]) >= 2
    assert package == "ai_edge_litert"
    assert np.load(tmp_path / "logits.npy").tobytes() == form[2].tobytes()


def test_tflite_runtime_works_beside_numpy_1_and_is_refused_beside_numpy_2(form, tmp_path):
    python = install(tmp_path / "env", *requirements("tflite-legacy"))
    done = run(python, form, tmp_path, hidden="ai_edge_litert")
    assert done.returncode == 0, done.stderr
    version, package = done.stdout.split()
    assert version.startswith("1.")
    assert package == "tflite_runtime"
    # Its kernels round twice, a code at most in each layer.
    wanted = form[2]
    assert np.abs(np.load(tmp_path / "logits.npy") - wanted).max() < 0.05 * np.abs(wanted).max()
    install(tmp_path / "env", "numpy>=2")
    done = run(python, form, tmp_path, hidden="ai_edge_litert")
    assert done.returncode != 0
    assert "tflite-runtime was built for numpy 1" in done.stderr
