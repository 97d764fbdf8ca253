"""A real network is locked for a device, flashed to it, checked and served there; nobody else can read its weights."""

from pathlib import Path

import numpy as np
import pytest
from device_root import Device, make_device
from signed_bundles import KEY
from typer.testing import CliRunner

import edgekit
from edgekit import EdgekitError, PlanError, _native
from edgekit.bundles.age import make_identity
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.lock_bundle import lock_bundle
from edgekit.bundles.minisign import write_key_files
from edgekit.cli import app
from edgekit.inspection import inspect

NETWORK = Path(__file__).parents[2] / "benchmarks/ds_cnn/ds_cnn.onnx"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "bundle"
    inputs = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)
    edgekit.deploy(
        NETWORK, calibration=inputs, output=folder, ranges="minmax", format="native", release=3
    )
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Device:
    return make_device(tmp_path / "device", "host")


def test_a_locked_network_computes_on_its_device(
    bundle: Path, root: Device, tmp_path: Path
) -> None:
    recipient = root.do("key").strip()
    locked = lock_bundle(bundle, [recipient], tmp_path / "locked", sign_with=KEY)
    assert locked.is_locked
    assert locked.release == 3
    root.install(locked.path)
    assert root.status["active"] == "a"
    weights = (bundle / "model.plan").read_bytes()[4096:4160]
    for file in root.root.rglob("*"):
        assert not (file.is_file() and weights in file.read_bytes()), file
    run = tmp_path / "run"
    run.mkdir()
    root.do("unlock", "a", str(run / "model.plan"))
    assert (run / "model.plan").read_bytes() == (bundle / "model.plan").read_bytes()


def test_another_device_refuses_it(bundle: Path, root: Device, tmp_path: Path) -> None:
    recipient = _native.age_recipient(make_identity())
    locked = lock_bundle(bundle, [recipient], tmp_path / "locked", sign_with=KEY)
    root.do("key")
    root.send(locked.path)
    assert "not locked for this key" in root.refuse("switch")


def test_here_it_says_that_it_is_locked(bundle: Path, tmp_path: Path) -> None:
    recipient = _native.age_recipient(make_identity())
    folder = lock_bundle(bundle, [recipient], tmp_path / "locked").path
    assert inspect(folder)["plan"] == "locked for the keys of devices"
    words = "locked for the keys of devices: it can be run and checked on these alone"
    for attempt in (edgekit.load, lambda path: read_bundle(path).plan):
        with pytest.raises(PlanError, match=words):
            attempt(folder)
    again = CliRunner().invoke(app, ["verify", str(folder)])
    assert words in str(again.exception)
    with pytest.raises(PlanError, match=words):
        lock_bundle(folder, [recipient], tmp_path / "twice")


@pytest.mark.slow
def test_what_cannot_be_locked_is_refused(bundle: Path, tmp_path: Path) -> None:
    recipient = _native.age_recipient(make_identity())
    with pytest.raises(EdgekitError, match="no public key of a device"):
        lock_bundle(bundle, ["age1nobody"], tmp_path / "locked")
    with pytest.raises(EdgekitError, match="locked for whom"):
        lock_bundle(bundle, [], tmp_path / "locked")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("precious")
    with pytest.raises(EdgekitError, match="not overwritten"):
        lock_bundle(bundle, [recipient], tmp_path / "mine")
    both = tmp_path / "both"
    inputs = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28)).astype(np.float32)
    edgekit.deploy(
        NETWORK, calibration=inputs, output=both, ranges="minmax", format=["native", "onnx"]
    )
    with pytest.raises(PlanError, match=r"model.onnx holds the weights too"):
        lock_bundle(both, [recipient], tmp_path / "locked")
    assert not (tmp_path / "locked").exists()


def test_on_the_command_line(bundle: Path, root: Device, tmp_path: Path) -> None:
    write_key_files(KEY, tmp_path / "x.key", tmp_path / "x.pub", None)
    words = ["lock", str(bundle), "--for", root.do("key").strip(), "-o", str(tmp_path / "locked")]
    done = CliRunner().invoke(app, [*words, "--sign-with", str(tmp_path / "x.key")])
    assert done.exit_code == 0, done.output
    assert "locked for 1 device, signed" in done.output
    root.install(tmp_path / "locked")
