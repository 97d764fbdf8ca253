"""What a plan says that it needs is what its program takes."""

import json
import subprocess

import numpy as np
import pytest

from edgekit import _native
from edgekit.building.programs import find_installed
from edgekit.converters.program import (
    Conv,
    Dequantize,
    DType,
    FullyConnected,
    GlobalMean,
    Program,
    Quantize,
    Reshape,
    Tensor,
    Window,
)
from edgekit.converters.write_plan import write_plan

SEED = 3


def make_program(size: int, channels: int, features: int) -> Program:
    """An image of ``size`` squared, a convolution to ``channels``, their means, a layer to ``features``."""
    generator = np.random.default_rng(SEED)

    def weights(*shape):
        return {
            "weights": generator.integers(-127, 128, shape, dtype=np.int8),
            "bias": np.zeros(shape[0], np.int32),
            "multiplier": np.full(shape[0], 1e-3, np.float32),
        }

    tensors = [
        Tensor("x", (1, 3, size, size), DType.FLOAT32),
        Tensor("codes", (1, size, size, 3), channels_last=True),
        Tensor("wide", (1, size, size, channels), channels_last=True),
        Tensor("mean", (1, 1, 1, channels), channels_last=True),
        Tensor("flat", (1, channels)),
        Tensor("features", (1, features)),
        Tensor("y", (1, features), DType.FLOAT32),
    ]
    ops = (
        Quantize(name="quantize", input="x", output="codes"),
        Conv(
            name="conv",
            input="codes",
            output="wide",
            window=Window(3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1),
            **weights(channels, 3, 3, 3),
        ),
        GlobalMean(name="mean", input="wide", output="mean"),
        Reshape(name="flatten", input="mean", output="flat"),
        FullyConnected(
            name="layer", input="flat", output="features", **weights(features, channels)
        ),
        Dequantize(name="dequantize", input="features", output="y"),
    )
    return Program({tensor.name: tensor for tensor in tensors}, ("x",), ("y",), ops)


def peak_of(plan, threads: int) -> int:
    """Returns the bytes that `edgekit-run` held at most."""
    words = [find_installed("bin/edgekit-run"), plan, "--threads", str(threads), "--json"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["peak_resident_bytes"]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_runner_holds_what_the_plan_says(threads, tmp_path):
    peaks, promised = [], []
    for name, program in {
        "small": make_program(8, 8, 8),
        "large": make_program(320, 64, 65536),
    }.items():
        path = tmp_path / f"{name}.plan"
        write_plan(program, path, isa=_native.best_isa(), target="host", source_digest="00")
        promised.append(_native.Plan.open(path).memory.total(threads))
        peaks.append(peak_of(path, threads))
    # What both have in common is the program itself.
    grown = peaks[1] - peaks[0]
    expected = promised[1] - promised[0]
    assert expected > 10_000_000
    assert abs(grown - expected) <= 0.02 * expected


@pytest.mark.parametrize("isa", [info.name for info in _native.isas()])
def test_the_needs_of_another_cpu_are_known(isa, tmp_path):
    path = tmp_path / "net.plan"
    summary = write_plan(make_program(16, 8, 8), path, isa=isa, target="host", source_digest="00")
    needs = _native.Plan.open(path).memory
    assert needs.plan == path.stat().st_size
    assert needs.arena == summary.arena_size
    assert needs.external == 4 * (3 * 16 * 16 + 8)
    assert needs.scratch > 0
    assert needs.total(3) - needs.total(1) == 2 * needs.scratch
