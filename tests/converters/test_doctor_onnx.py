"""The doctor's rules for ONNX: one broken model for each, sound models, and fixes that keep their promises."""

from functools import partial
from pathlib import Path

import broken_models as broken
import numpy as np
import onnx
import onnxruntime
import pytest
from broken_models import QdqModel

from edgekit.converters.doctor.compare_answers import find_breach, signal_to_noise
from edgekit.converters.doctor.onnx_rules import RULES
from edgekit.converters.doctor.onnx_rules.saturation import may_saturate
from edgekit.converters.doctor.onnx_subject import read_subject
from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.rule import CLOSER, EXACT
from edgekit.converters.fusion import report_fusion
from edgekit.targets.errors import ModelError

VNNI = Processor("x86 with VNNI", is_x86=True, has_vnni=True)
AVX2 = Processor("x86 without VNNI", is_x86=True, has_vnni=False)
ARM = Processor("Arm", is_x86=False, has_vnni=False)
BY_ID = {rule.id: rule for rule in RULES}

# Rule, model, processor, whether it can be fixed.
CASES = {
    "relu": ("clamp-before-quantize", broken.clamped, VNNI, True),
    "clip": ("clamp-before-quantize", partial(broken.clamped, "Clip"), VNNI, True),
    "mean": ("mean-over-picture", broken.mean, VNNI, True),
    "mean without axes": ("mean-over-picture", partial(broken.mean, 0), VNNI, True),
    "island": ("float-island", broken.island, VNNI, True),
    "transposes": ("layout-transposes", broken.transposed, VNNI, True),
    "int8 on x86": ("int8-activations", broken.signed, VNNI, True),
    "unsigned weights": ("unsigned-weights", broken.unsigned, VNNI, True),
    "depthwise": ("per-tensor-depthwise", broken.depthwise, VNNI, False),
    "depthwise, float kept": (
        "per-tensor-depthwise",
        partial(broken.depthwise, keep_float=True),
        VNNI,
        True,
    ),
    "detector": ("shared-concat-scale", broken.detector, VNNI, True),
    "detector, used again": ("shared-concat-scale", partial(broken.detector, False), VNNI, False),
    "saturation": ("saturation", broken.sound, AVX2, True),
    "ConvInteger": ("conv-integer", broken.conv_integer, VNNI, True),
    "weights as inputs": ("weights-as-inputs", broken.overridable, VNNI, True),
    "no shape": ("missing-shapes", broken.shapeless, VNNI, True),
    "calibrated on larger inputs": ("range-mismatch", broken.miscalibrated, VNNI, True),
    "calibrated on smaller inputs": ("range-mismatch", broken.clipped, VNNI, True),
    "pruned": ("zeros-computed", broken.pruned, VNNI, False),
    "slow": ("slower-than-float", broken.sound, VNNI, False),
    "no kernel": ("does-not-load", broken.unloadable, VNNI, False),
}


def examine(path, processor=VNNI, samples=3, seed=1):
    subject = read_subject(Path(path), processor)
    random = np.random.default_rng(seed)
    subject.samples = [
        {
            value.name: random.uniform(-2, 2, [int(size) for size in value.shape]).astype(
                np.float32
            )
            for value in subject.graph.inputs
            if not value.is_initializer()
        }
        for _ in range(samples)
    ]
    return subject


def prepare(subject, rule):
    """Adds what a rule goes by beside the file."""
    if rule == "range-mismatch":
        subject.samples_are_real = True
    if rule == "slower-than-float":
        subject.times = (1.5, 1.0)
    return subject


def ids(subject):
    return {finding.rule for rule in RULES for finding in rule.check(subject)}


@pytest.fixture
def save(tmp_path):
    def write(make):
        model, output = make()
        return model.save(tmp_path / "model.onnx", output)

    return write


def run(path_or_proto, sample, *, optimized=False):
    """Runs a file as it is written, by a session that the doctor has no part in."""
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path_or_proto), options)
    return session.run(None, sample)


def test_every_rule_has_a_broken_model():
    assert {rule for rule, *_ in CASES.values()} == set(BY_ID)


