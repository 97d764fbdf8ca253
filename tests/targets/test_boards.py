"""Each board's program, built by each compiler, computes in emulation what the numpy judge computes."""

import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import edgekit.building.emulate
from edgekit import EdgekitError, PlanError
from edgekit.building.programs import build_programs, is_static_elf
from edgekit.bundles.bundle import Bundle
from edgekit.bundles.golden import DIGESTS, read_array
from edgekit.bundles.manifest import MANIFEST, describe_file
from edgekit.bundles.verify import verify
from edgekit.converters.calibrate import calibrate
from edgekit.converters.can_hold import can_hold, make_int4
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import infer_shapes
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import Toolchain, find_program, list_toolchains

ARM_BOARDS = {
    "rpi3": "cortex-a53",
    "rpi4": "cortex-a72",
    "rpi5": "cortex-a76",
    "armv8.6-a": "max",
}
# Generic code, which has to give the bytes of every other set.
GENERIC_BOARDS = {"armv7": "cortex-a7", "riscv64": "rv64"}

# zig compiles its own C++ library at its first link.
TOOLCHAINS = ["aarch64-linux-gnu", pytest.param("zig-aarch64-linux-musl", marks=pytest.mark.slow)]

needs_emulator = pytest.mark.skipif(
    find_program("qemu-aarch64-static", "qemu-aarch64") is None, reason="no qemu-aarch64"
)


def toolchain_for(board: str, name: str) -> Toolchain:
    """Returns the compiler; skips where it is missing."""
    there = {toolchain.name: toolchain for toolchain in list_toolchains(load_profile(board))}
    if name not in there:
        pytest.skip(f"no {name}")
    return there[name]


def edit(bundle: Bundle, name: str, change: Callable[[Path], None]) -> None:
    """Changes a file and makes the manifest agree, as someone would who knows how."""
    change(bundle.path / name)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    if name != MANIFEST:
        manifest["files"][name] = describe_file(bundle.path / name)
        (bundle.path / MANIFEST).write_text(json.dumps(manifest))


def edit_json(bundle: Bundle, name: str, change: Callable[[Any], object]) -> None:
    def rewrite(path: Path) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    edit(bundle, name, rewrite)


