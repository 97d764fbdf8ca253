"""A runner with one plan's kernels and operators alone: smaller, the same bytes, other plans refused in words."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.building.programs import PlanParts, Programs, build_programs
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.verify import verify
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import find_program, list_toolchains

BOARD = "rpi4"


def make_other_program() -> Program:
    """Returns a network whose one operator the small network lacks."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 4, 6, 6] x) => (float[1, 4, 3, 3] y) '
        "{ y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"
    )
    model = ir.from_proto(proto)
    simplify(model)
    sample = {"x": np.random.default_rng(3).normal(0, 1, (1, 4, 6, 6)).astype(np.float32)}
    return lower(quantize(model, calibrate(model, [sample])))


def build(parts: PlanParts | None) -> Programs:
    there = {toolchain.name: toolchain for toolchain in list_toolchains(load_profile(BOARD))}
    if "aarch64-linux-gnu" not in there:
        pytest.skip("no aarch64-linux-gnu-g++")
    return build_programs(load_profile(BOARD), only=parts, toolchain=there["aarch64-linux-gnu"])


def test_parts_of_a_plan(make_bundle: Callable[..., Bundle]) -> None:
    parts = PlanParts.of_plan(make_bundle("x86-64-v3").plan)
    assert parts.isas == ("generic", "x86_avx2")
    assert {"Conv", "DepthwiseConv", "FullyConnected", "Softmax"} <= set(parts.ops)
    assert "Pool" not in parts.ops
    assert parts.ops == tuple(sorted(parts.ops))


@pytest.mark.cross
@pytest.mark.timeout(1800)
def test_a_slim_runner(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    emulator = find_program("qemu-aarch64-static", "qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64")
    whole = build(None)
    compiler = next(t for t in list_toolchains(load_profile(BOARD)) if t.name == whole.toolchain)
    bundle = make_bundle(BOARD, compiler)
    parts = PlanParts.of_plan(bundle.plan)
    slim = build(parts)
    assert slim.folder != whole.folder
    assert build(replace(parts)).folder == slim.folder
    assert slim.runner.stat().st_size < whole.runner.stat().st_size - 100_000

    bundle.runner.write_bytes(slim.runner.read_bytes())
    words = [emulator, "-cpu", "cortex-a72", bundle.runner, bundle.plan, "--digests", "--json"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    isas = subprocess.run(
        [emulator, "-cpu", "max", bundle.runner, "--isas"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "arm_i8mm" in isas.stdout

    rng = np.random.default_rng(3)
    given = {"x": rng.normal(0, 1, (1, 4, 6, 6)).astype(np.float32)}
    other = make_bundle(BOARD, compiler, program=make_other_program(), inputs=given)
    assert verify(other.path).ok
    refused = subprocess.run(
        [emulator, "-cpu", "cortex-a72", slim.runner, other.plan],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 3
    assert "is a Pool, which this program leaves out" in refused.stderr
