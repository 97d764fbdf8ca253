"""The native module: plans are opened or refused, sessions read arrays in place and name what does not fit."""

import itertools
import json
import os
import random
import subprocess
import threading

import numpy as np
import onnx
import pytest

from edgekit import _native
from edgekit.building.programs import find_installed
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan
from edgekit.session import load
from edgekit.targets.errors import EdgekitError, PlanError

SEED = 7
HERE = [info.name for info in _native.isas() if info.built and info.supported]
FOREIGN = [info.name for info in _native.isas() if info.name not in HERE]


@pytest.fixture(scope="module")
def program(cnn, images):
    model = read_onnx(cnn)
    simplify(model)
    calibration = calibrate(model, [{"image": image[None]} for image in images[:8]])
    return lower(quantize(model, calibration), 1)


@pytest.fixture(scope="module")
def write(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")

    def write_for(isa):
        path = folder / f"{isa}.plan"
        write_plan(
            program, path, isa=isa, target="host", source_digest="ab" * 32, metadata={"note": "ü"}
        )
        return path

    return write_for


@pytest.fixture(scope="module")
def plan(write):
    return _native.Plan.open(write("generic"))


@pytest.fixture
def session(plan):
    return _native.Session(plan, threads=2)


def _forge(data, edits):
    """Changes bytes and makes the checksum right again."""
    forged = bytearray(data)
    for position, value in edits:
        forged[position] = value
    forged[12:16] = _native.crc32c(bytes(forged[16:])).to_bytes(4, "little")
    return bytes(forged)


@pytest.mark.parametrize("isa", HERE)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_layer_equals_the_reference(isa, threads, program, write, images):
    session = _native.Session(_native.Plan.open(write(isa)), threads)
    inputs = {"image": images[:1]}
    expected = run_program(program, inputs)
    trace = session.trace(inputs)
    assert [op.name for op in session.plan.ops] == [op for op, _, _ in trace]
    for _, tensor, values in trace:
        np.testing.assert_array_equal(values, expected[tensor], strict=True)


def test_digests_and_profile_follow_the_ops(write, images):
    inputs = {"image": images[:1]}
    sessions = [_native.Session(_native.Plan.open(write(isa))) for isa in HERE]
    first = sessions[0].digests(inputs)
    assert all(session.digests(inputs) == first for session in sessions)
    assert all(len(digest) == 64 for _, _, digest in first)
    assert [op for op, _ in sessions[0].profile(inputs, 3)] == [op for op, _, _ in first]


def test_a_plan_tells_what_it_is(plan):
    assert (plan.format_version, plan.isa, plan.storage) == (2, "generic", "s8")
    assert (plan.target, plan.source_digest, plan.metadata) == ("host", "ab" * 32, {"note": "ü"})
    assert 0 < plan.arena_lower_bound <= plan.arena_size
    (image,) = plan.inputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 3, 16, 16), np.float32)
    kinds = {op.kind for op in plan.ops}
    assert {"Quantize", "Conv", "DepthwiseConv", "GlobalMean", "FullyConnected"} <= kinds
    assert all(op.kernel for op in plan.ops if op.kind in {"Conv", "DepthwiseConv"})


def test_a_plan_pins_threads_where_its_target_wants_them(program, images, tmp_path):
    path = tmp_path / "pinned.plan"
    core = min(os.sched_getaffinity(0))
    write_plan(program, path, isa="generic", target="mine", source_digest="ab" * 32, cores=[core])
    plan = _native.Plan.open(path)
    assert plan.cores == [core]
    session = _native.Session(plan, threads=3)
    assert (session.threads, session.running_threads, session.pinning_problem) == (3, 1, "")
    anywhere = _native.Session(plan, threads=3, cores=[])
    assert anywhere.running_threads == min(3, len(os.sched_getaffinity(0)))
    inputs = {"image": images[:1]}
    spread = _native.Session(plan, threads=5, cores=[core] * 5)
    assert spread.running_threads == 5
    assert spread.digests(inputs) == session.digests(inputs) == anywhere.digests(inputs)


