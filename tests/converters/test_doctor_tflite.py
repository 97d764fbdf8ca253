"""The doctor's rules for TensorFlow Lite: one broken file for each, sound files, fixes, and hostile bytes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="needs edgekit[tflite]")

import broken_tflite as broken
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.tflite_rules import RULES
from edgekit.converters.doctor.tflite_subject import TfliteSubject, read_tflite_subject
from edgekit.targets.errors import ModelError

HERE = Processor("here", is_x86=True, has_vnni=True)
BY_ID = {rule.id: rule for rule in RULES}
CASES = {
    "custom": ("does-not-load", broken.custom, False),
    "float16 all the way": ("needs-delegate", broken.half_all_the_way, False),
    "open size": ("missing-shapes", broken.open_size, True),
    "float16": ("float16-behind-dequantize", broken.half, True),
    "float16 twice": ("float16-behind-dequantize", partial(broken.half, True), True),
    "transposes": ("layout-transposes", broken.transposed, True),
    "transposes with a sum": ("layout-transposes", partial(broken.transposed, True), True),
    "relu": ("unfused-activation", broken.alone, True),
    "relu6": ("unfused-activation", partial(broken.alone, "RELU6"), True),
    "relu of codes": ("unfused-activation", partial(broken.alone, coded=True), True),
    "uint8": ("unsigned-weights", broken.unsigned, False),
    "depthwise": ("per-tensor-depthwise", broken.depthwise, False),
    "detector": ("shared-concat-scale", broken.detector, False),
    "island": ("float-island", broken.island, False),
}


def make(case):
    model, output = case()
    return model.finish(*(output if isinstance(output, tuple) else (output,)))


def examine(data, path, seed=0):
    path.write_bytes(data)
    subject = read_tflite_subject(path, HERE)
    random = np.random.default_rng(seed)
    ((name, index),) = subject.graph.file.inputs
    tensor = subject.graph.tensor(index)
    for _ in range(3):
        if tensor.type.startswith("FLOAT"):
            array = random.uniform(-2, 2, tensor.shape).astype(tensor.type.lower())
        else:
            info = np.iinfo(tensor.type.lower())
            array = random.integers(info.min, info.max + 1, tensor.shape).astype(info.dtype)
        subject.samples = [*subject.samples, {name: array}]
    return subject


def run(data, array, *, plainly=True):
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plainly else OpResolverType.AUTO
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(info["index"]) for info in interpreter.get_output_details()]


def test_every_rule_has_a_broken_file():
    assert {rule for rule, *_ in CASES.values()} == set(BY_ID)


@pytest.mark.parametrize("case", CASES)
def test_a_broken_file_has_its_fault_and_no_other(case, tmp_path):
    rule, maker, fixable = CASES[case]
    subject = examine(make(maker), tmp_path / "m.tflite")
    findings = [finding for item in RULES for finding in item.check(subject)]
    assert {finding.rule for finding in findings} == {rule}
    names = {tensor.name for tensor in subject.graph.file.tensors}
    for finding in findings:
        assert set(finding.nodes) <= names
        assert finding.nodes
        assert finding.message
        assert finding.remedy
        assert finding.fixable == fixable


@pytest.mark.parametrize("maker", [broken.sound, broken.quantized])
def test_a_sound_file_has_no_finding(maker, tmp_path):
    subject = examine(make(maker), tmp_path / "m.tflite")
    assert [finding for rule in RULES for finding in rule.check(subject)] == []


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2]])
def test_a_fix_keeps_every_byte_and_leaves_nothing(case, tmp_path):
    rule, maker, _ = CASES[case]
    data = make(maker)
    subject = examine(data, tmp_path / "m.tflite")
    fixed = subject.copy()
    findings = BY_ID[rule].check(subject)
    assert BY_ID[rule].fix(fixed, findings) == len(findings)
    fixed.settle()
    assert subject.data == data
    assert not BY_ID[rule].check(fixed)
    for sample in subject.samples:
        (array,) = sample.values()
        for plainly in (True, False):
            for a, b in zip(
                run(data, array, plainly=plainly),
                run(fixed.data, array, plainly=plainly),
                strict=True,
            ):
                if plainly:
                    assert a.tobytes() == b.tobytes()
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_a_fix_removes_is_gone(tmp_path):
    for case, gone in (
        ("float16", "DEQUANTIZE"),
        ("transposes with a sum", "TRANSPOSE"),
        ("relu", "RELU"),
    ):
        rule, maker, _ = CASES[case]
        subject = examine(make(maker), tmp_path / "m.tflite")
        assert gone in [op.code for op in subject.graph.file.operators]
        BY_ID[rule].fix(subject, BY_ID[rule].check(subject))
        assert gone not in [op.code for op in subject.graph.file.operators]


def test_an_activation_on_another_scale_stays(tmp_path):
    model = broken.TfliteModel()
    y = model.conv(model.input((1, 6, 6, 4), "int8", broken.INPUT), 4, 8, grid=(0.03, 3))
    y = model.op("RELU", [y], (1, 6, 6, 8), "int8", (0.02, -128))
    subject = examine(model.finish(y), tmp_path / "m.tflite")
    assert not BY_ID["unfused-activation"].check(subject)


def test_samples_say_what_parts_span(tmp_path):
    """A part that was rounded to the common scale when it was made: only runs on real samples can tell."""
    model = broken.TfliteModel()
    x = model.input((1, 6, 6, 4), "int8", broken.INPUT)
    large = model.constant(np.full((4, 1, 1, 4), 127, np.int8), (np.full(4, 1.0), 0, 0))
    boxes = model.conv(x, 4, 4, grid=(10.0, 0), weight=large)
    scores = model.conv(x, 4, 4, grid=(10.0, 0))
    options = broken.schema.ConcatenationOptionsT()
    options.axis = 3
    joined = model.op("CONCATENATION", [boxes, scores], (1, 6, 6, 8), "int8", (10.0, 0), options)
    subject = examine(model.finish(joined), tmp_path / "m.tflite")
    rule = BY_ID["shared-concat-scale"]
    assert not rule.check(subject)
    subject.samples_are_real = True
    (finding,) = rule.check(subject)
    assert "calibration samples" in finding.message
    assert subject.graph.tensor(scores).name in finding.message
    low, high = subject.seen[scores]
    assert high - low < 16
    cost = rule.cost(subject, finding, None)
    assert cost.db[0] < cost.db[1]


def test_missing_package_is_told(monkeypatch, tmp_path):
    import sys

    path = tmp_path / "m.tflite"
    path.write_bytes(make(broken.sound))
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ModelError, match=r"edgekit\[tflite\]"):
        read_tflite_subject(path, HERE)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"hello" * 20])
def test_what_is_no_such_file_is_one_clear_error(data, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.tflite"):
        read_tflite_subject(path, HERE)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.sampled_from(sorted(CASES)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0, 1),
)
def test_hostile_bytes_are_examined_or_one_clear_error(tmp_path, case, changes, cut):
    """Every read is guarded: flipped bytes and cut files end in an error of ours or in findings."""
    _, maker, _ = CASES[case]
    data = bytearray(make(maker))
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    if cut < 0.3:
        data = data[: int(len(data) * (0.5 + cut))]
    subject = TfliteSubject(tmp_path / "m.tflite", bytes(data), HERE)
    try:
        findings = [
            item for each in RULES if each.id != "does-not-load" for item in each.check(subject)
        ]
        for finding in findings:
            if finding.fixable:
                BY_ID[finding.rule].fix(subject.copy(), [finding])
    except ModelError as error:
        told = str(error)
    else:
        told = str(tmp_path)
    assert str(tmp_path) in told