def test_host_bundle_is_equal(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    found = verify(bundle.path)
    assert found.ok, str(found)
    assert not found.emulated
    assert len(found.layers) == len(bundle.digests)


def test_threads_do_not_change_a_byte(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    assert verify(bundle.path, threads=3).layers == verify(bundle.path, threads=1).layers


@pytest.mark.cross
@needs_emulator
@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("board", ARM_BOARDS)
@pytest.mark.timeout(900)
def test_emulated_board_is_equal(
    board: str, toolchain: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle(board, toolchain_for(board, toolchain))
    found = verify(bundle.path)
    assert found.ok, str(found)
    assert found.machine == f"emulated {ARM_BOARDS[board]}"
    assert len(found.layers) == len(bundle.digests) > 5
    assert f"{board}, emulated {ARM_BOARDS[board]}: equal" in str(found)


def check_generic_board(board: str, number: int, make_bundle: Callable[..., Bundle]) -> None:
    toolchain = load_profile(board).system.toolchains[number]
    bundle = make_bundle(board, toolchain_for(board, toolchain))
    machine = f"qemu-{bundle.target.architecture}"
    if find_program(f"{machine}-static", machine) is None:
        pytest.skip(f"no {machine}")
    found = verify(bundle.path)
    assert found.ok, str(found)
    assert found.machine == f"emulated {GENERIC_BOARDS[board]}"
    assert len(found.layers) == len(bundle.digests) > 5


@pytest.mark.cross
@pytest.mark.parametrize("board", GENERIC_BOARDS)
@pytest.mark.timeout(900)
def test_emulated_board_without_kernels_of_its_own_is_equal(
    board: str, make_bundle: Callable[..., Bundle]
) -> None:
    check_generic_board(board, 1, make_bundle)


@pytest.mark.cross
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("board", GENERIC_BOARDS)
@pytest.mark.timeout(1800)
def test_emulated_board_by_zig_is_equal(board: str, make_bundle: Callable[..., Bundle]) -> None:
    check_generic_board(board, 0, make_bundle)


RECURRENT = {
    "LSTM": 'y, h, c = LSTM <hidden_size = 40, direction = "bidirectional"> (x, w, r, b)',
    "GRU": "y, h = GRU <hidden_size = 40> (x, w, r, b)",
}


@pytest.mark.cross
@needs_emulator
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("board", ["host", "rpi3", "rpi5"])
@pytest.mark.timeout(900)
def test_int8_weights_of_recurrent_layers_give_the_same_bytes(
    board: str, kind: str, make_bundle: Callable[..., Bundle]
) -> None:
    rng = np.random.default_rng(7)
    directions, rows = (2, 160) if kind == "LSTM" else (1, 120)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> '
        f"net (float[6, 2, 33] x) => (float[6, {directions}, 2, 40] y) {{ {RECURRENT[kind]} }}"
    )
    for name, shape in (("w", (rows, 33)), ("r", (rows, 40)), ("b", (2 * rows,))):
        array = rng.normal(0, 0.3, (directions, *shape)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    sample = {"x": rng.normal(0, 1, (6, 2, 33)).astype(np.float32)}
    model = ir.from_proto(proto)
    program = lower(quantize(model, calibrate(model, [sample])))
    assert "DynamicFullyConnected" in {op.kind for op in program.ops}
    found = verify(make_bundle(board, program=program, inputs=sample).path)
    assert found.ok, str(found)
    assert len(found.layers) == len(program.ops)


@pytest.mark.cross
@needs_emulator
@pytest.mark.parametrize("board", ["host", "rpi3", "rpi4", "rpi5"])
@pytest.mark.timeout(900)
def test_int4_weights_give_the_same_bytes(board: str, make_bundle: Callable[..., Bundle]) -> None:
    rng = np.random.default_rng(11)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 3, 12, 12] x) => (float[1, 40] y) '
        "{ a = Conv <pads = [1, 1, 1, 1]> (x, w1) b = Conv <group = 16, pads = [1, 1, 1, 1]> (a, w2) "
        "c = Conv (b, w3) d = Flatten (c) e = MatMul (d, w4) f = MatMul (e, w5) g = Softmax (f) y = MatMul (g, w6) }"
    )
    shapes = ((16, 3, 3, 3), (16, 1, 3, 3), (6, 16, 1, 1), (864, 70), (70, 70), (70, 40))
    for number, shape in enumerate(shapes, 1):
        array = rng.normal(0, 1 / np.sqrt(np.prod(shape[-2:])), shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, f"w{number}"))
    sample = {"x": rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)}
    model = ir.from_proto(proto)
    infer_shapes(model)
    simplify(model)
    for node in model.graph:
        node.name = node.outputs[0].name
    last = [node.name or "" for node in model.graph if node.op_type == "MatMul"]
    formats = {
        **make_int4(model.graph),
        **{node.name or "": NumberFormat.INT4 for node in model.graph if node.op_type == "Conv"},
        last[1]: NumberFormat.INT4_ROWS,
        last[2]: NumberFormat.INT4_FLOAT,
    }
    quantized = quantize(
        model, calibrate(model, [sample]), formats=formats, int4_groups={last[0]: 64}
    )
    program = lower(quantized)
    assert [op.kind for op in program.ops].count("GroupFullyConnected") == 2
    found = verify(make_bundle(board, program=program, inputs=sample).path)
    assert found.ok, str(found)
    assert len(found.layers) == len(program.ops)


@pytest.fixture(params=[NumberFormat.INT12, NumberFormat.INT12_WEIGHTS])
def program_of_parts(
    request: pytest.FixtureRequest, small_model: ir.Model, small_samples: list[dict[str, Any]]
) -> Program:
    """All layers that can read codes in parts, depthwise ones too."""
    held = [node for node in small_model.graph if can_hold(node, request.param) is None]
    formats = {node.name or "": request.param for node in held}
    learned = calibrate(small_model, small_samples)
    program = lower(quantize(small_model, learned, formats=formats))
    assert [op.kind for op in program.ops].count("QuantizeParts") >= 2
    return program


@pytest.mark.cross
@needs_emulator
@pytest.mark.parametrize("board", ["host", "rpi3", "rpi4", "rpi5"])
@pytest.mark.timeout(900)
def test_codes_in_parts_give_the_same_bytes(
    board: str, program_of_parts: Program, make_bundle: Callable[..., Bundle]
) -> None:
    found = verify(make_bundle(board, program=program_of_parts).path)
    assert found.ok, str(found)
    assert len(found.layers) == len(program_of_parts.ops)


