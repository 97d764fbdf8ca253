"""Every state that a power cut could leave on the disk while a board takes a bundle: a whole slot starts in each.

A board in qemu takes one bundle step by step and is flashed with another, and each of its disk's writes and flushes
is logged. Then the disk is made anew as a cut after each of them could have left it, the file system recovered as a
mount would, and the board's own program asked what to run.
"""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from board_root import make_root, take
from emulated_board import MakeBoard
from power_cut_disk import (
    PowerCutDisk,
    Write,
    apply_cut,
    count_flushed,
    extract,
    make_disk,
    read_log,
    recover,
)
from real_bundles import CPU, deploy_ds_cnn
from signed_bundles import KEY

import edgekit
from edgekit import EdgekitError
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.verify import verify
from edgekit.delivery.ssh import DEFAULT_ROOT

pytestmark = [pytest.mark.slow, pytest.mark.cross, pytest.mark.timeout(1800)]

LEAST_POINTS = 200
# Shares of what was not flushed that a cut keeps; of those between, which sectors is a matter of chance.
KEPT = (0.0, 0.5, 1.0)
KEPT_WHILE_FLASHED = (0.5,)
MEBIBYTES = 16


@dataclass(frozen=True)
class Taken:
    """What was logged while a board took release 2 and was flashed with release 3, with release 1 confirmed before.

    Attributes:
        disk: With what was on it before.
        writes: What the guest did to it.
        ends: How many writes and flushes there had been after each step, in order.
    """

    disk: PowerCutDisk
    writes: list[Write]
    ends: list[tuple[str, int]]

    def end(self, step: str) -> int:
        """Returns the number of writes and flushes after the last step of a name."""
        return max(count for name, count in self.ends if name == step)


@pytest.fixture(scope="module")
def taken(make_board: MakeBoard, disk_folder: Path) -> Taken:
    disk = make_disk(disk_folder / "disk.raw", MEBIBYTES)
    board = make_board(CPU, disk=disk)
    board.start()
    old, new, last = (deploy_ds_cnn(disk_folder / str(release), release) for release in (1, 2, 3))
    board.wait()
    make_root(board, old)
    for _ in take(board, old):
        pass
    board.stop()
    board.start()
    board.wait()
    ends = [("boot", len(list(read_log(disk.log))))]
    for step in take(board, new):
        ends.append((step, len(list(read_log(disk.log)))))
    assert edgekit.flash(last, board.address).state == "confirmed"
    ends.append(("flash", len(list(read_log(disk.log)))))
    board.switch_off()
    return Taken(disk, list(read_log(disk.log)), ends)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of images are written, recovered and read."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


class Cuts:
    """Disks after power cuts, and what starts from them.

    Args:
        taken: What was logged.
        folder: For disks and what is on them.
    """

    def __init__(self, taken: Taken, folder: Path) -> None:
        emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
        if emulator is None:
            pytest.skip("no qemu-aarch64-static (Debian: qemu-user-static)")
        self._emulator = emulator
        self._before = taken.disk.before.read_bytes()
        self._image = folder / "image"
        self._root = folder / Path(DEFAULT_ROOT).name
        self._proven: set[bytes] = set()

    def start(self, writes: list[Write], kept: float) -> int:
        """Starts from a disk that was cut after `writes`; returns the release that runs, whole and right.

        Raises:
            AssertionError, EdgekitError: The file system is broken, nothing starts, or what starts is not whole.
        """
        content = bytearray(self._before)
        apply_cut(content, writes, kept, random.Random(len(writes)))
        self._image.write_bytes(content)
        recover(self._image)
        shutil.rmtree(self._root, ignore_errors=True)
        extract(self._image, f"/{self._root.name}", self._root.parent)
        program = self._root / "bin/edgekit-board"
        words = [self._emulator, "-cpu", CPU, program, self._root, "start"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        slot = Path(done.stdout.strip())
        # Signature, and the digest of every file; what the same files compute is known after once.
        bundle = read_bundle(slot, key=KEY.public)
        manifest = (slot / "manifest.json").read_bytes()
        if manifest not in self._proven:
            assert verify(slot).ok
            self._proven.add(manifest)
        return bundle.release


def list_cuts(taken: Taken) -> Iterator[tuple[int, float]]:
    """Yields the points: after how many writes, and what share of those not flushed is kept."""
    for count in range(taken.end("boot"), taken.end("flash") + 1):
        open_writes = count - count_flushed(taken.writes[:count])
        shares = KEPT if count <= taken.end("confirm") else KEPT_WHILE_FLASHED
        for kept in shares if open_writes else shares[:1]:
            yield count, kept


def test_every_state_of_the_disk_starts_a_whole_slot(taken: Taken, memory: Path) -> None:
    cuts = Cuts(taken, memory)
    found = []
    for count, kept in list_cuts(taken):
        try:
            found.append((count, cuts.start(taken.writes[:count], kept)))
        except (AssertionError, EdgekitError) as error:
            raise AssertionError(f"after {count} writes, {kept} kept: {error}") from error
    # What a step has said to be done stays done.
    assert {release for count, release in found if count <= taken.end("put")} == {1}
    through = range(taken.end("switch"), taken.end("confirm") + 1)
    assert {release for count, release in found if count in through} == {2}
    assert {release for count, release in found if count > through[-1]} == {2, 3}
    assert found[-1] == (taken.end("flash"), 3)
    assert len(found) >= LEAST_POINTS
    print(f"{len(found)} points")


def test_a_disk_that_lies_about_its_flushes_is_found_out(taken: Taken, memory: Path) -> None:
    """Without what flushing promises, not every state starts: so the states above are not whole by themselves."""
    cuts = Cuts(taken, memory)
    broken = 0
    for count in range(taken.end("boot"), taken.end("confirm") + 1, 8):
        lying = [replace(write, flush=False) for write in taken.writes[:count]]
        try:
            cuts.start(lying, 0.5)
        except (AssertionError, EdgekitError):
            broken += 1
    assert broken > 0
