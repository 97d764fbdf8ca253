"""A device says what it runs and what happened; a person confirms, or goes back."""

import json
import shutil
from pathlib import Path

import pytest
from device_root import Device as Root
from device_root import find_program, make_device
from local_sshd import LocalSshd
from signed_bundles import make_bundle
from typer.testing import CliRunner

from edgekit.cli import app
from edgekit.delivery.device import Device
from edgekit.targets.errors import DeviceError, EdgekitError


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = make_device(tmp_path / "a device")
    (root.root / "bin").mkdir()
    shutil.copy(find_program(), root.root / "bin/edgekit-board")
    root.install(make_bundle(tmp_path / "one", release=1))
    root.send(make_bundle(tmp_path / "two", release=2, plan=b"2"))
    root.do("switch")
    return root


@pytest.fixture(params=["ssh", "dir"])
def address(request: pytest.FixtureRequest, device: LocalSshd, root: Root) -> str:
    return device.url(root.root) if request.param == "ssh" else f"dir://{root.root}"


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["device", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_a_device_says_what_it_runs_and_what_happened(address: str, root: Root) -> None:
    with Device(address) as device:
        status = device.status()
        entries = device.log()
    assert (status.board, status.active, status.trial, status.starts) == ("rpi4", "a", "b", 3)
    assert status.running is not None
    assert status.running.release == 2
    assert [entry.change for entry in entries] == sorted(entry.change for entry in entries)
    assert "slot b is on trial: 1 layers equal, 1500 us" in entries[-1].what
    printed = run("status", address)
    assert "slot a: release 1, " in printed
    assert "on trial: 3 starts left" in printed
    assert json.loads(run("status", address, "--json"))["trial"] == "b"
    assert "slot a is confirmed: release 1" in run("log", address)
    assert json.loads(run("log", address, "--json"))[-1]["what"] == entries[-1].what


@pytest.mark.slow
def test_a_person_confirms_or_goes_back(address: str, root: Root) -> None:
    assert "slot a runs" in run("back", address, "--why", "it's too warm; stop")
    assert "goes back to slot a: it's too warm; stop" in root.log
    root.do("switch")
    assert "slot b is confirmed" in run("confirm", address)
    assert "slot a runs" in run("back", address)
    (root.root / "slots/b/model.plan").unlink()
    with Device(address) as device, pytest.raises(DeviceError, match="nothing to go back to"):
        device.back("again")


def test_what_is_no_device_is_told(device: LocalSshd, tmp_path: Path) -> None:
    for address in (device.url(tmp_path / "none"), f"dir://{tmp_path}/none"):
        with Device(address) as none, pytest.raises(DeviceError, match="flash a bundle first"):
            none.status()
    for wrong in ("dir://x", "dir:///", "card:///dev/sda", "pi"):
        with pytest.raises(EdgekitError):
            Device(wrong)