def test_a_thread_that_cannot_be_pinned_is_told_of_once(program, images, tmp_path):
    path = tmp_path / "pinned.plan"
    write_plan(
        program, path, isa="generic", target="mine", source_digest="ab" * 32, cores=[0, 1023, 1022]
    )
    with pytest.warns(UserWarning, match="no thread can be pinned to core 1023") as caught:
        session = load(path, threads=3)
    assert len(caught) == 1
    assert session.run({"image": images[:1]})["logits"].shape == (1, 10)
    runner = find_installed("bin/edgekit-run")
    words = [runner, path, "--threads", "3", "--json"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stderr.count("no thread can be pinned") == 1
    done = subprocess.run([*words, "--cores", "any"], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)["running_threads"] == min(3, len(os.sched_getaffinity(0)))


def test_the_runner_counts_the_cores_that_it_may_use(write):
    core = min(os.sched_getaffinity(0))
    words = [find_installed("bin/edgekit-run"), write("generic"), "--threads", "4"]
    done = subprocess.run(
        words,
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert "1 of them run" in done.stdout


def test_a_larger_batch_runs_sample_by_sample(session, images):
    whole = session.run({"image": images[:5]})["logits"]
    parts = [session.run({"image": images[i : i + 1]})["logits"] for i in range(5)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_other_arrays_are_converted(session, images):
    image = images[:1]
    expected = session.run({"image": image})["logits"]
    unaligned = np.frombuffer(b"x" + image.tobytes(), np.uint8)[1:].view(np.float32)
    for same in (
        image.astype(np.float64),
        np.asfortranarray(image),
        image.astype(">f4"),
        image.tolist(),
        unaligned.reshape(image.shape),
    ):
        np.testing.assert_array_equal(session.run({"image": same})["logits"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {}, "input 'image' is missing: float32 .1, 3, 16, 16."),
        (lambda x: {"image": x, "mask": x}, "no input 'mask'; the plan has image"),
        (lambda x: {"image": x[:, :2]}, "input 'image' has shape .1, 2, 16, 16."),
        (lambda x: {"image": x[0]}, "input 'image' has shape .3, 16, 16."),
        (lambda x: {"image": x[:0]}, "input 'image' has shape .0, 3, 16, 16."),
        (lambda x: {"image": x.astype(np.complex64)}, "input 'image' is complex64"),
        (lambda x: {"image": "cat"}, "input 'image' is <U3"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, message, session, images):
    with pytest.raises(EdgekitError, match=message):
        session.run(change(images[:1]))


def test_threads_of_python_may_share_a_session(session, images):
    expected = [session.run({"image": images[i : i + 1]})["logits"] for i in range(4)]
    wrong = []

    def work(i):
        for _ in range(50):
            if not np.array_equal(session.run({"image": images[i : i + 1]})["logits"], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_out_of_range_are_refused(plan):
    with pytest.raises(EdgekitError, match="1 to 1024 threads, not 0"):
        _native.Session(plan, 0)


@pytest.mark.parametrize("isa", FOREIGN)
def test_a_plan_for_another_cpu_can_be_read_and_not_run(isa, write):
    plan = _native.Plan.open(write(isa))
    assert plan.isa == isa
    with pytest.raises(PlanError, match=f"the plan needs {isa}"):
        _native.Session(plan)


def test_files_that_are_no_plans_are_refused(tmp_path):
    with pytest.raises(PlanError, match=r"gone\.plan: cannot open the plan: No such file"):
        _native.Plan.open(tmp_path / "gone.plan")
    with pytest.raises(PlanError, match="not a file"):
        _native.Plan.open(tmp_path)
    for content in (b"", b"x" * 63, b"PK" * 100):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(PlanError, match="not a plan"):
            _native.Plan.open(tmp_path / "other")


def test_another_format_version_is_named(write):
    data = write("generic").read_bytes()
    with pytest.raises(PlanError, match="format 3, this edgekit reads format 2"):
        _native.Plan.from_bytes(_forge(data, [(8, 3)]))


def test_every_truncation_is_refused(write):
    data = write("generic").read_bytes()
    for size in itertools.chain(range(200), range(200, len(data), 97), [len(data) - 1]):
        with pytest.raises(PlanError):
            _native.Plan.from_bytes(data[:size])
    with pytest.raises(PlanError, match="appended"):
        _native.Plan.from_bytes(data + b"x")


def test_a_flipped_bit_in_any_byte_is_refused(write):
    data = bytearray(write("generic").read_bytes())
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        with pytest.raises(PlanError):
            _native.Plan.from_bytes(bytes(data))
        data[position] ^= 1 << position % 8


def test_a_forged_graph_is_refused_or_runs(write):
    data = write("generic").read_bytes()
    graph_end = 64 + int.from_bytes(data[32:40], "little")
    choose = random.Random(SEED)
    ran = 0
    for _ in range(3000):
        count = choose.randint(1, 3)
        edits = [(choose.randrange(64, graph_end), choose.randrange(256)) for _ in range(count)]
        try:
            plan = _native.Plan.from_bytes(_forge(data, edits))
            session = _native.Session(plan)
        except PlanError:
            continue
        ran += 1
        if max(np.prod(tensor.shape) for tensor in plan.inputs + plan.outputs) < 1 << 24:
            session.run({t.name: np.zeros(t.shape, t.dtype) for t in plan.inputs})
    assert ran > 0


def test_the_runner_agrees_with_the_module(write, images, tmp_path):
    runner = find_installed("bin/edgekit-run")
    assert runner is not None
    plan = write("generic")
    np.save(tmp_path / "image.npy", images[:1])
    words = [
        runner,
        plan,
        "--input",
        f"image={tmp_path / 'image.npy'}",
        "--output-dir",
        tmp_path / "out",
    ]
    words += ["--threads", "2", "--repeat", "3", "--profile", "--digests", "--json"]
    answer = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    session = _native.Session(_native.Plan.open(plan))
    inputs = {"image": images[:1]}
    (output,) = answer["outputs"]
    assert output["name"] == "logits"
    written = np.load(tmp_path / "out" / output["file"])
    np.testing.assert_array_equal(written, session.run(inputs)["logits"], strict=True)
    digests = [(d["op"], d["tensor"], d["sha256"]) for d in answer["digests"]]
    assert digests == session.digests(inputs)
    assert len(answer["profile"]) == len(digests)
    assert (answer["threads"], answer["runs"]) == (2, 3)
    assert 0 < answer["min_ms"] <= answer["median_ms"] <= answer["p90_ms"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "which plan"),
        (["PLAN", "--threads", "0"], 2, "--threads takes a number from 1"),
        (["PLAN", "--faster"], 2, "no option --faster"),
        (["PLAN", "--cores", "0,"], 2, "--cores takes numbers of cores"),
        (["PLAN", "--cores", "4096"], 2, "--cores takes numbers of cores"),
        (["/nonexistent.plan"], 3, "cannot open the plan"),
        (["BROKEN"], 3, "checksum"),
        (["PLAN", "--input", "mask=IMAGE"], 4, "'image' is missing"),
        (["PLAN", "--input", "image=PLAN"], 4, "not a .npy file"),
        (["PLAN", "--input", "image=FORTRAN"], 4, "Fortran order"),
        (["PLAN", "--input", "image=SMALL"], 4, "has shape"),
        (["PLAN", "--input", "image=TWICE"], 4, "a key twice"),
        (["PLAN", "--input", "image=a", "--input", "image=b"], 2, "--input gives 'image' twice"),
        (["PLAN", "--input", "image=DOUBLE"], 4, "its elements are"),
        (["PLAN", "--output-dir", "/nonexistent/out"], 1, "cannot be written"),
    ],
)
def test_the_runner_fails_with_a_status_of_its_own(words, status, message, write, images, tmp_path):
    plan = write("generic")
    data = bytearray(plan.read_bytes())
    data[-1] ^= 1
    (tmp_path / "broken.plan").write_bytes(data)
    files = {"PLAN": str(plan), "BROKEN": str(tmp_path / "broken.plan")}
    for name, array in {
        "IMAGE": images[:1],
        "FORTRAN": np.asfortranarray(images[:1]),
        "SMALL": images[:1, :2],
        "DOUBLE": images[:1].astype(np.float64),
    }.items():
        files[name] = str(tmp_path / f"{name}.npy")
        np.save(files[name], array)
    files["TWICE"] = str(tmp_path / "TWICE.npy")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,), }\n"
    (tmp_path / "TWICE.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4)
    )
    for name, path in files.items():
        words = [
            word.replace(name, path) if word.split("=")[-1] == name else word for word in words
        ]
    done = subprocess.run(
        [find_installed("bin/edgekit-run"), *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == status
    assert message in done.stderr


def test_crc32c():
    assert _native.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    "kernel",
    [
        k.name
        for k in (*_native.gemm_kernels(), *_native.sparse_gemm_kernels())
        if k.built and k.supported
    ],
)
def test_a_kernel_runs_on_codes(kernel):
    generator = np.random.default_rng(SEED)
    a = generator.integers(-128, 128, (37, 19), dtype=np.int8)
    # Small, so that every kernel is exact.
    low, high = (-8, 8) if "_s4c_" in kernel else (-60, 61)
    w = generator.integers(low, high, (45, 19), dtype=np.int8)
    bias = generator.integers(-1000, 1000, 45, dtype=np.int32)
    scale = generator.uniform(0.001, 0.01, 45).astype(np.float32)
    codes = _native.gemm(kernel, a, w, bias, scale, 3, -100, 127, threads=3)
    sums = a.astype(np.int32) @ w.T.astype(np.int32) + bias
    expected = np.clip(3 + np.rint(sums.astype(np.float32) * scale), -100, 127).astype(np.int8)
    np.testing.assert_array_equal(codes, expected, strict=True)
    with pytest.raises(EdgekitError, match="a is not contiguous in C order"):
        _native.gemm(kernel, np.asfortranarray(a), w, bias, scale, 3, -100, 127)
    with pytest.raises(EdgekitError, match="scale is float64, not float32"):
        _native.gemm(kernel, a, w, bias, scale.astype(np.float64), 3, -100, 127)

    if low == -8:
        with pytest.raises(EdgekitError, match="4 bits must lie in"):
            _native.gemm(kernel, a, w + np.int8(1), bias, scale, 3, -100, 127)

    prepared = _native.Gemm(kernel, 37, w, bias, scale, 3, -100, 127)
    shift = 128 if "_u8_" in kernel else 0
    prepared.a[...] = (a.astype(np.int16) + shift).astype(np.uint8)
    prepared.run()
    stored = (expected.astype(np.int16) + shift).astype(np.uint8)
    np.testing.assert_array_equal(prepared.y, stored, strict=True)


@pytest.mark.parametrize(
    "kernel", [k.name for k in _native.depthwise_kernels() if k.built and k.supported]
)
def test_a_prepared_depthwise_layer_runs(kernel):
    generator = np.random.default_rng(SEED)
    x = generator.integers(-128, 128, (9, 8, 70), dtype=np.int8)
    w = generator.integers(-127, 128, (70, 3, 3), dtype=np.int8)
    bias = generator.integers(-1000, 1000, 70, dtype=np.int32)
    scale = generator.uniform(0.001, 0.01, 70).astype(np.float32)
    layer = _native.Depthwise(kernel, 9, 8, w, bias, scale, 2, 1, -7, 3, -100, 127)
    shift = 128 if "_u8_" in kernel else 0
    layer.x[...] = (x.astype(np.int16) + shift).astype(np.uint8)
    layer.run()
    padded = np.pad(x.astype(np.int32) + 7, ((1, 1), (1, 1), (0, 0)))
    sums = bias + sum(
        padded[r : r + 9 : 2, s : s + 8 : 2] * w[:, r, s].astype(np.int32)
        for r in range(3)
        for s in range(3)
    )
    codes = np.clip(3 + np.rint(sums.astype(np.float32) * scale), -100, 127)
    stored = (codes.astype(np.int16) + shift).astype(np.uint8)
    np.testing.assert_array_equal(layer.y, stored, strict=True)
    with pytest.raises(EdgekitError, match="w \\[c, kernel_h, kernel_w\\]"):
        _native.Depthwise(kernel, 9, 8, w, bias[:-1], scale, 2, 1, -7, 3, -100, 127)


def test_a_network_of_scalars_runs(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 17]> net (float x) => (float y) { y = Relu (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    model = read_onnx(tmp_path / "net.onnx")
    calibration = calibrate(model, [{"x": np.array(1.0, np.float32)}])
    program = lower(quantize(model, calibration), 1)
    write_plan(program, tmp_path / "net.plan", isa="generic", target="host", source_digest="0" * 64)
    session = load(tmp_path / "net.plan")
    assert session.inputs[0].shape == ()
    x = np.array(0.5, np.float32)
    np.testing.assert_array_equal(session.run(x)["y"], run_program(program, {"x": x})["y"])
    with pytest.raises(EdgekitError, match="the inputs are x, not 1"):
        session.run({1: x})
    with pytest.raises(EdgekitError, match="not an array"):
        session.run({"x": [[1.0, 2.0], [3.0]]})
