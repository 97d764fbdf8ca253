"""A bundle goes over real ssh, or into a folder, to edgekit-board on a device."""

import os
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
from device_root import Device, find_program, make_device
from local_sshd import LocalSshd
from signed_bundles import BOARD, KEY, make_bundle
from typer.testing import CliRunner

from edgekit.bundles.bundle_file import pack_bundle
from edgekit.bundles.minisign import make_key
from edgekit.cli import app
from edgekit.delivery.device import Device as AskedDevice
from edgekit.delivery.flash import SCRIPTS, Health, flash
from edgekit.targets.errors import DeviceError, EdgekitError, PlanError, SignatureError, ToolError

PROGRAM = find_program()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "team.pub"
    path.write_text(KEY.public.to_text())
    return path


@pytest.fixture(params=["ssh", "dir"])
def address(request: pytest.FixtureRequest, device: LocalSshd, tmp_path: Path) -> str:
    """A device that nothing is on yet."""
    root = tmp_path / "the device's root"
    return device.url(root) if request.param == "ssh" else f"dir://{root}"


@pytest.fixture
def root(tmp_path: Path) -> Device:
    """What is there after a flash to `address`."""
    return Device(tmp_path / "the device's root", PROGRAM)


def bundle_bytes(bundle: Path) -> int:
    return sum(
        path.stat().st_size
        for path in bundle.rglob("*")
        if path.is_file() and not path.name.startswith("manifest.json")
    )


@pytest.mark.slow
def test_a_bare_device_gets_all_it_needs(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    one = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    told: list[tuple[str, int, int | None]] = []
    done = flash(one, address, key=key, progress=lambda *facts: told.append(facts))
    whole = bundle_bytes(one)
    assert (done.slot, done.state, done.release) == ("a", "confirmed", 1)
    assert (done.sent_bytes, done.reused_bytes) == (whole, 0)
    assert done.health == Health(1, 1500, 4096)
    assert told[0] == ("sending", 0, whole)
    assert told[-1] == ("sending", whole, whole)
    assert [at for _, at, _ in told] == sorted(at for _, at, _ in told)
    words = [step.split()[0] for step in done.steps]
    assert words[:3] == ["program", "adopt", "begin"]
    assert words[-3:] == ["health", "trial", "confirmed"]
    assert root.status["active"] == "a"
    assert root.status["board"] == BOARD
    assert (root.root / "bin/edgekit-board").read_bytes() == PROGRAM.read_bytes()
    # What it has already does not travel, and what it runs already is not brought again.
    two = make_bundle(tmp_path / "two", release=2, plan=b"new" * 99, board_program=PROGRAM)
    done = flash(pack_bundle(two, tmp_path / "two.edgekit"), address)
    assert (done.slot, done.sent_bytes, done.reused_bytes) == ("b", 297, bundle_bytes(two) - 297)
    assert done.steps[0].startswith("program kept")
    done = flash(two, address)
    assert (done.slot, done.state, done.sent_bytes, done.health) == ("b", "present", 0, None)
    assert "runs release 2 already" in str(done)


@pytest.mark.slow
def test_a_bundle_waits_for_its_service_to_confirm(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    flash(make_bundle(tmp_path / "one", release=1, board_program=PROGRAM), address, key=key)
    two = make_bundle(tmp_path / "two", release=2, plan=b"2", board_program=PROGRAM)
    done = flash(two, address, confirm=False)
    assert (done.slot, done.state) == ("b", "trial")
    assert root.status["trial"] == "b"
    three = make_bundle(tmp_path / "three", release=3, plan=b"3", board_program=PROGRAM)
    with pytest.raises(DeviceError, match="a bundle is on trial: confirm it or go back first"):
        flash(three, address)
    # The same again goes on where it was.
    done = flash(two, address)
    assert (done.slot, done.state, done.sent_bytes) == ("b", "confirmed", 0)
    assert root.status["active"] == "b"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"release": 1}, "the bundle is release 1, and this device takes none before 2"),
        ({"board": "rpi5"}, "the bundle is for rpi5, and this is rpi4"),
        ({"key": make_key()}, "not signed for this device"),
        (
            {"layers": [{"op": "conv", "tensor": "y", "sha256": "cd" * 32}]},
            "layer conv computes other bytes here than where the bundle was made",
        ),
        ({"limits": {"latency_us": 1499}}, "a run takes 1500 us, and at most 1499 are allowed"),
        ({"limits": {"memory_bytes": 4095}}, "holds 4096 bytes, and at most 4095 are allowed"),
        ({"ending": "echo no such CPU >&2; exit 9"}, "ended with exit status 9: no such CPU"),
        ({"ending": "kill -9 $$"}, "was ended by signal 9"),
    ],
)
def test_what_is_not_right_is_refused_and_the_old_one_stays(
    address: str, root: Device, key: Path, tmp_path: Path, change: dict, reason: str
) -> None:
    flash(make_bundle(tmp_path / "one", release=2, board_program=PROGRAM), address, key=key)
    wrong = make_bundle(
        tmp_path / "two", **({"release": 3, "plan": b"2"} | change), board_program=PROGRAM
    )
    with pytest.raises(DeviceError) as caught:
        flash(wrong, address)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(address)
    assert "\n" not in str(caught.value)
    assert (root.status["active"], root.status["trial"]) == ("a", "-")
    root.do("check", "a")


