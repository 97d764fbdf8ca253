"""Emulated boards come up, are reached, and lose at a power cut what no disk promised to keep."""

import random
from pathlib import Path

import pytest
from emulated_board import MakeBoard
from power_cut_disk import Write, apply_cut, make_disk, read_log


@pytest.mark.slow
@pytest.mark.cross
def test_a_board_keeps_through_a_power_cut_what_it_flushed(
    make_board: MakeBoard, disk_folder: Path
) -> None:
    disk = make_disk(disk_folder / "disk.raw", 16)
    board = make_board("cortex-a53", disk=disk)
    board.start()
    board.wait()
    assert board.run("uname -m").text == "aarch64\n"
    # Implementer and part as a Cortex-A53's.
    told = board.run("cat /proc/cpuinfo").text
    assert "0x41" in told
    assert "0xd03" in told
    board.run("echo kept > /var/lib/kept; sync; echo lost > /var/lib/lost")
    board.kill()
    assert any(write.flush for write in read_log(disk.log))
    board.start()
    board.wait()
    assert board.run("ls /var/lib; cat /var/lib/kept").text.split() == [
        "kept",
        "lost+found",
        "kept",
    ]
    board.stop()


def test_a_cut_keeps_what_was_flushed_and_any_part_of_the_rest() -> None:
    writes = [
        Write(0, b"a" * 1024, flush=False),
        Write(0, b"", flush=True),
        Write(512, b"b" * 1024, flush=False),
        Write(2048, b"c" * 512, flush=False),
    ]
    found = set()
    for seed in range(50):
        image = bytearray(4096)
        apply_cut(image, writes, seed / 49, random.Random(seed))
        assert image[:512] == b"a" * 512
        # Of what came later each sector is there or not, whole.
        sectors = [bytes(image[at : at + 512]) for at in range(512, 4096, 512)]
        assert all(len(set(sector)) == 1 for sector in sectors)
        found.add(bytes(sector[0] for sector in sectors))
    assert (
        {b"a\0\0\0\0\0\0", b"bb\0c\0\0\0"}
        <= found
        <= {
            bytes((one, two, 0, three, 0, 0, 0))
            for one in b"ab"
            for two in b"\0b"
            for three in b"\0c"
        }
    )
