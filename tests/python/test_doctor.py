"""`edgekit doctor`: costs, fixes that keep their promises, files that stay as they are, exit codes."""

import json
import os
import re
from pathlib import Path

import broken_models as broken
import numpy as np
import onnx
import onnxruntime
import pytest
from broken_models import QdqModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import edgekit
from edgekit.cli import app
from edgekit.converters.doctor.onnx_rules import RULES
from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.rule import EXACT
from edgekit.converters.doctor.tflite_rules import RULES as TFLITE_RULES
from edgekit.doctor.bench import time_against_float
from edgekit.doctor.examine import examine
from edgekit.doctor.open_subject import open_subject
from edgekit.doctor.rule_table import insert_tables, make_rule_tables
from edgekit.targets.errors import EdgekitError, ModelError

ROOT = Path(__file__).parents[2]
PROCESSOR = Processor("x86 with VNNI", is_x86=True, has_vnni=True)


def save(make, path):
    model, output = make()
    return model.save(path, output)


def run(path, sample):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options).run(None, sample)[0]


def command(*words):
    result = CliRunner().invoke(app, ["doctor", *map(str, words)])
    return result.exit_code, result.stdout, result


def test_a_sound_file_exits_with_0(tmp_path):
    path = save(broken.sound, tmp_path / "sound.onnx")
    code, out, _ = command(path, "--target", "x86-64-v4", "--seconds", 0)
    assert code == 0
    assert "no fault found" in out
    assert "random inputs" in out


def test_each_file_of_a_folder_is_examined(tmp_path):
    save(broken.clamped, tmp_path / "a.onnx")
    save(broken.sound, tmp_path / "b.onnx")
    (tmp_path / "manifest.json").write_text("{}")
    words = (tmp_path, "--target", "x86-64-v4", "--seconds", 0)
    code, out, _ = command(*words, "--json")
    assert code == 1
    clamped, sound = json.loads(out)
    assert (Path(clamped["file"]).name, Path(sound["file"]).name) == ("a.onnx", "b.onnx")
    assert clamped["findings"]
    assert not sound["findings"]
    code, out, result = command(*words, "--fix", tmp_path / "c.onnx")
    assert (code, out) == (1, "")
    assert "--fix writes one file" in str(result.exception)


def test_a_fixed_file_of_another_kind_is_refused(tmp_path):
    path = save(broken.clamped, tmp_path / "clamped.onnx")
    code, out, result = command(path, "--seconds", 0, "--fix", tmp_path / "fixed.tflite")
    assert (code, out) == (1, "")
    assert "the same kind" in str(result.exception)
    assert not (tmp_path / "fixed.tflite").exists()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("y=1", "no input 'y'"),
        ("x=1,8,8", "4 dimensions, not 3"),
        ("x=1,8,9,8", "dimension 2 of input .x. is 8"),
    ],
)
def test_shapes_that_fit_no_input_are_refused(tmp_path, shape, message):
    path = save(broken.sound, tmp_path / "sound.onnx")
    code, out, result = command(path, "--seconds", 0, "--shape", shape)
    assert (code, out) == (1, "")
    assert re.search(message, str(result.exception))


def test_faults_exit_with_1_and_are_printed(tmp_path):
    path = save(broken.clamped, tmp_path / "clamped.onnx")
    code, out, _ = command(path, "--seconds", 0.01)
    assert code == 1
    for word in ("clamp-before-quantize", "1 fault", " ms", " dB", "measured", "--fix does it"):
        assert word in out


def test_json(tmp_path):
    path = save(broken.clamped, tmp_path / "clamped.onnx")
    fixed = tmp_path / "fixed.onnx"
    code, out, _ = command(path, "--seconds", 0.01, "--json", "--fix", fixed)
    assert code == 0
    facts = json.loads(out)
    (finding,) = facts["findings"]
    assert finding["rule"] == "clamp-before-quantize"
    assert finding["nodes"] == ["clamp"]
    assert finding["fixable"]
    assert finding["source"].startswith("https://")
    assert finding["cost"]["ms"]["with"] > 0
    assert finding["cost"]["db"]["without"] > finding["cost"]["db"]["with"] - 1
    assert facts["fixed"]["applied"] == {"clamp-before-quantize": 1}
    assert facts["fixed"]["left"] == []
    assert command(fixed, "--seconds", 0)[0] == 0