@pytest.mark.parametrize("case", CASES)
def test_a_broken_model_has_its_fault(case, save):
    rule, make, processor, fixable = CASES[case]
    findings = BY_ID[rule].check(prepare(examine(save(make), processor), rule))
    assert findings
    for finding in findings:
        assert finding.rule == rule
        assert finding.message
        assert finding.remedy
        assert finding.fixable == fixable
    names = {node.name for node in onnx.load(save(make)).graph.node}
    values = {
        name for node in onnx.load(save(make)).graph.node for name in (*node.input, *node.output)
    }
    assert set(findings[0].nodes) <= names | values
    assert findings[0].nodes or rule == "does-not-load"


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_a_fix_keeps_its_promise_and_leaves_nothing_of_the_rule(case, save, tmp_path):
    rule, make, processor, _ = CASES[case]
    path = save(make)
    subject = prepare(examine(path, processor), rule)
    fixed = subject.copy()
    findings = BY_ID[rule].check(subject)
    assert BY_ID[rule].fix(fixed, findings) == len(findings)
    fixed.settle()
    fixed.save(tmp_path / "fixed.onnx")
    onnx.checker.check_model(tmp_path / "fixed.onnx", full_check=rule != "missing-shapes")
    again = prepare(examine(tmp_path / "fixed.onnx", processor), rule)
    assert not [finding for finding in BY_ID[rule].check(again) if finding.fixable]
    promise = BY_ID[rule].promise
    breach = find_breach(promise, subject.answers, again.answers, subject.reference_answers)
    assert breach == ""
    for sample in subject.samples:
        before, after = run(path, sample), run(tmp_path / "fixed.onnx", sample)
        if promise is EXACT:
            assert before[0].tobytes() == after[0].tobytes()
        elif rule != "range-mismatch":
            atol = 0.2 + 0.05 * np.ptp(before[0])
            np.testing.assert_allclose(before[0], after[0], rtol=0.1, atol=atol)


def test_the_file_that_is_examined_stays(save):
    for case in CASES.values():
        rule, make, processor, fixable = case
        path = save(make)
        data = path.read_bytes()
        subject = examine(path, processor)
        before = [str(node) for node in subject.graph]
        findings = BY_ID[rule].check(subject)
        if fixable:
            BY_ID[rule].fix(subject.copy(), findings)
        assert path.read_bytes() == data
        assert [str(node) for node in subject.graph] == before


@pytest.mark.parametrize("processor", [VNNI, ARM], ids=lambda item: item.name)
def test_a_sound_model_has_no_finding(processor, save):
    assert ids(examine(save(broken.sound), processor)) == set()
    assert ids(examine(save(broken.float_network), processor)) == set()


def test_int8_activations_are_sound_on_arm(save):
    assert ids(examine(save(broken.signed), ARM)) == set()


def test_weights_of_7_bits_are_sound_without_vnni(save):
    def make():
        model = QdqModel()
        x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
        return model, model.quantized(model.conv(x, 8, 8, bits=7), -3, 3)

    assert ids(examine(save(make), AVX2)) == set()


def test_uint8_weights_are_sound_without_vnni(save):
    assert ids(examine(save(broken.unsigned), AVX2)) == set()


@pytest.mark.parametrize(
    ("weights", "unsafe"),
    [
        ([[64, 64, -64, -64]], False),
        ([[65, 64, 0, 0]], True),
        ([[64, 0, 0, 64]], False),
        ([[127, 0, 1, 0]], False),
        ([[127, -1, 0, 2]], True),
        ([[-64, 0, 0, -65]], True),
        ([[-128, 0, 0, 0]], False),
        ([[-128, 0, 0, -1]], True),
        ([[127]], False),
        ([[0, 0]], False),
    ],
)
def test_saturation_is_proved_from_the_weights(weights, unsafe):
    """Against every pair, sign and activation at the ends of uint8."""
    channel = np.array(weights)
    assert may_saturate(channel).tolist() == [unsafe]
    sums = [
        255 * (max(a, 0) + max(b, 0))
        for i, a in enumerate(weights[0])
        for j, b in enumerate(weights[0])
        if i != j
    ] + [255 * (min(a, 0) + min(b, 0)) for i, a in enumerate(weights[0]) for b in weights[0][:i]]
    assert any(not -32768 <= total <= 32767 for total in sums) == unsafe


