"""Links break, devices stop, disks are full, and two install at once: what runs goes on, and nothing travels twice."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from cut_link import CutLink, cut_link
from device_root import Device, find_program, make_device
from local_sshd import LocalSshd
from signed_bundles import KEY, make_bundle

from edgekit.delivery.flash import flash
from edgekit.targets.errors import DeviceError, EdgekitError, ToolError

PLAN = random.Random(0).randbytes(2 << 20)
# ssh itself takes some kilobytes before the first byte of a bundle.
FEW_CUTS = (3_000, 9_000, 60_000, 1_500_000)
MANY_CUTS = (*range(1_000, 12_000, 2_000), *range(12_000, len(PLAN) + 20_000, 400_000))


@pytest.fixture
def link(device: LocalSshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[CutLink]:
    """A link to the server, whose host key is still that of the server."""
    alias = f"-o HostKeyAlias=[127.0.0.1]:{device.port}"
    monkeypatch.setenv("EDGEKIT_SSH_OPTIONS", f"{device.options} {alias}")
    with cut_link(device.port) as link:
        yield link


@pytest.fixture
def root(tmp_path: Path) -> Device:
    """A device with release 1 confirmed."""
    root = make_device(tmp_path / "device")
    (root.root / "bin").mkdir()
    shutil.copy(find_program(), root.root / "bin/edgekit-board")
    root.install(make_bundle(tmp_path / "one", release=1))
    return root


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "two", release=2, plan=PLAN)


def check_old_runs(root: Device) -> None:
    assert (root.status["active"], root.status["trial"]) == ("a", "-")
    assert root.do("start").strip()[-1] == "a"
    root.do("check", "a")


def partial_bytes(root: Device) -> int:
    """What there is of the plan that travels."""
    slot = root.root / "slots/b"
    return sum(
        (slot / name).stat().st_size
        for name in ("model.plan", "model.plan.part")
        if (slot / name).exists()
    )


def flash_over_cuts(
    cuts: tuple[int, ...], link: CutLink, device: LocalSshd, root: Device, two: Path
) -> None:
    address = f"ssh://{device.user}@127.0.0.1:{link.port}{root.root}"
    for link.after in cuts:
        with pytest.raises(ToolError, match=r"link broke|closed the connection"):
            flash(two, address, tries=1)
        check_old_runs(root)
    # The rest, and no byte twice.
    wait_for_receivers(root)
    there = partial_bytes(root)
    link.after = None
    done = flash(two, address)
    assert done.state == "confirmed"
    assert done.sent_bytes == len(PLAN) - there
    assert (root.root / "slots/b/model.plan").read_bytes() == PLAN
    assert root.status["active"] == "b"


@pytest.mark.slow
def test_a_broken_link_is_taken_up_where_it_broke(
    link: CutLink, device: LocalSshd, root: Device, two: Path
) -> None:
    flash_over_cuts(FEW_CUTS, link, device, root, two)


@pytest.mark.slow
@pytest.mark.parametrize("cut", MANY_CUTS)
def test_a_link_may_break_anywhere(
    link: CutLink, device: LocalSshd, root: Device, two: Path, cut: int
) -> None:
    flash_over_cuts((cut,), link, device, root, two)


@pytest.mark.slow
def test_a_link_that_breaks_again_and_again_brings_it_in_the_end(
    link: CutLink, device: LocalSshd, root: Device, two: Path
) -> None:
    link.after, link.bytes_a_second = 700_000, 2_000_000
    address = f"ssh://{device.user}@127.0.0.1:{link.port}{root.root}"
    done = flash(two, address, tries=9)
    assert done.state == "confirmed"
    assert sum(step.startswith("again ") for step in done.steps) >= 2
    # What was sent and had not arrived when the link broke goes again, but not what had.
    assert link.carried < 1.5 * len(PLAN)


@pytest.mark.slow
def test_a_device_that_stops_in_the_middle_goes_on_after(
    link: CutLink, device: LocalSshd, root: Device, two: Path
) -> None:
    address = f"ssh://{device.user}@127.0.0.1:{link.port}{root.root}"
    link.bytes_a_second = 2_000_000
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(flash, two, address, tries=1)
        end = time.monotonic() + 20
        while partial_bytes(root) < len(PLAN) // 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert kill_processes(root) > 0
        with pytest.raises(EdgekitError):
            first.result()
    check_old_runs(root)
    there = partial_bytes(root)
    assert there >= len(PLAN) // 4
    link.bytes_a_second = None
    done = flash(two, address)
    assert done.sent_bytes == len(PLAN) - there
    assert root.status["active"] == "b"


def find_processes(root: Device) -> list[int]:
    """Returns the process ids of every edgekit-board of a root folder."""
    words = [os.fsencode(root.root / "bin/edgekit-board"), os.fsencode(root.root)]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if (folder / "cmdline").read_bytes().split(b"\0")[:2] == words:
                found.append(int(folder.name))
    return found


def wait_for_receivers(root: Device) -> None:
    """Waits until those have ended who still read what came before a link broke."""
    end = time.monotonic() + 20
    while find_processes(root):
        assert time.monotonic() < end
        time.sleep(0.01)


def kill_processes(root: Device) -> int:
    """Kills every edgekit-board of a root folder, as a power cut would; returns how many."""
    killed = 0
    for process in find_processes(root):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed += 1
    return killed


@pytest.mark.slow
def test_a_silent_end_of_a_broken_link_holds_nobody_up(
    device: LocalSshd, root: Device, two: Path
) -> None:
    # A receiver that still waits for bytes of a connection that nobody is at any more.
    ((begin, stdin),) = root.steps(two)
    subprocess.run(begin, input=stdin, check=True, capture_output=True)
    silent = subprocess.Popen(
        root.words("put", "model.plan", "0"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert silent.stdin is not None
    silent.stdin.write(PLAN[:100_000])
    silent.stdin.flush()
    while partial_bytes(root) < 100_000:
        time.sleep(0.01)
    assert root.do("start").strip()[-1] == "a"
    done = flash(two, device.url(root.root))
    assert done.sent_bytes == len(PLAN) - 100_000
    _, error = silent.communicate(PLAN[100_000:])
    assert silent.returncode == 1
    assert b"another installer has begun; this one ends" in error
    assert (root.root / "slots/b/model.plan").read_bytes() == PLAN
    root.do("check", "b")


@pytest.mark.slow
@pytest.mark.parametrize("same", [False, True])
def test_of_three_who_install_one_wins_and_the_others_are_told(
    device: LocalSshd, root: Device, tmp_path: Path, same: bool
) -> None:
    plans = [random.Random(0 if same else number).randbytes(1 << 20) for number in range(3)]
    bundles = [
        make_bundle(tmp_path / str(number), release=2, plan=plan)
        for number, plan in enumerate(plans)
    ]
    start = threading.Barrier(len(bundles))

    def install(bundle: Path) -> str:
        start.wait()
        try:
            return flash(bundle, device.url(root.root)).state
        except DeviceError as error:
            return str(error)

    with ThreadPoolExecutor(len(bundles)) as pool:
        told = list(pool.map(install, bundles))
    assert "confirmed" in told, told
    for words in told:
        reasons = (
            "another installer",
            "on trial",
            "bytes are here",
            "no file of the bundle",
            "missing or changed",
            "is here already",
            "not the one that runs",
            "not the bytes",
        )
        assert words == "confirmed" or any(reason in words for reason in reasons), told
    status = root.status
    assert status["trial"] == "-"
    root.do("check", status["active"])
    winner = (root.root / "slots" / status["active"] / "model.plan").read_bytes()
    assert winner in [(bundle / "model.plan").read_bytes() for bundle in bundles]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system")
def test_a_full_disk_is_told_and_leaves_nothing(device: LocalSshd, tmp_path: Path) -> None:
    program = find_program()
    bundle = make_bundle(tmp_path / "one", release=1, board_program=program)
    key = tmp_path / "team.pub"
    key.write_text(KEY.public.to_text())
    small = tmp_path / "small"
    small.mkdir()
    for size, reason in (
        (program.stat().st_size // 2, "No space left on device"),
        (program.stat().st_size * 2, "has room for"),
    ):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], check=True)
        try:
            with pytest.raises(DeviceError, match=reason):
                flash(bundle, device.url(small / "device"), key=key)
            assert not list((small / "device").glob("bin/*.*"))
            assert not (small / "device/slots/a").exists()
        finally:
            subprocess.run(["umount", small], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a server a home of its own")
def test_a_device_with_dropbear_is_flashed(
    root: Device, two: Path, tmp_path: Path, sshd: LocalSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        for name in ("dropbear", "dropbearkey", "unshare")
    ]
    if None in programs:
        pytest.skip("no dropbear (Debian: dropbear-bin)")
    dropbear, dropbearkey, _ = programs
    home = tmp_path / "home/.ssh"
    home.mkdir(parents=True, mode=0o700)
    shutil.copy(sshd.folder / "user.pub", home / "authorized_keys")
    (home / "authorized_keys").chmod(0o600)
    host_key = tmp_path / "host_key"
    subprocess.run([dropbearkey, "-t", "ed25519", "-f", host_key], check=True, capture_output=True)
    with cut_link(0) as free:
        port = free.port
    # Its home is the test's, in a mount name space of its own.
    line = f'mount --bind "$1" "$(getent passwd root | cut -d: -f6)"; exec "$2" -F -E -s -p 127.0.0.1:{port} -r "$3"'
    words = ["unshare", "--mount", "sh", "-c", line, "sh", home.parent, dropbear, host_key]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectionAttempts=20"
    monkeypatch.setenv(
        "EDGEKIT_SSH_OPTIONS", f"-F none -i {sshd.folder}/user -o IdentitiesOnly=yes {options}"
    )
    try:
        done = flash(two, f"ssh://root@127.0.0.1:{port}{root.root}")
    finally:
        server.terminate()
        server.wait()
    assert (done.state, done.sent_bytes) == ("confirmed", len(PLAN))
    assert root.status["active"] == "b"