def test_slower_than_float_is_measured(tmp_path, monkeypatch):
    """The finding and its cost come from one measurement, which the fixed file gets anew."""
    measured = iter([(2.0, 1.0), (1.0, 1.0)])
    monkeypatch.setattr("edgekit.doctor.examine.time_against_float", lambda *_: next(measured))
    path = save(broken.sound, tmp_path / "sound.onnx")
    diagnosis = examine(path, fix=tmp_path / "fixed.onnx", seconds=0, target="x86-64-v4")
    (item,) = diagnosis.findings
    assert item.finding.rule == "slower-than-float"
    assert "2.00 times" in item.finding.message
    assert item.cost.ms == (2.0, 1.0)
    assert diagnosis.is_healthy


def test_time_against_float(tmp_path):
    path = save(broken.sound, tmp_path / "sound.onnx")
    subject, _ = open_subject(path, PROCESSOR, None, None, {})
    own, real = time_against_float(subject, 0.01)
    assert own > 0
    assert real > 0
    assert time_against_float(subject, 0) is None
    plain, _ = open_subject(save(broken.float_network, path), PROCESSOR, None, None, {})
    assert time_against_float(plain, 0.01) is None


def test_what_cannot_be_fixed_is_left_and_said(tmp_path):
    path = save(broken.depthwise, tmp_path / "depthwise.onnx")
    code, out, _ = command(path, "--seconds", 0, "--fix", tmp_path / "fixed.onnx")
    assert code == 1
    assert "left: per-tensor-depthwise" in out
    assert (tmp_path / "fixed.onnx").is_file()


def test_the_source_is_written_only_when_asked(tmp_path):
    path = save(broken.signed, tmp_path / "signed.onnx")
    before = path.read_bytes()
    os.link(path, tmp_path / "same.onnx")
    with pytest.raises(EdgekitError, match="--overwrite"):
        examine(path, fix=path, seconds=0)
    with pytest.raises(EdgekitError, match="--overwrite"):
        examine(path, fix=tmp_path / "." / "signed.onnx", seconds=0)
    assert path.read_bytes() == before
    diagnosis = examine(path, fix=path, overwrite=True, seconds=0, target="x86-64-v4")
    assert diagnosis.mending.applied == {"int8-activations": 1}
    assert path.read_bytes() != before
    assert (tmp_path / "same.onnx").read_bytes() == before, "written in place, not moved"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["same.onnx", "signed.onnx"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(broken.signed, tmp_path / "signed.onnx")
    old = tmp_path / "old.onnx"
    old.write_bytes(b"old")

    def fail(*_):
        raise ModelError("cannot be loaded")

    monkeypatch.setattr("edgekit.converters.doctor.onnx_subject.OnnxSubject.open", fail)
    with pytest.raises(ModelError):
        examine(path, fix=old, seconds=0, target="x86-64-v4")
    assert old.read_bytes() == b"old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["old.onnx", "signed.onnx"]


def test_a_fix_that_breaks_its_promise_is_left_out(tmp_path, monkeypatch):
    rule = next(rule for rule in RULES if rule.id == "clamp-before-quantize")
    monkeypatch.setattr(type(rule), "promise", EXACT)
    path = save(broken.clamped, tmp_path / "clamped.onnx")
    diagnosis = examine(path, fix=tmp_path / "fixed.onnx", seconds=0)
    assert "other bytes" in diagnosis.mending.refused["clamp-before-quantize"]
    assert not diagnosis.mending.applied
    sample = {"x": np.zeros((1, 8, 8, 8), np.float32)}
    assert run(path, sample).tobytes() == run(tmp_path / "fixed.onnx", sample).tobytes()


def test_nothing_is_promised_where_nothing_can_be_run(tmp_path):
    """Inputs of text: fixes that keep every byte by construction are made, others are not."""
    model, y = broken.clamped()
    model.inputs.append(onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, [1]))
    path = model.save(tmp_path / "text.onnx", y)
    diagnosis = examine(path, fix=tmp_path / "fixed.onnx", seconds=0)
    assert "nothing could be run" in diagnosis.samples
    assert "cannot be checked" in diagnosis.mending.refused["clamp-before-quantize"]
    assert "no inputs" in diagnosis.findings[0].cost.basis


