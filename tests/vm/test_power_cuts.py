"""A board in qemu loses its power again and again while it is flashed: it comes up with a whole bundle each time.

pytest tests/vm/test_power_cuts.py --vm-cuts 60 -s
"""

import random
import threading
import time
from pathlib import Path

import pytest
from board_root import do, make_root, read_status, take
from emulated_board import EmulatedBoard, MakeBoard
from power_cut_disk import make_disk, read_log
from real_bundles import CPU, deploy_ds_cnn

import edgekit
from edgekit import EdgekitError
from edgekit.delivery.verify_on import verify_on

pytestmark = [pytest.mark.slow, pytest.mark.cross, pytest.mark.timeout(3600)]

# What flashing a bundle takes at most; a cut that is due later comes when it is done.
FLASH_S = 300.0


def count_writes(board: EmulatedBoard) -> int:
    """Returns how many writes and flushes the disk took since the board was switched on."""
    assert board.disk is not None
    return sum(1 for _ in read_log(board.disk.log))


def flash_until(board: EmulatedBoard, bundle: Path, writes: int) -> bool:
    """Flashes a bundle until the disk took so many writes more; returns whether it came to its end."""
    done = threading.Event()
    ended: list[EdgekitError | None] = []

    def flash() -> None:
        try:
            edgekit.flash(bundle, board.address, tries=1)
            ended.append(None)
        except EdgekitError as error:
            ended.append(error)
        done.set()

    due = count_writes(board) + writes
    flasher = threading.Thread(target=flash)
    flasher.start()
    end = time.monotonic() + FLASH_S
    while count_writes(board) < due and not done.wait(0.002):
        assert time.monotonic() < end, board.serial[-2000:]
    board.switch_off()
    flasher.join()
    return ended[0] is None


def test_a_board_that_loses_its_power_while_it_is_flashed_runs_a_whole_bundle(
    make_board: MakeBoard, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cuts = request.config.getoption("--vm-cuts")
    random_ = random.Random(cuts)
    disk = make_disk(tmp_path / "disk.raw", 32)
    board = make_board(CPU, disk=disk)
    board.start()
    bundles = {1: deploy_ds_cnn(tmp_path / "1", 1)}
    board.wait()
    make_root(board, bundles[1])
    before = count_writes(board)
    for _ in take(board, bundles[1]):
        pass
    # Taking a bundle beside another one takes about as many writes.
    most = count_writes(board) - before
    confirmed, through = 1, 0
    for cut in range(cuts):
        coming = confirmed + 1
        if coming not in bundles:
            bundles[coming] = deploy_ds_cnn(tmp_path / str(coming), coming)
        # Spread evenly over the way, in an order that has early and late ones among the first.
        writes = int(most * ((cut * 0.618 + random_.random() / cuts) % 1.0))
        through += flash_until(board, bundles[coming], writes)
        assert board.disk is not None
        lost = board.disk.cut(seed=cut)
        board.start()
        board.wait()
        slot = do(board, "start").strip()[-1]
        running = read_status(board)["slots"][slot]["release"]
        print(
            f"cut {cut}: {writes} writes into release {coming}, {lost} not flushed: {running} runs"
        )
        assert running in (confirmed, coming)
        assert verify_on(bundles[running], board.address).ok
        if running == coming:
            do(board, "confirm")
            confirmed = coming
    # Who was cut tries again, and gets there.
    last = deploy_ds_cnn(tmp_path / "last", confirmed + 2)
    assert edgekit.flash(last, board.address).state == "confirmed"
    assert verify_on(last, board.address).ok
    print(f"{cuts} cuts, {through} after the end of a flash, release {confirmed} confirmed by then")
