"""A device's model as a service: its unit is sound, it confirms what serves, and what does not serve goes back."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from device_root import Device, find_program
from service_manager import ServiceManager
from signed_bundles import KEY, make_bundle

import edgekit
from edgekit.bundles.release import release_bundle
from edgekit.delivery.flash import SCRIPTS, flash
from edgekit.targets.errors import DeviceError

# systemd's own measure of what a service may do, 0 to 10; a unit without any of its settings has 9.6.
MOST_EXPOSURE = 2.0


def print_unit(root: Path, *words: str) -> str:
    """Returns the unit that service.sh writes, for a root folder of the test's."""
    command = ["sh", SCRIPTS / "service/service.sh", "--print", *words, "/srv/device"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.replace("/srv/device", str(root))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "team.pub"
    path.write_text(KEY.public.to_text())
    return path


@pytest.fixture
def device(bundle: Path, key: Path, tmp_path: Path) -> Device:
    """A device that has a network confirmed."""
    flash(bundle, f"dir://{tmp_path}/device", key=key)
    device = Device(tmp_path / "device", find_program())
    shutil.copy(SCRIPTS / "service/edgekit-service.sh", device.root / "bin/edgekit-service")
    return device


@pytest.fixture
def service(device: Device, tmp_path: Path) -> Iterator[ServiceManager]:
    text = print_unit(device.root, "--listen", "unix:/run/edgekit/socket", "--threads", "1")
    manager = ServiceManager.read(text, tmp_path / "run")
    yield manager
    manager.stop()


def ask(service: ServiceManager, bundle: Path) -> None:
    """Asks the service what the bundle knows the answer of."""
    with edgekit.connect(f"unix:{service.run}/socket", timeout_s=20) as session:
        answer = session.run({session.inputs[0].name: np.load(bundle / "golden/inputs/0.npy")})
    golden = np.load(bundle / "golden/outputs/0.npy")
    assert answer[session.outputs[0]].tobytes() == golden.tobytes()


def test_the_unit_is_sound(device: Device, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (Debian: systemd)")
    unit = tmp_path / "edgekit.service"
    unit.write_text(print_unit(device.root))
    checked = subprocess.run(
        ["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit],
        check=False,
        capture_output=True,
        text=True,
    )
    (row,) = [line for line in rated.stdout.splitlines() if "Overall exposure level" in line]
    assert float(row.split(":")[1].split()[0]) <= MOST_EXPOSURE


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["/a b"], "letters, digits"),
        (["relative"], "no absolute path"),
        (["--listen", "unix:/a b"], "no address"),
        (["--listen", "tcp:host"], "no address"),
        (["--listen", "tcp:1.2.3.4:70;reboot"], "no address"),
        (["--memory", "lots"], "--memory takes"),
        (["--cpu", "1"], "--cpu takes"),
        (["--threads", "0"], "--threads takes"),
        (["--fly"], "unknown option"),
    ],
)
def test_words_that_a_unit_would_read_otherwise_are_refused(words: list[str], reason: str) -> None:
    command = ["sh", SCRIPTS / "service/service.sh", "--print", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


def test_what_serves_is_confirmed(
    service: ServiceManager, device: Device, bundle: Path, tmp_path: Path
) -> None:
    assert service.restart() == 0
    ask(service, bundle)
    two = shutil.copytree(bundle, tmp_path / "two")
    release_bundle(two, release=2, sign_with=KEY)
    flash(two, f"dir://{device.root}", confirm=False)
    # The old one keeps answering until the service starts anew.
    ask(service, bundle)
    assert service.restart() == 0
    ask(service, two)
    assert (device.status["active"], device.status["floor"]) == ("b", 2)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["exit 0", "exit 1", "kill -9 $$", "exec sleep 60"])
def test_what_does_not_serve_is_taken_back_after_three_starts(
    service: ServiceManager, device: Device, bundle: Path, tmp_path: Path, ending: str
) -> None:
    # It passes every check, and then does not serve.
    beginning = f'case "$*" in *--serve*) {ending} ;; esac'
    broken = make_bundle(tmp_path / "two", release=2, board="host", beginning=beginning)
    service.restart()
    flash(broken, f"dir://{device.root}", confirm=False)
    ask(service, bundle)
    service.stop()
    starts = [service.start(seconds=0.5) for _ in range(3)]
    assert starts == [False, False, False]
    assert service.start()
    ask(service, bundle)
    assert (device.status["active"], device.status["trial"]) == ("a", "-")
    assert "takes slot b back: it was started and never confirmed" in device.log


def test_a_device_without_systemd_or_root_says_so(bundle: Path, key: Path, tmp_path: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here: this would make a service of it")
    with pytest.raises(DeviceError, match=r"systemd does not run here|takes root on the device"):
        flash(bundle, f"dir://{tmp_path}/device", key=key, service=True)
    device = Device(tmp_path / "device", find_program())
    assert device.status["trial"] == "a"
    assert device.do("start").strip().endswith("/a")
