"""Kernels chosen by measuring: the same bytes, a bad rule is left, noise is not followed."""

import random

import numpy as np
import pytest

import edgekit
from edgekit import _native
from edgekit.bundles.verify import verify
from edgekit.choosing import tuning
from edgekit.converters.calibrate import calibrate
from edgekit.converters.layouts import choose_layout, list_layouts
from edgekit.converters.lower import lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Conv, DepthwiseConv, DType, Program, Tensor, Window
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import EdgekitError

HERE = [info.name for info in _native.isas() if info.built and info.supported]
SEED = 20240501


@pytest.fixture(scope="module")
def program(cnn, images):
    model = read_onnx(cnn)
    simplify(model)
    calibration = calibrate(model, [{"image": image[None]} for image in images[:4]])
    return lower(quantize(model, calibration), 1)


def make_layer(channels, kernel, *, depthwise=False, size=24):
    """A program of one convolution with random weights, from codes to codes."""
    rng = np.random.default_rng(SEED)
    pad = kernel // 2
    shape = (1, size, size, channels)
    weights = (channels, kernel, kernel) if depthwise else (channels, kernel, kernel, channels)
    make = DepthwiseConv if depthwise else Conv
    op = make(
        name="layer",
        input="codes",
        output="y",
        weights=rng.integers(-127, 128, weights, np.int8),
        bias=rng.integers(-1000, 1000, channels).astype(np.int32),
        multiplier=np.full(channels, 1e-4, np.float32),
        window=Window(kernel, kernel, pad_top=pad, pad_left=pad, pad_bottom=pad, pad_right=pad),
    )
    tensors = {
        name: Tensor(name, shape, DType.CODE, scale=np.float32(0.1), zero_point=3)
        for name in ("codes", "y")
    }
    return Program(tensors, (), (), (op,)), op


@pytest.mark.parametrize("isa", HERE)
def test_every_layout_gives_the_same_bytes(isa, program, images, tmp_path):
    layers = [op for op in program.ops if op.kind in {"Conv", "DepthwiseConv", "FullyConnected"}]
    lists = {op.output: list_layouts(program, op, isa) for op in layers}
    assert all(lists[op.output][0] == choose_layout(program, op, isa) for op in layers)
    digests = []
    for place in range(max(map(len, lists.values()))):
        layouts = {name: options[min(place, len(options) - 1)] for name, options in lists.items()}
        path = tmp_path / f"{place}.plan"
        write_plan(program, path, isa=isa, target="host", source_digest="0" * 64, layouts=layouts)
        session = _native.Session(_native.Plan.open(path))
        used = {op.name: op.kernel for op in session.plan.ops}
        assert all(used[op.name] == layouts[op.output].kernel for op in layers)
        digests.append(session.digests({"image": images[:1]}))
    assert len(digests) > 1
    assert all(digest == digests[0] for digest in digests)


def test_a_layer_of_several_taps_can_be_gathered_or_not():
    program, op = make_layer(16, 3)
    layouts = list_layouts(program, op, HERE[-1])
    assert {layout.patches for layout in layouts} == {False, True}
    assert len(set(layouts)) == len(layouts)


def test_kernels_of_other_instruction_sets_are_no_candidates():
    for isa in HERE:
        for program, op in (make_layer(16, 1), make_layer(16, 3, depthwise=True)):
            parents = {info.name: info.parent for info in _native.isas()}
            kin = {isa}
            while parents[isa] not in kin:
                isa = parents[isa]
                kin.add(isa)
            kernels = {
                kernel.name: kernel.isa
                for kernel in (*_native.gemm_kernels(), *_native.depthwise_kernels())
            }
            assert {kernels[layout.kernel] for layout in list_layouts(program, op, isa)} <= kin


def test_a_rule_that_is_clearly_slower_is_left(program, monkeypatch, tmp_path):
    isa = _native.best_isa()
    kernels = [k for k in _native.gemm_kernels() if k.bits == 8]
    own = [k for k in kernels if k.isa == isa]
    weak = [k for k in kernels if k.isa == "generic" and k.storage == own[0].storage]
    if isa == "generic":
        pytest.skip("this CPU has no kernels beside plain C++")

    def slowest_first(program, op, isa):
        if isinstance(op, DepthwiseConv):
            return (choose_layout(program, op, isa),)
        return (tuning.Layout(weak[0].name), tuning.Layout(own[-1].name))

    monkeypatch.setattr(tuning, "list_layouts", slowest_first)
    chosen = tuning.measure_layouts(
        program, isa=isa, threads=1, cache_bytes=None, folder=tmp_path, seconds=0.5
    )
    assert chosen.choices
    for choice in chosen.choices:
        assert choice.chosen.kernel == own[-1].name
        assert choice.chosen_us * 1.05 < choice.default_us
    assert chosen.milliseconds["tuned"] < chosen.milliseconds["by rule"]
    text = "\n".join(chosen.describe())
    assert f"{len(chosen.choices)} layers leave the rule" in text
    assert own[-1].name in text


def test_noise_is_not_followed():
    generator = random.Random(SEED)
    followed = 0
    for _ in range(200):
        times = [[generator.lognormvariate(0, 0.3) for _ in range(15)] for _ in range(4)]
        followed += tuning.choose_place(times) != 0
    # Twelve of fifteen rounds, and 5 %: three candidates of the same speed get there seldom.
    assert followed <= 10
    steady = [[1.0] * 15, [0.9] * 15, [0.99] * 15]
    assert tuning.choose_place(steady) == 1
    assert tuning.choose_place([[1.0] * 15, [0.96] * 15]) == 0
    often_slower = [[1.0] * 15, [0.5] * 9 + [2.0] * 6]
    assert tuning.choose_place(often_slower) == 0
    assert tuning.choose_place([[1.0] * 15]) == 0


@pytest.mark.slow
def test_a_tuned_deployment_answers_the_same(cnn, images, tmp_path):
    tuned = edgekit.deploy(
        cnn, calibration=images, output=tmp_path / "tuned", tune=True, precision="int8"
    )
    assert any(note.startswith("kernels were measured") for note in tuned.report.notes)
    session = tuned.load()
    assert session.plan.metadata == {"kernels": "measured"}
    inputs = {"image": images[:1]}
    plain = edgekit.deploy(cnn, calibration=images, output=tmp_path / "plain", precision="int8")
    assert session.native.digests(inputs) == plain.load().native.digests(inputs)
    assert verify(tuned.path).ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "x86-64-v3"}, "needs target='host'"),
        ({"format": "onnx"}, "needs target='host' and format='native'"),
        ({"tune": "yes"}, "tune must be True or False"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, cnn, images, tmp_path):
    with pytest.raises(EdgekitError, match=message):
        edgekit.deploy(
            cnn, calibration=images, output=tmp_path / "out", **{"tune": True, **arguments}
        )
