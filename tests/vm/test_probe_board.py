"""An emulated board, which has busybox and nothing else, is read over ssh."""

from pathlib import Path

import pytest
from emulated_board import MakeBoard

import edgekit
from edgekit.targets.profile import load_profile


@pytest.mark.slow
@pytest.mark.cross
def test_an_emulated_board_is_probed(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board("cortex-a76")
    board.start()
    board.wait()
    path = tmp_path / "emulated.toml"
    probed = edgekit.probe(board.address, output=path)
    profile = load_profile(path)
    assert profile.cpu.model == "Cortex-A76"
    assert profile.isa == "arm_neondot"
    assert profile.system.emulator_cpu == "cortex-a76"
    assert "linux,dummy-virt" in probed.device.emulation
    assert "no time taken on it is a board's" in (profile.cpu.note or "")
    # The probe leaves nothing behind.
    assert board.run("ls -A /tmp /root").text.split() == ["/root:", ".ssh", "/tmp:"]