@pytest.mark.cross
@pytest.mark.slow
@needs_emulator
@pytest.mark.timeout(900)
def test_codes_in_parts_by_zig_give_the_same_bytes(
    program_of_parts: Program, make_bundle: Callable[..., Bundle]
) -> None:
    toolchain = toolchain_for("rpi5", "zig-aarch64-linux-musl")
    found = verify(make_bundle("rpi5", toolchain, program=program_of_parts).path)
    assert found.ok, str(found)


@pytest.mark.cross
@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.timeout(900)
def test_one_runner_serves_every_board_of_an_architecture(toolchain: str) -> None:
    runners = {
        build_programs(load_profile(board), toolchain=toolchain_for(board, toolchain)).runner
        for board in ARM_BOARDS
    }
    assert len(runners) == 1
    assert is_static_elf(runners.pop(), "aarch64")


@pytest.mark.cross
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_runner_that_boards_prefer_is_under_700_kb() -> None:
    board = load_profile("rpi4")
    toolchain = toolchain_for("rpi4", board.system.toolchains[0])
    size = build_programs(board, toolchain=toolchain).runner.stat().st_size
    assert size < 700_000, f"{toolchain.name}: {size} bytes"


@pytest.mark.cross
@needs_emulator
def test_a_plan_that_the_board_s_cpu_cannot_run(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("rpi5")

    def change(manifest: dict[str, Any]) -> None:
        manifest["target"]["emulator_cpu"] = "cortex-a72"

    edit_json(bundle, MANIFEST, change)
    with pytest.raises(EdgekitError, match=r"emulated cortex-a72.*arm_neondot"):
        verify(bundle.path)


def test_a_digest_that_differs_names_the_layer(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    edit_json(bundle, DIGESTS, lambda rows: rows[2].update(sha256="0" * 64))
    found = verify(bundle.path)
    assert not found.ok
    assert found.first_difference == bundle.digests[2].op
    assert [layer.equal for layer in found.layers].count(False) == 1
    assert "host, native" in str(found)
    assert "DIFFERENT" in str(found)


def test_an_output_that_differs_is_counted(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")

    def change(path: Path) -> None:
        array = read_array(path).copy()
        array.flat[[1, 4]] *= -1
        np.save(path, array)

    edit(bundle, "golden/outputs/0.npy", change)
    found = verify(bundle.path)
    (output,) = found.outputs
    assert (output.name, output.differing, output.elements) == ("scores", 2, 11)
    assert not found.ok
    assert found.first_difference is None


def test_golden_layers_of_another_plan(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    edit_json(bundle, DIGESTS, lambda rows: rows.pop())
    with pytest.raises(PlanError, match="name other layers than the plan runs"):
        verify(bundle.path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("name", "rpi3", "its target: host"), ("isa", "generic", "its instruction set: ")],
)
def test_manifest_of_another_plan(
    make_bundle: Callable[..., Bundle], key: str, value: str, message: str
) -> None:
    bundle = make_bundle("host")
    edit_json(bundle, MANIFEST, lambda manifest: manifest["target"].update({key: value}))
    with pytest.raises(PlanError, match=message):
        verify(bundle.path)


def test_golden_input_of_another_name(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")

    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"]["inputs"][0]["name"] = "picture"

    edit_json(bundle, MANIFEST, change)
    with pytest.raises(PlanError, match=r"its inputs: \['image'\], but the manifest"):
        verify(bundle.path)


def test_equal_runs_write_equal_bundles(make_bundle: Callable[..., Bundle]) -> None:
    first = make_bundle("host").files
    assert make_bundle("host").files == first


def test_runner_is_a_program_that_tells_its_version(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle("host")
    done = subprocess.run([bundle.runner, "--version"], capture_output=True, text=True, check=True)
    assert "0.1.0" in done.stdout


@pytest.mark.cross
@pytest.mark.skipif(
    find_program("qemu-x86_64-static", "qemu-x86_64") is None, reason="no qemu-x86_64"
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="no x86-64 runner is built here")
def test_avx2_is_emulated_where_the_cpu_lacks_it(
    make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgekit.building.emulate, "runs_natively", lambda isa: False)
    found = verify(make_bundle("x86-64-v3").path)
    assert found.ok, str(found)
    assert found.machine == "emulated Haswell-v4"
