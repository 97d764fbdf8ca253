"""How edgekit-board keeps those apart who install, and what it lets itself be renewed by."""

import hashlib
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from device_root import Device, find_program, make_device
from signed_bundles import BOARD, KEY, make_bundle

from edgekit._native import make_recipe
from edgekit.bundles.minisign import make_key

MISUSED = 2
PRESENT = 4


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return make_device(tmp_path / "device")


def begin_words(device: Device, bundle: Path) -> tuple[list[str], bytes]:
    ((words, stdin),) = device.steps(bundle)
    return words[2:], stdin


def digest_of(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def open_put(device: Device, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        device.words("put", *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def feed(put: subprocess.Popen[bytes], partial: Path, content: bytes) -> None:
    """Gives a receiver bytes and waits until they are in the file."""
    assert put.stdin is not None
    before = partial.stat().st_size if partial.exists() else 0
    put.stdin.write(content)
    put.stdin.flush()
    end = time.monotonic() + 20
    while not partial.exists() or partial.stat().st_size < before + len(content):
        assert time.monotonic() < end
        time.sleep(0.005)


def test_several_files_come_in_one_command(device: Device, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one", plan=b"p" * 1_000_000)
    rows = device.begin(bundle)
    words = [word for offset, _, path in rows for word in (path, str(offset))]
    content = b"".join((bundle / path).read_bytes() for _, _, path in rows)
    told = device.do("put", *words, stdin=content)
    counts = [int(line) for line in told.splitlines()]
    assert counts == sorted(counts)
    assert len(counts) == 3
    device.do("switch")


def test_a_stream_that_ends_keeps_what_came(device: Device, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one")
    rows = device.begin(bundle)
    words = [word for offset, _, path in rows for word in (path, str(offset))]
    content = b"".join((bundle / path).read_bytes() for _, _, path in rows)
    cut = rows[0][1] + 5
    assert f"{rows[1][2]}: ended after 5 of" in device.refuse("put", *words, stdin=content[:cut])
    again = device.begin(bundle)
    assert again[0] == (5, *rows[1][1:])
    words = [word for offset, _, path in again for word in (path, str(offset))]
    assert "more than the" in device.refuse("put", *words, stdin=content[cut:] + b"x")
    device.send(bundle)
    device.do("switch")


def test_a_start_does_not_wait_for_a_receiver(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    device.begin(make_bundle(tmp_path / "two", plan=b"2" * 1000))
    put = open_put(device, "model.plan", "0")
    feed(put, device.root / "slots/b/model.plan.part", b"2" * 10)
    assert device.do("start").strip()[-1] == "a"
    assert device.status["active"] == "a"
    device.do("confirm")
    _, error = put.communicate()
    assert b"ended after 10 of 1000 bytes; what came is kept" in error


def test_a_start_does_not_wait_for_a_check(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    device.send(
        make_bundle(
            tmp_path / "two",
            plan=b"2",
            beginning=f"touch {tmp_path}/runs; until [ -e {tmp_path}/done ]; do sleep 0.05; done",
        )
    )
    switch = subprocess.Popen(device.words("switch"), stdout=subprocess.DEVNULL)
    while not (tmp_path / "runs").exists():
        time.sleep(0.01)
    # The check ends when this start has, not before.
    assert device.do("start").strip()[-1] == "a"
    assert switch.poll() is None
    (tmp_path / "done").touch()
    assert switch.wait() == 0
    assert device.status["trial"] == "b"


def test_who_is_refused_takes_the_file_from_nobody(device: Device, tmp_path: Path) -> None:
    device.begin(make_bundle(tmp_path / "one", plan=b"1" * 2000))
    first = open_put(device, "model.plan", "0")
    feed(first, device.root / "slots/a/model.plan.part", b"1" * 100)
    error = device.refuse("put", "model.plan", "101", stdin=b"1" * 1899)
    assert "100 bytes are here, not 101" in error
    _, said = first.communicate(b"1" * 1900)
    assert (first.returncode, said) == (0, b"")
    assert (device.root / "slots/a/model.plan").read_bytes() == b"1" * 2000


def test_what_came_since_one_asked_comes_again(device: Device, tmp_path: Path) -> None:
    plan = random.Random(3).randbytes(2000)
    device.begin(make_bundle(tmp_path / "one", plan=plan))
    first = open_put(device, "model.plan", "0")
    feed(first, device.root / "slots/a/model.plan.part", plan[:100])
    device.do("put", "model.plan", "40", stdin=plan[40:])
    _, error = first.communicate(plan[100:])
    assert first.returncode == 1
    assert b"another installer has begun; this one ends" in error
    assert (device.root / "slots/a/model.plan").read_bytes() == plan


@pytest.mark.parametrize("same", [True, False])
def test_the_later_installer_takes_the_slot(device: Device, tmp_path: Path, same: bool) -> None:
    one = make_bundle(tmp_path / "one", plan=b"1" * 1000)
    two = one if same else make_bundle(tmp_path / "two", plan=b"2" * 1000)
    device.begin(one)
    first = open_put(device, "model.plan", "0")
    feed(first, device.root / "slots/a/model.plan.part", b"1" * 100)
    device.send(two)
    _, error = first.communicate(b"1" * 900)
    assert first.returncode == 1
    assert b"another installer has begun; this one ends" in error
    device.do("switch")
    assert (device.root / "slots/a/model.plan").read_bytes() == (two / "model.plan").read_bytes()


def test_an_installer_may_say_which_bundle_it_means(device: Device, tmp_path: Path) -> None:
    one = make_bundle(tmp_path / "one", plan=b"1" * 1000)
    rows = device.begin(one)
    words = [word for offset, _, path in rows for word in (path, str(offset))]
    content = b"".join((one / path).read_bytes() for _, _, path in rows)
    device.do("put", "--of", digest_of(one), *words, stdin=content)
    device.do("switch", "--of", digest_of(one))
    device.do("confirm")
    two = make_bundle(tmp_path / "two", plan=b"2" * 1000)
    recipe = make_recipe((one / "model.plan").read_bytes(), (two / "model.plan").read_bytes())
    device.begin(two)
    device.do("patch", "--of", digest_of(two), "model.plan", stdin=recipe)
    device.do("switch", "--of", digest_of(two))
    assert device.status["trial"] == "b"


def test_what_another_installer_began_is_left_alone(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "old", release=1, plan=b"0" * 1000))
    one = make_bundle(tmp_path / "one", release=2, plan=b"1" * 1000)
    two = make_bundle(tmp_path / "two", release=2, plan=b"2" * 1000)
    recipe = make_recipe(b"0" * 1000, b"1" * 1000)
    device.begin(one)
    device.refuse("put", "--of", digest_of(one), "model.plan", "0", stdin=b"1" * 10)
    device.begin(two)
    device.refuse("put", "--of", digest_of(two), "model.plan", "0", stdin=b"2" * 10)
    partial = device.root / "slots/b/model.plan.part"

    def check_refused() -> None:
        for command, stdin in (
            (("put", "--of", digest_of(one), "model.plan", "10"), b"1" * 990),
            (("patch", "--of", digest_of(one), "model.plan"), recipe),
            (("switch", "--of", digest_of(one)), b""),
        ):
            error = device.refuse(*command, stdin=stdin)
            assert "another installer has begun; this one ends" in error

    log = device.log
    check_refused()
    assert partial.read_bytes() == b"2" * 10
    device.do("put", "--of", digest_of(two), "model.plan", "10", stdin=b"2" * 990)
    check_refused()
    assert (device.status["active"], device.status["trial"]) == ("a", "-")
    assert device.log == log
    device.do("switch", "--of", digest_of(two))
    assert device.status["trial"] == "b"


@pytest.mark.parametrize(
    "words",
    [["--of"], ["--of", ""], ["--of", "ab" * 31], ["--of", "AB" * 32], ["--of", "zz" * 32]],
    ids=["none", "empty", "short", "upper case", "no digits"],
)
def test_what_is_no_digest_is_a_wrong_command_line(
    device: Device, tmp_path: Path, words: list[str]
) -> None:
    device.begin(make_bundle(tmp_path / "one"))
    for command, *rest in (["put", "model.plan", "0"], ["patch", "model.plan"], ["switch"]):
        done = device.run(command, *words, *(rest if len(words) > 1 else []))
        assert done.returncode == MISUSED
        assert done.stderr.startswith(b"edgekit-board: --of needs a manifest's SHA-256")
    assert not (device.root / "slots/a/model.plan.part").exists()


def test_of_a_manifest_is_for_those_commands_that_take_it(device: Device) -> None:
    assert device.run("check", "--of", "ab" * 32).returncode == MISUSED


def test_a_recipe_that_is_followed_loses_its_file_to_a_later_installer(
    device: Device, tmp_path: Path
) -> None:
    old, new = random.Random(1).randbytes(100_000), random.Random(2).randbytes(100_000)
    device.install(make_bundle(tmp_path / "old", release=1, plan=old))
    bundle = make_bundle(tmp_path / "new", release=2, plan=new)
    device.begin(bundle)
    recipe = make_recipe(old, new)
    partial = device.root / "slots/b/model.plan.part"
    first = subprocess.Popen(
        device.words("patch", "--of", digest_of(bundle), "model.plan"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert first.stdin is not None
    first.stdin.write(recipe[:20])
    first.stdin.flush()
    end = time.monotonic() + 20
    while not partial.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    device.send(bundle)
    _, error = first.communicate(recipe[20:])
    assert first.returncode == 1
    assert b"another installer has begun; this one ends" in error
    assert (device.root / "slots/b/model.plan").read_bytes() == new
    device.do("switch", "--of", digest_of(bundle))


def test_what_runs_already_is_not_taken_again(device: Device, tmp_path: Path) -> None:
    one = make_bundle(tmp_path / "one", release=1)
    device.send(one)
    device.do("switch")
    words, stdin = begin_words(device, one)
    done = device.run(*words, stdin=stdin)
    assert (done.returncode, done.stdout) == (PRESENT, b"trial a\n")
    device.do("confirm")
    done = device.run(*words, stdin=stdin)
    assert (done.returncode, done.stdout) == (PRESENT, b"active a\n")
    # One that is damaged there is taken again, into the other slot.
    (device.root / "slots/a/model.plan").write_bytes(b"torn")
    assert [path for _, _, path in device.begin(one)] == ["model.plan"]
    device.send(one)
    device.do("switch")
    device.do("confirm")
    assert device.status["active"] == "b"


def test_only_the_slot_that_is_meant_is_confirmed(device: Device, tmp_path: Path) -> None:
    device.install(make_bundle(tmp_path / "one"))
    device.send(make_bundle(tmp_path / "two", plan=b"2"))
    device.do("switch")
    # The service of the former bundle, which is told late that it serves.
    assert "slot a is not the one that runs" in device.refuse("confirm", "a")
    assert device.status["trial"] == "b"
    device.do("confirm", "b")
    device.do("confirm", "b")
    assert device.status["active"] == "b"


def test_a_root_is_made_for_the_board_that_a_bundle_names(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one")
    device = Device(tmp_path / "new", find_program())
    words, stdin = begin_words(device, bundle)
    size = words[1]
    row = KEY.public.to_text().splitlines()[1]
    other = make_key().public.to_text().splitlines()[1]
    assert "not signed for this device" in device.refuse("adopt", size, other, stdin=stdin)
    assert not device.root.exists()
    device.do("adopt", size, other, row, stdin=stdin)
    assert device.status["board"] == BOARD
    assert "exists and is in use" in device.refuse("adopt", size, row, stdin=stdin)
    device.install(bundle)


def test_the_program_is_renewed_by_confirmed_bundles_alone(device: Device, tmp_path: Path) -> None:
    there = device.root / "bin/edgekit-board"
    there.parent.mkdir()
    shutil.copy(device.program, there)
    newer = tmp_path / "newer"
    newer.write_bytes(device.program.read_bytes() + b"newer")
    device.send(make_bundle(tmp_path / "one", board_program=newer))
    device.do("switch")
    device.do("start")
    assert there.read_bytes() == device.program.read_bytes()
    device.do("confirm")
    assert there.read_bytes() == newer.read_bytes()
    assert os.access(there, os.X_OK)
    for number, program in enumerate(("echo edgekit-board 0.0.9", "exit 1", "echo")):
        other = tmp_path / "other"
        other.write_text(f"#!/bin/sh\n{program}\n")
        bundle = make_bundle(tmp_path / "two", plan=b"%d" % number, board_program=other)
        device.install(bundle)
        assert there.read_bytes() == newer.read_bytes()
        assert "edgekit-board stays: " in device.log.splitlines()[-1]
    # What was changed on the device after the check is not taken.
    device.send(make_bundle(tmp_path / "three", plan=b"3", board_program=device.program))
    device.do("switch")
    trial = device.status["trial"]
    (device.root / "slots" / trial / "edgekit-board").write_bytes(newer.read_bytes() + b"x")
    device.do("confirm")
    assert there.read_bytes() == newer.read_bytes()


def test_programs_run_where_an_emulator_is_named(device: Device, tmp_path: Path) -> None:
    device.send(make_bundle(tmp_path / "one"))
    emulator = tmp_path / "emulator"
    emulator.write_text(f'#!/bin/sh\necho "$1 $2" >{tmp_path}/called\nshift\nexec "$@"\n')
    emulator.chmod(0o755)
    subprocess.run(
        device.words("switch"),
        check=True,
        capture_output=True,
        env=os.environ | {"EDGEKIT_EMULATOR": f"{emulator}  -cpu"},
    )
    assert (tmp_path / "called").read_text() == f"-cpu {device.root}/slots/a/edgekit-run\n"
