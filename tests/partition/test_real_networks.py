"""DS-CNN and EfficientNet-Lite0 in two parts: the bytes of the one-device run, at every layer and over a real link."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit import _native
from edgekit.bundles.verify import verify
from edgekit.converters.split_program import split_program
from edgekit.converters.write_plan import write_plan

DS_CNN = Path(__file__).parents[2] / "benchmarks/ds_cnn/ds_cnn.onnx"
SAMPLES = np.random.default_rng(1).uniform(0, 1, (16, 1, 28, 28)).astype(np.float32)
CPU = "cortex-a72"


def open_session(program, path: Path, isa: str):
    write_plan(program, path, isa=isa, target="host", source_digest="00")
    return _native.Session(_native.Plan.from_bytes(path.read_bytes()), threads=1)


def check_every_layer(program, inputs, folder: Path) -> None:
    """Cuts behind each operator; head and tail run with other instruction sets than one another."""
    isas = [info.name for info in _native.isas() if info.built and info.supported]
    whole = open_session(program, folder / "whole.plan", isas[-1])
    expected = whole.run(inputs)
    layers = {(op, tensor): digest for op, tensor, digest in whole.digests(inputs)}
    for count in range(len(program.ops) + 1):
        first, second = split_program(program, frozenset(range(count)))
        head = open_session(first, folder / "head.plan", isas[count % len(isas)])
        tail = open_session(second, folder / "tail.plan", isas[(count + 1) % len(isas)])
        sent = head.run(inputs)
        answer = tail.run(sent)
        for name, value in expected.items():
            np.testing.assert_array_equal(answer[name], value)
        both = [*head.digests(inputs), *tail.digests(sent)]
        found = {(op, tensor): digest for op, tensor, digest in both}
        assert {key: found[key] for key in layers} == layers


@pytest.mark.slow
def test_ds_cnn_cut_behind_every_layer(tmp_path):
    deployment = edgekit.deploy(
        DS_CNN, calibration=SAMPLES, precision="int8", output=tmp_path / "whole"
    )
    name = deployment.program.inputs[0]
    check_every_layer(deployment.program, {name: SAMPLES[:1]}, tmp_path)


@pytest.mark.slow
def test_lite0_cut_behind_every_layer(tmp_path):
    network = pytest.importorskip("efficientnet_lite0")
    try:
        network.find_weights(network.LITE0)
    except FileNotFoundError as error:
        pytest.skip(f"no weights: {error}")
    network.build_model(tmp_path / "lite0.onnx")
    samples = np.random.default_rng(0).normal(0, 0.7, (4, 3, 224, 224)).astype(np.float32)
    deployment = edgekit.deploy(
        tmp_path / "lite0.onnx",
        target="x86-64-v2",
        calibration={"image": samples},
        precision="int8",
        ranges="minmax",
        output=tmp_path / "whole",
    )
    check_every_layer(deployment.program, {"image": samples[:1]}, tmp_path)


@pytest.mark.cross
def test_a_head_on_an_emulated_board_and_a_tail_here(serve, tmp_path):
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64")
    options = {"calibration": SAMPLES, "precision": "int8"}
    whole = edgekit.deploy(DS_CNN, output=tmp_path / "whole", **options)
    halves = edgekit.split(
        DS_CNN,
        between=("rpi4", "host"),
        link="10Mbit/s",
        latency="5ms",
        output=tmp_path / "split",
        **options,
    )
    for part in (halves.head, halves.tail):
        assert verify(part.path).ok
    tail = serve(halves.tail.path / "model.plan", program=[str(halves.tail.path / "edgekit-run")])
    head = serve(
        halves.head.path / "model.plan",
        "tcp:127.0.0.1:0",
        "--next",
        tail.address,
        program=[emulator, "-cpu", CPU, str(halves.head.path / "edgekit-run")],
    )
    here = whole.load()
    with edgekit.connect(head.address, timeout_s=20) as board:
        assert board.hello.facts["isa"] == "arm_neon"
        for sample in SAMPLES[:4]:
            answer = board.run(sample[None])
            for name, value in here.run(sample[None]).items():
                np.testing.assert_array_equal(answer[name], value)