def test_the_key_is_checked_here_first(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    with pytest.raises(DeviceError, match="name the public key that may sign for it"):
        flash(bundle, address)
    other = tmp_path / "other.pub"
    other.write_text(make_key().public.to_text())
    with pytest.raises(SignatureError, match="signed by the key"):
        flash(bundle, address, key=other)
    assert not (root.root / "state").exists()
    (bundle / "model.plan").write_bytes(b"changed")
    with pytest.raises(PlanError, match=r"model\.plan: changed"):
        flash(bundle, address, key=key)
    (bundle / "manifest.json.minisig").unlink()
    with pytest.raises(SignatureError, match="--own-key"):
        flash(bundle, address, key=key)


@pytest.mark.slow
def test_a_user_without_a_key_gets_one(
    address: str, root: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CONFIG", str(tmp_path / "config"))
    bundle = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    (bundle / "manifest.json.minisig").unlink()
    done = CliRunner().invoke(app, ["flash", str(bundle), "--to", address, "--own-key"])
    assert done.exit_code == 0, done.output
    assert "made a key of your own" in done.output
    assert "release 1 in slot a, confirmed: 1 layers equal" in done.output
    assert root.status["active"] == "a"
    assert (tmp_path / "config/own.key").stat().st_mode & 0o777 == 0o600
    # From now on it is this user's device, and the word is not needed where the bundle is signed.
    assert flash(bundle, address).state == "present"
    with pytest.raises(SignatureError, match="signed by somebody else"):
        flash(make_bundle(tmp_path / "two", board_program=PROGRAM), address, own_key=True)


def test_a_program_for_another_cpu_is_not_left_there(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xf3\0" + bytes(300))
    bundle = make_bundle(tmp_path / "one", release=1, board_program=foreign)
    with pytest.raises(DeviceError, match="was the bundle made for this board"):
        flash(bundle, address, key=key)
    assert list((root.root / "bin").iterdir()) == []
    (bundle / "edgekit-board").unlink()
    with pytest.raises(PlanError, match="edgekit-board: missing"):
        flash(bundle, address, key=key)


@pytest.mark.slow
def test_the_program_is_renewed_by_what_a_key_signed(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    flash(make_bundle(tmp_path / "one", release=1, board_program=PROGRAM), address, key=key)
    there = root.root / "bin/edgekit-board"
    newer = tmp_path / "newer"
    # A program may have anything behind its end; this one is as new and another one.
    newer.write_bytes(PROGRAM.read_bytes() + b"newer")
    newer.chmod(0o755)
    flash(make_bundle(tmp_path / "two", release=2, board_program=newer), address)
    assert there.read_bytes() == newer.read_bytes()
    assert os.access(there, os.X_OK)
    assert "edgekit-board is renewed" in root.log
    older = tmp_path / "older"
    older.write_text("#!/bin/sh\necho edgekit-board 0.0.9\n")
    flash(make_bundle(tmp_path / "three", release=3, board_program=older), address)
    assert there.read_bytes() == newer.read_bytes()
    assert "edgekit-board stays: the bundle's is older" in root.log


def test_a_root_that_may_not_be_written_says_what_to_do(
    device: LocalSshd, key: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    with pytest.raises(DeviceError) as caught:
        flash(bundle, device.url("/proc/edgekit"), key=key)
    assert "/proc/edgekit" in str(caught.value)
    with pytest.raises(ToolError, match="nothing listens there"):
        flash(bundle, "ssh://127.0.0.1:9", key=key)
    for wrong in ("ftp://pi", "pi", "dir://x"):
        with pytest.raises(EdgekitError):
            flash(bundle, wrong, key=key)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_scripts_work_alone(device: LocalSshd, key: Path, tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    bundle = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    words = [program] if shell == "dash" else [program, "sh"]
    for script, address in (
        ("ssh.sh", device.url(tmp_path / "far")),
        ("dir.sh", f"dir://{tmp_path}/near"),
    ):
        command = [*words, SCRIPTS / script]
        done = subprocess.run(
            [*command, "--key", key, bundle, address], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "confirmed a"
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"usage: {script}")
        for wrong in (["--fly"], [], [bundle], ["--key"], [bundle, address, "more"]):
            done = subprocess.run([*command, *wrong], capture_output=True, text=True, check=False)
            assert done.returncode == 2, wrong
            assert done.stderr.startswith(f"{script}: ")


@pytest.mark.slow
def test_a_device_that_exists_needs_no_key(address: str, root: Device, tmp_path: Path) -> None:
    make_device(root.root)
    flash(make_bundle(tmp_path / "one", release=1, board_program=PROGRAM), address)
    assert root.status["active"] == "a"


def test_a_device_in_an_emulator_is_told_without_a_time(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A program that runs another one, as an emulator does.
    monkeypatch.setenv("EDGEKIT_EMULATOR", "/usr/bin/env")
    one = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    done = flash(one, f"dir://{tmp_path}/root", key=key)
    assert done.health == Health(1, None, 4096)
    assert "1 layers equal, emulated, 0.0 MB" in str(done)


@pytest.mark.slow
def test_root_is_taken_by_sudo(address: str, root: Device, key: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one", release=1, board_program=PROGRAM)
    if address.startswith("dir://"):
        with pytest.raises(EdgekitError, match="run this by sudo instead"):
            flash(bundle, address, key=key, sudo=True)
    elif shutil.which("sudo") is None:
        with pytest.raises(DeviceError, match="sudo: not found"):
            flash(bundle, address, key=key, sudo=True)
    else:
        assert flash(bundle, address, key=key, sudo=True).state == "confirmed"
        with AskedDevice(address, sudo=True) as asked:
            assert asked.status().active == "a"


@pytest.mark.slow
def test_of_a_large_file_only_what_differs_travels(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    random = Random(1)
    weights = random.randbytes(400_000)
    old = make_plan_bundle(tmp_path / "old", release=1, plan=weights)
    flash(old, address, key=key)
    other = weights[:300_000] + b"the last layers" + weights[310_000:]
    result = flash(make_plan_bundle(tmp_path / "new", release=2, plan=other), address)
    assert (root.root / "slots/b/model.plan").read_bytes() == other
    assert 1000 < result.sent_bytes < 40_000
    assert result.sent_bytes + result.reused_bytes == bundle_bytes(tmp_path / "new")
    assert [step.split()[0] for step in result.steps].count("patch") == 1
    # Weights that were trained further differ in every chunk, and by little.
    trained = bytes((byte + random.choice((0, 0, 1, 255))) & 255 for byte in other)
    new = make_plan_bundle(tmp_path / "trained", release=3, plan=trained)
    result = flash(new, address, old=tmp_path / "new")
    assert (root.root / "slots/a/model.plan").read_bytes() == trained
    assert 50_000 < result.sent_bytes < 100_000
    assert root.status["active"] == "a"


@pytest.mark.slow
def test_another_old_bundle_does_no_harm(
    address: str, root: Device, key: Path, tmp_path: Path
) -> None:
    random = Random(2)
    weights = random.randbytes(100_000)
    flash(make_plan_bundle(tmp_path / "one", release=1, plan=weights), address, key=key)
    stranger = make_plan_bundle(tmp_path / "stranger", release=1, plan=random.randbytes(100_000))
    new = make_plan_bundle(tmp_path / "two", release=2, plan=weights[:90_000] + b"new" * 3000)
    assert flash(new, address, old=stranger).sent_bytes < 20_000
    assert (root.root / "slots/b/model.plan").read_bytes() == (new / "model.plan").read_bytes()
    another = make_plan_bundle(tmp_path / "three", release=3, plan=random.randbytes(100_000))
    assert flash(another, address).sent_bytes == 100_000
    assert root.status["active"] == "a"


@pytest.mark.slow
@pytest.mark.parametrize("maker", ["false", "echo", "head -c 500 /dev/zero; :"])
def test_a_recipe_that_fails_leaves_the_file_to_travel_whole(
    root: Device, key: Path, tmp_path: Path, maker: str
) -> None:
    random = Random(3)
    address = f"dir://{root.root}"
    flash(
        make_plan_bundle(tmp_path / "one", release=1, plan=random.randbytes(50_000)),
        address,
        key=key,
    )
    new = make_plan_bundle(tmp_path / "two", release=2, plan=random.randbytes(50_000))
    script = SCRIPTS / "dir.sh"
    done = subprocess.run(
        ["sh", script, "--recipe-maker", maker, new, address], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "put 0 50000 model.plan" in done.stdout
    assert (root.root / "slots/b/model.plan").read_bytes() == (new / "model.plan").read_bytes()


def make_plan_bundle(folder: Path, *, release: int, plan: bytes) -> Path:
    return make_bundle(folder, release=release, plan=plan, board_program=PROGRAM)
