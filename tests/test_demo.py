"""EfficientNet-Lite0 the whole way: the demo's bars hold, those of speed aside (the machine may be busy)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit import _native

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, EXAMPLES / "demo.py", "--output", folder / "out", "--seconds", "0.5"]
    done = subprocess.run(
        [*map(str, command), "--json", str(folder / "demo.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert (folder / "demo.json").is_file(), done.stdout + done.stderr
    return json.loads((folder / "demo.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bars_hold(facts):
    timed = ("faster than float", "loading and the first answer")
    assert len(facts["bars"]) >= 9
    missed = [
        name for name, met in facts["bars"].items() if not met and not any(t in name for t in timed)
    ]
    assert not missed


@pytest.mark.slow
def test_float_model_is_the_published_one(facts):
    """18 of 20 photographs and 58 of 69 stamps are what the published weights give."""
    scores = facts["accuracy"]["float, ONNX Runtime"]
    assert scores["photos"]["count"] == 18
    if scores["stamps"]:
        assert scores["stamps"]["count"] == 58


@pytest.mark.slow
@pytest.mark.cross
def test_every_processor_was_exercised(facts):
    if shutil.which("qemu-aarch64-static") is None and shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64-static")
    names = " ".join(facts["digests"])
    for processor in ("generic", "cortex-a53", "cortex-a72", "cortex-a76"):
        assert processor in names
    for info in _native.isas():
        assert not (info.built and info.supported) or info.name in facts["digests"]