def test_what_was_float_is_fused_after_the_fix(save, tmp_path):
    """Costs that the rules speak of are real: ONNX Runtime fuses what it did not."""
    for case in ("relu", "mean", "weights as inputs"):
        rule, make, processor, _ = CASES[case]
        path = save(make)
        assert report_fusion(path).left_float, case
        subject = examine(path, processor)
        BY_ID[rule].fix(subject, BY_ID[rule].check(subject))
        subject.settle()
        subject.save(tmp_path / "fixed.onnx")
        assert not report_fusion(tmp_path / "fixed.onnx").left_float, case


def test_a_grid_that_fits_saves_answers(save):
    """Both ways of missing the range: the fix brings the answers tens of dB closer."""
    for maker in (broken.miscalibrated, broken.clipped):
        subject = prepare(examine(save(maker)), "range-mismatch")
        fixed = subject.copy()
        rule = BY_ID["range-mismatch"]
        rule.fix(fixed, rule.check(subject))
        fixed.settle()
        before = signal_to_noise(subject.reference_answers, subject.answers)
        after = signal_to_noise(subject.reference_answers, fixed.answers)
        assert after > 35 > before + 10


def test_random_inputs_say_nothing_of_ranges(save):
    assert not BY_ID["range-mismatch"].check(examine(save(broken.miscalibrated)))


@pytest.mark.parametrize(
    ("times", "found"), [(None, 0), ((1, 1), 0), ((1.14, 1), 0), ((0.2, 0.11), 0), ((1.2, 1), 1)]
)
def test_slower_than_float_goes_by_share_and_difference(times, found, save):
    subject = examine(save(broken.sound))
    subject.times = times
    assert len(BY_ID["slower-than-float"].check(subject)) == found


