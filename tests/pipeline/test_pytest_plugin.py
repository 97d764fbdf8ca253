"""The plugin in a user's project: pytest is run there, in a process of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
[tool.pytest.ini_options]
edgekit_gate_bundle = "bundle"
edgekit_gate_baseline = "float.onnx"
edgekit_gate_evaluate = "measures:scores"
edgekit_gate_max_drop = "0.02"
edgekit_gate_seconds = "0"
"""

MEASURES = """
import numpy as np
from pathlib import Path

here = Path(__file__).parent

def scores(session):
    data = np.load(here / "samples.npz")["x"]
    return (session.run(data)["y"].argmax(-1) == np.load(here / "labels.npy")).astype(float)
"""


@pytest.fixture
def project(place: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(place, tmp_path / "project")
    (folder / "pyproject.toml").write_text(SETTINGS)
    (folder / "measures.py").write_text(MEASURES)
    return folder


def run_pytest(project: Path, tests: str, *words: str) -> tuple[int, str]:
    (project / "test_bundle.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_settings_alone_are_enough(project: Path) -> None:
    code, out = run_pytest(project, "def test_it(edgekit_gate):\n    edgekit_gate()\n")
    assert code == 0, out
    assert "edgekit gates" in out
    assert "kept: " in out
    assert "max-drop: drop " in out


@pytest.mark.slow
def test_what_is_broken_or_undecided_fails_and_is_written(project: Path) -> None:
    code, out = run_pytest(
        project,
        """
import pytest

def test_kept(edgekit_gate):
    assert edgekit_gate(max_mb=10).changed.count == 0

@pytest.mark.edgekit_gate(max_drop=0.0001)
def test_undecided(edgekit_gate):
    edgekit_gate()

@pytest.mark.edgekit_gate(max_drop=0.0001)
def test_the_call_goes_before_the_marker(edgekit_gate):
    edgekit_gate("worse", max_drop=0.1)

def test_a_function(edgekit_gate):
    edgekit_gate(evaluate=lambda session: 1.0)
""",
        "--edgekit-sarif",
        "found/gates.sarif",
        "--strict-markers",
    )
    assert code == 1, out
    assert "2 failed, 2 passed" in out
    assert "too few samples" in out
    assert "broken: worse against" in out
    assert "Traceback" not in out
    log = json.loads((project / "found/gates.sarif").read_text())
    levels = [result["level"] for result in log["runs"][0]["results"]]
    assert levels == ["warning", "error"]
    places = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in log["runs"][0]["results"]
    ]
    assert places == ["bundle/model.plan", "worse/model.plan"]


@pytest.mark.slow
def test_findings_of_other_processes_are_written(project: Path) -> None:
    pytest.importorskip("xdist")
    tests = """
def test_one(edgekit_gate):
    edgekit_gate(max_drop=0.0001)

def test_two(edgekit_gate):
    edgekit_gate("worse")
"""
    code, out = run_pytest(project, tests, "-n", "2", "--edgekit-sarif", "gates.sarif")
    assert code == 1, out
    results = json.loads((project / "gates.sarif").read_text())["runs"][0]["results"]
    assert sorted(result["level"] for result in results) == ["error", "warning"]


@pytest.mark.slow
def test_mistakes_fail_in_a_line(project: Path) -> None:
    code, out = run_pytest(
        project,
        """
def test_one(edgekit_gate):
    edgekit_gate(baseline="none")

def test_two(edgekit_gate):
    edgekit_gate(evaluate="measures:none")

def test_three(edgekit_gate):
    edgekit_gate(labels="labels.npy")
""",
    )
    assert code == 1, out
    assert "3 failed" in out
    for words in (
        "edgekit_gate: none: no such file",
        "measures has no none",
        "give one of the two",
    ):
        assert words in out
    assert "Traceback" not in out


@pytest.mark.slow
def test_a_setting_that_is_none_is_told(project: Path) -> None:
    (project / "pyproject.toml").write_text(SETTINGS.replace("0.02", "little"))
    code, out = run_pytest(project, "def test_it(edgekit_gate):\n    edgekit_gate()\n")
    assert code != 0
    assert "edgekit_gate_max_drop = 'little'" in out


def test_pytest_does_not_import_what_is_heavy_for_projects_without_a_gate(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert not {'numpy', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
