"""edgekit-board is killed at every system call of every step: a bundle that is whole and right always runs."""

import os
import shutil
from pathlib import Path

import pytest
from device_root import Device, make_device
from signed_bundles import make_bundle
from tracer import run_until

from edgekit._native import make_recipe

LEAST_POINTS = 200


@pytest.mark.slow
def test_no_step_can_be_cut_so_that_nothing_runs(tmp_path: Path) -> None:
    device = make_device(tmp_path / "device")
    device.install(make_bundle(tmp_path / "old", release=1))
    # The bundle brings a newer edgekit-board, which takes the place of the one that a flash put there.
    keeper = device.root / "bin/edgekit-board"
    keeper.parent.mkdir()
    keeper.write_text("#!/bin/sh\necho edgekit-board 0.0.1\n")
    keeper.chmod(0o755)
    newer = tmp_path / "newer"
    newer.write_text("#!/bin/sh\necho edgekit-board 999.0.0\n")
    keepers = (keeper.read_bytes(), newer.read_bytes())
    new = make_bundle(
        tmp_path / "new", release=2, plan=b"a new plan", ending="# other", board_program=newer
    )
    old_program, program = (tmp_path / name / "edgekit-run" for name in ("old", "new"))
    recipe = make_recipe(old_program.read_bytes(), program.read_bytes())
    points = 0
    ((begin, stdin),) = device.steps(new)
    steps = [
        (begin, stdin),
        (
            device.words("put", "model.plan", "0", "edgekit-board", "0"),
            (new / "model.plan").read_bytes() + newer.read_bytes(),
        ),
        (device.words("patch", "edgekit-run"), recipe),
        (device.words("switch"), b""),
        (device.words("start"), b""),
        (device.words("confirm"), b""),
        (device.words("back", "another cut"), b""),
    ]
    before = tmp_path / "before"
    for words, given in steps:
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(device.root, before, symlinks=True)
        status, stops = run_until(words, None, given)
        assert status == 0, words
        after = tmp_path / "after"
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(device.root, after, symlinks=True)
        # A stop after a call is the same as one before the next call.
        for stop in range(0, stops, 2):
            restore(before, device.root)
            status, reached = run_until(words, stop, given)
            # Waiting for the bundle's program takes more calls at one time than at another.
            assert status == -9 or (status == 0 and reached <= stop)
            points += status == -9
            check_that_it_runs(device, (words[2], stop))
            assert keeper.read_bytes() in keepers
            assert os.access(keeper, os.X_OK)
            # Whoever was cut tries again, and gets there.
            if stop % 14 == 0:
                finish(device, new)
        restore(after, device.root)
    assert points >= LEAST_POINTS
    assert keeper.read_bytes() == keepers[1]
    print(f"{points} points")


def restore(saved: Path, root: Path) -> None:
    shutil.rmtree(root)
    shutil.copytree(saved, root, symlinks=True)


def check_that_it_runs(device: Device, where: tuple[str, int]) -> None:
    """Checks that a start finds a slot whose every byte and answer is right."""
    done = device.run("start")
    assert done.returncode == 0, (where, done.stderr)
    slot = done.stdout.decode().strip()[-1]
    checked = device.run("check", slot)
    assert checked.returncode == 0, (where, slot, checked.stderr)


def finish(device: Device, bundle: Path) -> None:
    """Installs a bundle on a device whatever its state is."""
    if device.status["trial"] != "-":
        device.do("back", "begin anew")
    device.install(bundle)
    device.do("check", "a" if device.status["active"] == "a" else "b")
