"""An emulated board, which has busybox and nothing else, is probed and measured over ssh, and gets no times."""

from pathlib import Path

import pytest
from emulated_board import MakeBoard
from real_bundles import deploy_ds_cnn

import edgekit
from edgekit.delivery.measurement import EMULATED
from edgekit.targets.profile import load_profile

pytestmark = [pytest.mark.slow, pytest.mark.cross]


def test_an_emulated_board_is_probed_and_measured(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board("cortex-a72")
    board.start()
    board.wait()
    path = tmp_path / "emulated.toml"
    probed = edgekit.probe(board.address, output=path)
    profile = load_profile(path)
    assert profile.cpu.model == "Cortex-A72"
    assert profile.isa == "arm_neon"
    assert profile.system.emulator_cpu == "cortex-a72"
    assert "linux,dummy-virt" in probed.device.emulation
    assert "no time taken on it is a board's" in (profile.cpu.note or "")
    # What was probed is a target.
    bundle = deploy_ds_cnn(tmp_path / "dist", release=1, target=str(path))
    measured = edgekit.benchmark_on(bundle, board.address)
    assert measured.bundle["target"] == "emulated"
    assert measured.answers == "equal"
    assert measured.label.startswith(EMULATED)
    assert measured.latency is None
    assert measured.layers == ()
    assert measured.peak_bytes
    # Neither leaves anything behind.
    assert board.run("ls -A /tmp /root").text.split() == ["/root:", ".ssh", "/tmp:"]
