"""What goes wrong with devices goes wrong on an emulated board: it keeps what runs, and takes the bundle later."""

import threading
from pathlib import Path

import pytest
from board_root import do, read_status
from emulated_board import EmulatedBoard, MakeBoard
from power_cut_disk import make_disk
from real_bundles import CPU, deploy_ds_cnn
from signed_bundles import KEY

import edgekit
from edgekit import EdgekitError
from edgekit.delivery.ssh import DEFAULT_ROOT
from edgekit.delivery.verify_on import verify_on
from edgekit.targets.errors import DeviceError

pytestmark = [pytest.mark.slow, pytest.mark.cross, pytest.mark.timeout(1800)]

MEBIBYTES = 16
RELEASES = (1, 2, 3, 4)
# Ends all connections as soon as a file has begun to arrive; dropbear's first process listens.
CUTTER = f"""
until ls {DEFAULT_ROOT}/slots/?/*.part; do usleep 1000; done
kill -9 $(pidof dropbear | tr ' ' '\\n' | sort -n | tail -n +2)
echo cut > /tmp/cut
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {release: deploy_ds_cnn(folder / str(release), release) for release in RELEASES}


@pytest.fixture(scope="module")
def board(make_board: MakeBoard, disk_folder: Path) -> EmulatedBoard:
    """A board with an empty disk; each test leaves it with one release more."""
    made = make_board(CPU, disk=make_disk(disk_folder / "disk.raw", MEBIBYTES))
    made.start()
    made.wait()
    return made


def assert_runs(board: EmulatedBoard, bundle: Path, release: int) -> None:
    """Checks that a release runs, whole and right."""
    slot = do(board, "start").strip()[-1]
    assert read_status(board)["slots"][slot]["release"] == release
    assert verify_on(bundle, board.address).ok


def test_a_link_that_breaks_in_the_middle(
    board: EmulatedBoard, bundles: dict[int, Path], tmp_path: Path
) -> None:
    key = tmp_path / "team.pub"
    key.write_text(KEY.public.to_text())
    board.run(
        "cat > /tmp/cutter; setsid sh /tmp/cutter >/dev/null 2>&1 </dev/null &",
        stdin=CUTTER.encode(),
    )
    result = edgekit.flash(bundles[1], board.address, key=key)
    assert board.run("cat /tmp/cut").text == "cut\n"
    assert any(step.startswith("again ") for step in result.steps)
    assert result.state == "confirmed"
    assert_runs(board, bundles[1], 1)


def test_a_disk_that_is_full(board: EmulatedBoard, bundles: dict[int, Path]) -> None:
    board.run("dd if=/dev/zero of=/var/lib/other bs=4k", check=False)
    with pytest.raises(DeviceError, match="has room for"):
        edgekit.flash(bundles[2], board.address)
    assert_runs(board, bundles[1], 1)
    board.run("rm /var/lib/other")
    edgekit.flash(bundles[2], board.address)
    assert_runs(board, bundles[2], 2)


def test_two_who_flash_at_once(board: EmulatedBoard, bundles: dict[int, Path]) -> None:
    ends: dict[int, str] = {}

    def flash(release: int) -> None:
        try:
            ends[release] = edgekit.flash(bundles[release], board.address).state
        except EdgekitError as error:
            ends[release] = f"refused: {error}"

    both = [threading.Thread(target=flash, args=(release,)) for release in (3, 4)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    slot = do(board, "start").strip()[-1]
    running = read_status(board)["slots"][slot]["release"]
    # One of both or neither, and what runs is whole.
    assert running in (2, 3, 4), ends
    assert verify_on(bundles[running], board.address).ok, ends
    if running != 4:
        edgekit.flash(bundles[4], board.address)
    assert_runs(board, bundles[4], 4)


def test_a_clock_that_is_set_back(
    board: EmulatedBoard, bundles: dict[int, Path], tmp_path: Path
) -> None:
    board.run("date -s '1999-01-01 00:00:00'")
    with pytest.raises(DeviceError, match="takes none before 4"):
        edgekit.flash(bundles[3], board.address)
    newest = deploy_ds_cnn(tmp_path / "5", 5)
    edgekit.flash(newest, board.address)
    assert_runs(board, newest, 5)
    lines = board.run(f"cat {DEFAULT_ROOT}/log").text.splitlines()
    assert lines[-1].startswith("1999-01-01")
    numbers = [int(line.split(" ", 2)[1]) for line in lines]
    assert numbers == sorted(numbers)