def test_the_float_network_is_float(save, tmp_path):
    subject = examine(save(broken.sound))
    assert subject.save_float(tmp_path / "float.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "float.onnx").graph.node}
    assert kinds == {"Conv", "Add", "GlobalAveragePool", "Clip", "Identity"}
    sample = subject.samples[0]
    wanted = subject.reference_answers[0]
    np.testing.assert_allclose(
        run(tmp_path / "float.onnx", sample)[0], next(iter(wanted.values())), atol=1e-6
    )
    assert not examine(save(broken.float_network)).save_float(tmp_path / "none.onnx")


def test_an_island_costs_what_the_profiler_says(save):
    """Two islands of one kind are one finding, with the time of their nodes and conversions of the whole run."""

    def make():
        model = QdqModel()
        x = model.quantized(model.input([1, 8, 32, 32]), -2, 2)
        for _ in range(2):
            x = model.quantized(
                model.node("Tanh", [model.quantized(model.conv(x, 8, 8), -3, 3)]), -1, 1
            )
        return model, model.quantized(model.conv(x, 8, 8), -3, 3)

    subject = examine(save(make))
    rule = BY_ID["float-island"]
    (finding,) = rule.check(subject)
    assert len(finding.nodes) == 2
    assert finding.message.startswith("2 times Tanh")
    spent, total = rule.cost(subject, finding, None).spent_ms
    assert 0 < spent < total


def test_a_clamp_that_saturation_covers_is_no_fault(save):
    assert ids(examine(save(partial(broken.clamped, "Relu", 0.0)))) == set()


def test_a_clamp_that_no_grid_can_stand_for_is_left(save):
    def make():
        model = QdqModel()
        x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
        bounds = [model.constant("a", np.float32(-1)), model.constant("b", np.float32(1))]
        y = model.node("Clip", [model.conv(x, 8, 8), *bounds], "hard")
        return model, model.quantized(y, -3, 3)

    findings = BY_ID["clamp-before-quantize"].check(examine(save(make)))
    assert [finding.fixable for finding in findings] == [False]


def test_a_bias_follows_the_scale_of_its_input(save, tmp_path):
    """Each int32 bias keeps its value, and its scale stays input scale * weight scale."""
    subject = examine(save(broken.clamped))
    rule = BY_ID["clamp-before-quantize"]
    rule.fix(subject, rule.check(subject))
    subject.save(tmp_path / "fixed.onnx")
    values = []
    for path in (save(broken.clamped), tmp_path / "fixed.onnx"):
        model = onnx.load(path)
        tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        makers = {node.output[0]: node for node in model.graph.node}
        conv = [node for node in model.graph.node if node.op_type == "Conv"][1]
        source, weight, bias = (makers[name] for name in conv.input)
        expected = tensors[source.input[1]] * tensors[weight.input[1]]
        np.testing.assert_allclose(tensors[bias.input[1]], expected, rtol=1e-6)
        values.append(tensors[bias.input[0]] * tensors[bias.input[1]])
    np.testing.assert_allclose(*values, atol=float(expected.max()))


def test_int8_outputs_stay_int8(tmp_path):
    """Codes that leave the file keep their type, with all that hangs together with them."""
    model, _ = broken.signed()
    codes = next(
        node.output[0] for node in reversed(model.nodes) if node.op_type == "QuantizeLinear"
    )
    model.save(tmp_path / "codes.onnx", codes, dtype="int8")
    subject = examine(tmp_path / "codes.onnx")
    rule = BY_ID["int8-activations"]
    findings = rule.check(subject)
    assert [finding.fixable for finding in findings] == [True, False]
    fixed = subject.copy()
    rule.fix(fixed, findings)
    fixed.settle()
    assert find_breach(EXACT, subject.answers, fixed.answers, []) == ""
    assert fixed.answers[0][codes].dtype == np.int8


def test_qlinear_operators_are_understood(tmp_path):
    """Files in ONNX Runtime's operator-oriented form: the same faults, the same fixes."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    path = tmp_path / "float.onnx"
    model, output = broken.float_network()
    model.save(path, output)

    class Reader:
        def __init__(self):
            self.left = [
                {"x": np.random.default_rng(i).normal(0, 1, (1, 8, 8, 8))} for i in range(4)
            ]

        def get_next(self):
            return {"x": self.left.pop()["x"].astype(np.float32)} if self.left else None

    quantize_static(
        str(path),
        str(tmp_path / "q.onnx"),
        Reader(),
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    subject = examine(tmp_path / "q.onnx")
    assert "int8-activations" in ids(subject)
    fixed = subject.copy()
    rule = BY_ID["int8-activations"]
    assert rule.fix(fixed, [item for item in rule.check(subject) if item.fixable])
    fixed.settle()
    assert find_breach(EXACT, subject.answers, fixed.answers, []) == ""
    assert ids(fixed) == set()


def test_a_breach_is_seen():
    before = [{"y": np.array([1.0, 2.0], np.float32)}]
    after = [{"y": np.array([1.0, 2.5], np.float32)}]
    assert "other bytes" in find_breach(EXACT, before, after, before)
    assert "fell from inf to" in find_breach(CLOSER, before, after, before)
    assert "float64" in find_breach(EXACT, before, [{"y": np.array([1.0, 2.0])}], before)
    assert "instead of" in find_breach(EXACT, before, [{"z": after[0]["y"]}], before)
    nothing = [{"y": np.array([np.nan, 2.0], np.float32)}]
    assert find_breach(CLOSER, before, nothing, before)
    codes = [{"y": np.array([1], np.int8)}], [{"y": np.array([2], np.int8)}]
    assert "other values" in find_breach(CLOSER, *codes, before)


def test_signal_to_noise():
    wanted = [{"y": np.array([10.0, 0.0], np.float32)}]
    assert signal_to_noise(wanted, wanted) == np.inf
    given = [{"y": np.array([10.0, 1.0], np.float32)}]
    assert signal_to_noise(wanted, given) == pytest.approx(20.0)


def test_the_reference_keeps_saturation_and_rounds_nothing(tmp_path):
    model = QdqModel()
    x = model.quantized(model.input([1, 4]), 0, 1)
    y = model.quantized(model.quantized(x, 0, 2.55), 0, 5.1)
    subject = read_subject(model.save(tmp_path / "m.onnx", y), VNNI)
    subject.samples = [{"x": np.array([[-1, 0.001, 1.2345, 9]], np.float32)}]
    (answer,) = subject.reference_answers
    np.testing.assert_allclose(next(iter(answer.values())), [[0, 0.001, 1.2345, 2.55]], rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"hello", "not an ONNX model"), (b"\x08\x07\x12\x00", "no graph")],
)
def test_damaged_files_have_one_clear_error(data, message, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_subject(tmp_path / "bad.onnx", VNNI)


def test_truncated_files_have_one_clear_error_or_are_examined(save, tmp_path):
    data = save(broken.sound).read_bytes()
    for size in range(0, len(data), 97):
        path = tmp_path / "cut.onnx"
        path.write_bytes(data[:size])
        try:
            subject = read_subject(path, VNNI)
        except ModelError:
            continue
        ids(subject)