def test_calibration_samples_are_used_and_named(tmp_path):
    path = save(broken.detector, tmp_path / "detector.onnx")
    x = np.random.default_rng(0).uniform(-2, 2, (12, 8, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    diagnosis = examine(path, calibration=tmp_path / "samples.npz", seconds=0)
    assert diagnosis.samples == "8 calibration samples"
    assert [item.finding.rule for item in diagnosis.findings] == ["shared-concat-scale"]


def test_a_part_on_the_common_scale_gets_its_own_from_samples(tmp_path):
    """What quantizers that force one scale on a concatenation write: scores rounded to steps of 5."""
    model = QdqModel()
    x = model.quantized(model.input([1, 8, 8, 8]), -2, 2)
    large = model.rng.normal(0, 100, (4, 8, 1, 1))
    boxes = model.quantized(model.conv(x, 8, 4, kernel=1, real=large), -640, 640)
    scores = model.node("Sigmoid", [model.quantized(model.conv(x, 8, 4, kernel=1), -4, 4)])
    scores = model.quantized(scores, -640, 640)
    joined = model.quantized(model.node("Concat", [boxes, scores], "join", axis=1), -640, 640)
    path = model.save(tmp_path / "detector.onnx", joined)
    x = np.random.default_rng(0).uniform(-2, 2, (8, 8, 8, 8)).astype(np.float32)
    fixed = tmp_path / "fixed.onnx"
    diagnosis = examine(path, calibration=x, fix=fixed, seconds=0)
    assert "shared-concat-scale" in diagnosis.mending.applied
    assert set(np.unique(run(path, {"x": x[:1]})[:, 4:])) == {0}
    scores = run(fixed, {"x": x[:1]})[:, 4:]
    assert len(np.unique(scores)) > 50
    assert scores.max() <= 1.01
    random = examine(path, fix=tmp_path / "random.onnx", seconds=0)
    assert "shared-concat-scale" not in random.mending.applied


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.onnx", None, "no such file"),
        ("text.txt", b"hello", "neither an .onnx nor"),
        ("bad.onnx", b"hello", "not an ONNX model"),
        ("empty.onnx", b"", "empty"),
    ],
)
def test_mistakes_are_errors(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(EdgekitError, match=message):
        examine(tmp_path / name)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    make=st.sampled_from([broken.sound, broken.clamped, broken.detector, broken.conv_integer]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.floats(0, 1),
)
def test_hostile_bytes_are_examined_or_one_clear_error(tmp_path, make, changes, cut):
    model, output = make()
    data = bytearray(model.proto(output).SerializeToString())
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    path = tmp_path / "hostile.onnx"
    path.write_bytes(data[: int(len(data) * (0.5 + cut))])
    told = str(path)
    try:
        examine(path, seconds=0, fix=tmp_path / "fixed.onnx")
    except EdgekitError as error:
        told = str(error)
    assert "hostile.onnx" in told


def test_what_reads_nothing_and_damaged_constants_are_named(tmp_path):
    model, output = broken.sound()
    proto = model.proto(output)
    proto.graph.node[3].input[0] = "nowhere"
    onnx.save(proto, tmp_path / "edge.onnx")
    with pytest.raises(ModelError, match="reads 'nowhere', which nothing gives"):
        examine(tmp_path / "edge.onnx")
    proto = model.proto(output)
    next(node for node in proto.graph.node if node.attribute).attribute[0].type = 0
    onnx.save(proto, tmp_path / "attribute.onnx")
    with pytest.raises(ModelError, match=r"attribute\.onnx: the graph is not valid ONNX"):
        examine(tmp_path / "attribute.onnx")
    proto = model.proto(output)
    proto.graph.initializer[2].dims[0] = 9
    onnx.save(proto, tmp_path / "constant.onnx")
    with pytest.raises(ModelError, match=f"initializer '{proto.graph.initializer[2].name}'"):
        examine(tmp_path / "constant.onnx")


@pytest.mark.slow
def test_what_edgekit_writes_is_sound_on_its_target(cnn, images, tmp_path):
    for target, style in (
        ("x86-64-v3", "ort-x86"),
        ("x86-64-v4", "ort-x86"),
        ("x86-64-v4", "ort-x86-qlinear"),
        ("rpi4", "ort-arm"),
        ("rpi5", "ort-arm-qlinear"),
        ("jetson-orin-nano", "tensorrt"),
    ):
        made = edgekit.deploy(
            cnn,
            target=target,
            calibration=images[:8],
            ranges="minmax",
            format="onnx",
            onnx_style=style,
            output=tmp_path / style,
        )
        diagnosis = examine(made.path / "model.onnx", target=target, calibration=images, seconds=0)
        assert not diagnosis.findings, style
    assert not examine(cnn, seconds=0).findings


def test_a_form_for_vnni_may_saturate_without_it_and_is_mended(cnn, images, tmp_path):
    """The form for VNNI has weights of 8 bits; for AVX2 the doctor makes 7 of those that may saturate."""
    options = {"calibration": images[:8], "ranges": "minmax", "format": "onnx"}
    made = edgekit.deploy(cnn, target="x86-64-v4", output=tmp_path / "v4", **options)
    path, fixed = made.path / "model.onnx", tmp_path / "fixed.onnx"
    diagnosis = examine(path, target="x86-64-v3", calibration=images, fix=fixed, seconds=0)
    assert {item.finding.rule for item in diagnosis.findings} == {"saturation"}
    assert all(item.cost.db[0] < 40 for item in diagnosis.findings)
    assert diagnosis.is_healthy


@pytest.mark.parametrize("limit", [2**30, 100])
def test_weights_in_a_file_of_their_own(tmp_path, monkeypatch, limit):
    """They come into the fixed file, or into a file beside it where they are large; the source's is not needed."""
    monkeypatch.setattr("edgekit.converters.doctor.run_onnx._LARGE_BYTES", limit)
    model, output = broken.clamped()
    source = tmp_path / "source"
    source.mkdir()
    onnx.save_model(
        model.proto(output),
        source / "m.onnx",
        save_as_external_data=True,
        location="m.bin",
        size_threshold=0,
    )
    fixed = tmp_path / "out" / "fixed.onnx"
    diagnosis = examine(source / "m.onnx", fix=fixed, seconds=0, target="x86-64-v4")
    assert diagnosis.mending.applied == {"clamp-before-quantize": 1}
    assert diagnosis.is_healthy
    names = sorted(item.name for item in fixed.parent.iterdir())
    assert names == ["fixed.onnx"] + ["fixed.onnx.data"] * (limit == 100)
    (source / "m.bin").unlink()
    assert run(fixed, {"x": np.ones((1, 8, 8, 8), np.float32)}).shape == (1, 8, 4, 4)


@pytest.mark.slow
def test_ds_cnn_as_edgekit_and_as_onnxruntime_write_it(tmp_path):
    """Both are sound where the options are right; the defaults of `quantize_static` are not."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = ROOT / "benchmarks/ds_cnn/ds_cnn.onnx"
    images = np.random.default_rng(0).normal(0, 1, (8, 1, 28, 28)).astype(np.float32)
    edgekit.deploy(path, calibration=images, format="onnx", ranges="minmax", output=tmp_path / "a")
    ours = tmp_path / "a" / "model.onnx"
    assert not examine(ours, calibration=images, seconds=0).findings
    clean = tmp_path / "clean.onnx"
    quant_pre_process(str(path), str(clean))

    class Reader:
        def __init__(self):
            self.left = [{"image": image[None]} for image in images]

        def get_next(self):
            return self.left.pop() if self.left else None

    theirs, default = tmp_path / "theirs.onnx", tmp_path / "default.onnx"
    quantize_static(
        str(clean),
        str(theirs),
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    assert not examine(theirs, target="x86-64-v4", calibration=images, seconds=0).findings
    quantize_static(str(clean), str(default), Reader())
    found = examine(default, target="x86-64-v4", calibration=images, seconds=0).findings
    assert {item.finding.rule for item in found} == {"int8-activations", "per-tensor-depthwise"}


def test_the_page_has_the_table_of_today():
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert insert_tables(page) == page
    rules = (*RULES, *TFLITE_RULES)
    assert all(f"| `{rule.id}` |" in make_rule_tables() for rule in rules)
    assert all(rule.says.endswith(".") and rule.source.startswith("https://") for rule in rules)


@pytest.mark.parametrize("kind", ["onnx_rules", "tflite_rules"])
def test_every_file_of_rules_is_in_its_list(kind):
    """The list is the registry: a file that it lacks would never run."""
    folder = ROOT / "converters/doctor" / kind
    rules = RULES if kind == "onnx_rules" else TFLITE_RULES
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert {type(rule).__module__.rpartition(".")[2] for rule in rules} == files
    assert len({rule.id for rule in rules}) == len(rules)


STEPS = ("conv", "relu", "clip", "depthwise", "add", "pool", "tanh", "sigmoid", "turn", "join")


def build(steps, activations, weights, per_channel, mean, seed, rounds=True):
    """A small network with whatever faults these choices give."""
    model = QdqModel(activations=activations, seed=seed, rounds=rounds)
    x = model.quantized(model.input([1, 4, 6, 6]), -2, 2)
    options = {"dtype": weights, "per_channel": per_channel}
    for step in steps:
        if step == "conv":
            x = model.quantized(model.conv(x, 4, 4, **options), -3, 3)
        elif step == "relu":
            x = model.quantized(model.node("Relu", [model.conv(x, 4, 4, **options)]), -1, 3)
        elif step == "clip":
            bounds = [model.constant(f"lo{len(model.nodes)}", np.float32(0))]
            bounds.append(model.constant(f"hi{len(model.nodes)}", np.float32(2)))
            x = model.quantized(model.node("Clip", [model.conv(x, 4, 4, **options), *bounds]), 0, 3)
        elif step == "depthwise":
            x = model.quantized(model.conv(x, 4, 4, group=4, **options), -3, 3)
        elif step == "add":
            x = model.quantized(model.node("Add", [x, x]), -6, 6)
        elif step == "pool":
            x = model.quantized(model.node("MaxPool", [x], kernel_shape=[1, 1]), -3, 3)
        elif step in ("tanh", "sigmoid"):
            x = model.quantized(model.node(step.capitalize(), [x]), -1, 1)
        elif step == "turn":
            x = model.quantized(model.node("Transpose", [x], perm=[0, 2, 3, 1]), -3, 3)
            x = model.quantized(model.node("Sigmoid", [x]), 0, 1)
            x = model.quantized(model.node("Transpose", [x], perm=[0, 3, 1, 2]), 0, 1)
        else:
            small = model.quantized(model.node("Sigmoid", [x]), 0, 1)
            x = model.quantized(model.node("Concat", [x, small], axis=1), -80, 80)
            x = model.quantized(model.conv(x, 8, 4, kernel=1, **options), -3, 3)
    if mean:
        axes = model.constant("axes", np.array([2, 3]))
        x = model.quantized(model.node("ReduceMean", [x, axes], keepdims=mean - 1), -1, 1)
    return model, x


NETWORKS = st.fixed_dictionaries(
    {
        "steps": st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
        "activations": st.sampled_from([np.uint8, np.int8]),
        "weights": st.sampled_from([np.uint8, np.int8]),
        "per_channel": st.booleans(),
        "mean": st.integers(0, 2),
        "seed": st.integers(0, 2**16),
    }
)
TARGETS = st.sampled_from(["x86-64-v3", "x86-64-v4", "rpi4"])


def noise_db(wanted, given):
    """Signal over noise, both over all samples."""
    power = sum(float(np.square(a).sum()) for a in wanted)
    noise = sum(float(np.square(a - b).sum()) for a, b in zip(wanted, given, strict=True))
    return 10 * np.log10(max(power, 1e-12) / max(noise, 1e-12))


def check_promises(folder, network, target):
    """Compares files on inputs that the doctor did not see, by sessions of the test's own."""
    model, output = build(**network)
    path, fixed = model.save(folder / "m.onnx", output), folder / "fixed.onnx"
    diagnosis = examine(path, fix=fixed, seconds=0, target=target)
    onnx.checker.check_model(fixed, full_check=True)
    applied = diagnosis.mending.applied
    exact = {rule.id for rule in RULES if rule.promise is EXACT}
    random = np.random.default_rng(network["seed"])
    samples = [random.uniform(-2, 2, (1, 4, 6, 6)).astype(np.float32) for _ in range(6)]
    before, after = ([run(file, {"x": x}) for x in samples] for file in (path, fixed))
    if set(applied) <= exact:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
    else:
        model, output = build(**network, rounds=False)
        real = model.save(folder / "real.onnx", output)
        wanted = [run(real, {"x": x}).astype(np.float64) for x in samples]
        # Other samples than the promise was checked on: a little more than its largest slack.
        assert noise_db(wanted, after) >= min(noise_db(wanted, before) - 8, 20)
    again = examine(fixed, fix=folder / "again.onnx", seconds=0, target=target)
    assert not set(again.mending.applied) - set(diagnosis.mending.refused)


@pytest.mark.slow
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(network=NETWORKS, target=TARGETS)
def test_a_fix_keeps_its_promise_on_random_networks(tmp_path, network, target):
    check_promises(tmp_path, network, target)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(network=NETWORKS, target=TARGETS)
def test_a_fix_keeps_its_promise_on_many_random_networks(tmp_path, network, target):
    check_promises(tmp_path, network, target)


def test_tensorflow_lite(tmp_path):
    tflite = pytest.importorskip("broken_tflite", reason="needs edgekit[tflite]")
    model, output = tflite.half()
    path = model.save(tmp_path / "half.tflite", output)
    before = path.read_bytes()
    diagnosis = examine(path, fix=tmp_path / "fixed.tflite", seconds=0.05)
    (item,) = diagnosis.findings
    assert item.finding.rule == "float16-behind-dequantize"
    assert min(item.cost.ms) > 0
    assert diagnosis.is_healthy
    assert diagnosis.mending.applied == {"float16-behind-dequantize": 1}
    assert path.read_bytes() == before
    assert not examine(tmp_path / "fixed.tflite", seconds=0).findings
    code, out, _ = command(path, "--seconds", 0, "--json")
    assert code == 1
    assert json.loads(out)["samples"] == "4 random inputs"


def test_tensorflow_lite_with_calibration(tmp_path):
    tflite = pytest.importorskip("broken_tflite", reason="needs edgekit[tflite]")
    model, output = tflite.alone()
    path = model.save(tmp_path / "alone.tflite", output)
    np.savez(tmp_path / "samples.npz", x=np.ones((3, 6, 6, 4), np.float32))
    fixed = tmp_path / "fixed.tflite"
    diagnosis = examine(path, calibration=tmp_path / "samples.npz", fix=fixed, seconds=0)
    assert diagnosis.samples == "3 calibration samples"
    assert diagnosis.mending.applied == {"unfused-activation": 1}


def test_a_tensorflow_lite_file_of_open_sizes_is_examined(tmp_path):
    tflite = pytest.importorskip("broken_tflite", reason="needs edgekit[tflite]")
    model, output = tflite.open_size()
    path = model.save(tmp_path / "open.tflite", output)
    diagnosis = examine(path, shapes={"x": (1, 6, 6, 4)}, fix=tmp_path / "fixed.tflite", seconds=0)
    assert diagnosis.mending.applied == {"missing-shapes": 1}
    assert [item.finding.rule for item in diagnosis.findings] == ["missing-shapes"]
