"""EfficientNet-Lite0 the whole way, on an emulated Cortex-A72, A76 and A53: deploy, flash, verify, run, bench."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from emulated_board import EmulatedBoard, MakeBoard
from power_cut_disk import make_disk
from signed_bundles import KEY

import edgekit
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.golden import read_array
from edgekit.delivery.measurement import EMULATED
from edgekit.delivery.ssh import DEFAULT_ROOT
from edgekit.delivery.verify_on import verify_on
from efficientnet_lite0 import build_model
from photos import PREPROCESSING, write_calibration

pytestmark = [pytest.mark.slow, pytest.mark.cross, pytest.mark.timeout(1800)]

MOST_S = 90.0
SERVICE_PORT = 7070
LAYERS = 54


@dataclass
class Clock:
    """Seconds that a board's loop took: of each step by the clock, and of processors in all."""

    board: EmulatedBoard
    seconds: dict[str, float] = field(default_factory=dict)
    begun_s: float = field(default_factory=lambda: read_processor_s())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin

    @property
    def elapsed_s(self) -> float:
        """By the clock."""
        return sum(self.seconds.values())

    @property
    def processor_s(self) -> float:
        """Of processors: this process, those that it started and that have ended, and qemu."""
        return read_processor_s() - self.begun_s + self.board.processor_s

    def __str__(self) -> str:
        steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.seconds.items())
        return f"{self.elapsed_s:.1f} s ({self.processor_s:.1f} s of processors): {steps}"


def read_processor_s() -> float:
    """Returns the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network's file and the pictures that it is calibrated with."""
    folder = tmp_path_factory.mktemp("network")
    build_model(folder / "efficientnet_lite0.onnx")
    write_calibration(folder / "calibration", stamps=1)
    return folder


@pytest.fixture(scope="module")
def public_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "team.pub"
    path.write_text(KEY.public.to_text())
    return path


@pytest.mark.parametrize(
    ("target", "cpu"), [("rpi4", "cortex-a72"), ("rpi5", "cortex-a76"), ("rpi3", "cortex-a53")]
)
def test_the_whole_loop(
    target: str,
    cpu: str,
    network: Path,
    public_key: Path,
    make_board: MakeBoard,
    tmp_path: Path,
) -> None:
    disk = make_disk(tmp_path / "disk.raw", 64)
    board = make_board(cpu, disk=disk, services=(SERVICE_PORT,))
    # It comes up beside the deployment, as a board on the desk would be up already.
    board.start()
    clock = Clock(board)
    with clock.step("deploy"):
        deployment = edgekit.deploy(
            network / "efficientnet_lite0.onnx",
            target=target,
            calibration=network / "calibration",
            preprocessing=PREPROCESSING,
            ranges="minmax",
            output=tmp_path / "bundle",
            sign_with=KEY,
        )
    bundle = read_bundle(tmp_path / "bundle", key=KEY.public)
    with clock.step("boot, what is left of it"):
        board.wait()
    with clock.step("flash"):
        flashed = edgekit.flash(bundle.path, board.address, key=public_key)
    assert flashed.state == "confirmed"
    assert flashed.health is not None
    assert flashed.health.layers == LAYERS
    assert flashed.health.median_us is None
    with clock.step("verify"):
        proof = verify_on(bundle.path, board.address, key=public_key)
    assert proof.ok
    assert len(proof.layers) == LAYERS
    with clock.step("run"):
        slot = f"{DEFAULT_ROOT}/current"
        board.run(
            f"{slot}/edgekit-run {slot}/model.plan --serve 'tcp:*:{SERVICE_PORT}' >/tmp/served 2>&1 &"
        )
        board.wait_until("serving", lambda: "serving at" in board.run("cat /tmp/served").text)
        (name, file), *_ = bundle.inputs.items()
        with edgekit.connect(f"tcp://127.0.0.1:{board.ports[SERVICE_PORT]}") as session:
            answers = session.run({name: read_array(file)})
    for output, golden in bundle.outputs.items():
        assert np.array_equal(answers[output], read_array(golden))
    with clock.step("bench"):
        measured = edgekit.benchmark_on(bundle.path, board.address)
    assert measured.answers == "equal"
    # An emulated processor's times are no board's, and there are none.
    assert measured.label.startswith(EMULATED)
    assert measured.latency is None
    print(f"\n{target} on an emulated {cpu}: {clock}")
    assert deployment.plan is not None
    # Where others keep the processors busy, their time says how long it takes alone: no step waits for anything else.
    assert min(clock.elapsed_s, clock.processor_s) < MOST_S
