"""A device's model as a service of a real systemd: confirmed, watched, confined, and taken back by itself."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from device_root import Device, find_program
from signed_bundles import KEY, make_bundle
from systemd_world import SystemdWorld, systemd_world

import edgekit
from edgekit.bundles.release import release_bundle
from edgekit.delivery.flash import SCRIPTS

UNIT = "edgekit.service"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is on the device: scripts, a key, and room for its root folder."""
    folder = tmp_path / "board"
    shutil.copytree(SCRIPTS, folder / "flash")
    (folder / "team.pub").write_text(KEY.public.to_text())
    return folder


@pytest.fixture
def world(tmp_path: Path, folder: Path) -> Iterator[SystemdWorld]:
    root = tmp_path / "world"
    root.mkdir()
    with systemd_world(root, folder) as world:
        yield world


def flash(world: SystemdWorld, folder: Path, bundle: Path, *words: str) -> tuple[int, str, str]:
    """Flashes a bundle there; returns exit status, last line and error."""
    there = folder / bundle.name
    if not there.exists():
        shutil.copytree(bundle, there)
    done = world.run(
        "sh",
        "/board/flash/dir.sh",
        *words,
        f"/board/{bundle.name}",
        "dir:///board/device",
        check=False,
    )
    return done.returncode, (done.stdout.splitlines() or [""])[-1], done.stderr


def ask(world: SystemdWorld, bundle: Path) -> None:
    address = f"unix:{world.root}/run/edgekit/socket"
    with edgekit.connect(address, timeout_s=20) as session:
        answer = session.run({session.inputs[0].name: np.load(bundle / "golden/inputs/0.npy")})
    golden = np.load(bundle / "golden/outputs/0.npy")
    assert answer[session.outputs[0]].tobytes() == golden.tobytes()


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_service_is_made_confirmed_watched_and_taken_back(
    world: SystemdWorld, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    key = ["--key", "/board/team.pub"]
    status, last, error = flash(world, folder, bundle, *key, "--service")
    assert (status, last) == (0, "confirmed a"), error
    assert world.show(UNIT, "ActiveState") == "active"
    ask(world, bundle)
    # It is nobody, and sees no more than it needs.
    user, capabilities = read_process(world)
    assert user >= 61184
    assert capabilities == 0
    # A folder that systemd would hide from it, or empties at a start, is none to serve from.
    refused = world.run("sh", "/board/flash/service/service.sh", "/run/device", check=False)
    assert "a root folder that stays" in refused.stderr
    # A new release starts it anew; the switch is confirmed by the service.
    two = shutil.copytree(bundle, tmp_path / "two")
    release_bundle(two, release=2, sign_with=KEY)
    status, last, error = flash(world, folder, two)
    assert (status, last) == (0, "confirmed b"), error
    ask(world, two)
    # One that passes every check and then does not serve goes back without a person.
    beginning = 'case "$*" in *--serve*) exit 1 ;; esac'
    broken = make_bundle(tmp_path / "three", release=3, board="host", beginning=beginning)
    status, _, error = flash(world, folder, broken)
    assert status == 1
    assert "the device took the bundle back" in error
    device = Device(folder / "device", find_program())
    assert (device.status["active"], device.status["trial"], device.status["floor"]) == (
        "b",
        "-",
        2,
    )
    wait(lambda: world.show(UNIT, "ActiveState") == "active")
    ask(world, two)
    # One that hangs is ended and started again.
    settings = world.root / "etc/systemd/system" / f"{UNIT}.d"
    settings.mkdir()
    (settings / "fast.conf").write_text("[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\n")
    world.run("systemctl", "daemon-reload")
    world.run("systemctl", "restart", UNIT)
    before = int(world.show(UNIT, "MainPID"))
    world.run("kill", "-STOP", str(before))
    wait(lambda: world.show(UNIT, "MainPID") not in ("0", str(before)))
    wait(lambda: world.show(UNIT, "ActiveState") == "active")
    assert int(world.show(UNIT, "NRestarts")) >= 1
    ask(world, two)
    # And it can be taken away.
    world.run("sh", "/board/flash/service/service.sh", "--remove", "/board/device")
    assert world.show(UNIT, "ActiveState") == "inactive"
    assert device.status["active"] == "b"


def read_process(world: SystemdWorld) -> tuple[int, int]:
    """Returns user and capabilities of the service's process."""
    text = world.run("cat", f"/proc/{world.show(UNIT, 'MainPID')}/status").stdout
    facts = dict(line.split(":", 1) for line in text.splitlines())
    return int(facts["Uid"].split()[0]), int(facts["CapEff"], 16)
