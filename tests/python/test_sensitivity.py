"""What each layer costs the answers is measured by running, kept, and told in order."""

import io
import json
import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from edgekit.cli import app
from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.sensitivity import diverge, list_parts, spell_formats
from edgekit.sensitivity import measure_sensitivity, sense
from edgekit.sensitivity.effect import Effect
from edgekit.session import OnnxSession
from edgekit.targets.errors import EdgekitError

INT8 = NumberFormat.INT8
BODY = "a = Conv (x, w) b = Relu (a) c = Conv (b, v) d = Flatten <axis=1> (c) y = MatMul (d, u)"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Two convolutions, the first with one channel a thousand times as large, and a fully connected layer."""
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    rng = np.random.default_rng(5)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 4, 5, 5] x) => (float[1, 6] y) '
        f"{{ {BODY} }}"
    )
    w = rng.normal(0, 1, (4, 4, 1, 1))
    w[0] *= 1000
    v = rng.normal(0, 1, (4, 4, 1, 1))
    v[:, 0] /= 1000
    for name, array in {"w": w, "v": v, "u": rng.normal(0, 0.1, (100, 6))}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{index}"
    onnx.save(model, path)
    samples = rng.normal(0, 1, (8, 4, 5, 5)).astype(np.float32)
    np.savez(path.with_name("samples.npz"), x=samples)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sensitivity"


def measure(network, **arguments):
    return sense(
        network, calibration=network.with_name("samples.npz"), ranges="minmax", **arguments
    )


def test_the_layer_that_suffers_is_found(network, cache):
    found = measure(network)
    assert [part.name for part in found.parts] == ["Conv0", "Conv2", "MatMul4"]
    noise = {key: effect.noise for key, effect in found.effects.items()}
    # The value between both convolutions has one large channel, which the others' grid has to reach.
    quiet = noise["MatMul4", NumberFormat.INT8]
    assert all(noise[name, NumberFormat.INT8] > 10 * quiet for name in ("Conv0", "Conv2"))
    assert 0 < noise["MatMul4", NumberFormat.INT8_ROWS] < 1e-3
    assert all(effect.divergence >= 0 for effect in found.effects.values())
    assert found.effects["MatMul4", NumberFormat.INT8_ROWS].plan_bytes < 0
    assert str(found).index("Conv0") < str(found).index("MatMul4")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_name_and_no_figure_is_cut_off_where_there_is_little_room(network, cache, width):
    found = measure(network)
    text = io.StringIO()
    Console(file=text, width=width, no_color=True).print(found)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for part in found.parts:
        rows = " ".join(line for line in lines if line.split()[:1] == [part.name])
        for format in part.formats:
            if (part.name, format) in found.effects:
                effect = found.effects[part.name, format]
                assert (
                    f"{-10 * np.log10(effect.noise):.1f} dB, {effect.divergence:.1e} nats" in rows
                )


def test_what_was_measured_is_recalled_and_what_is_damaged_measured_anew(network, cache):
    first = measure(network)
    again = measure(network)
    assert (first.recalled, again.recalled) == (0, len(first.effects))
    assert again.effects == first.effects
    (file,) = cache.iterdir()
    facts = json.loads(file.read_text())
    facts["effects"]["Conv0"]["int8"]["noise"] = 0.5
    for damaged in (json.dumps(facts), file.read_text()[:-9], "[]"):
        file.write_text(damaged)
        assert measure(network).recalled == 0
    assert measure(network).effects == first.effects


@pytest.mark.parametrize("format", [NumberFormat.INT8_ROWS, NumberFormat.FLOAT16])
def test_all_others_are_float32_whichever_formats_are_tried(network, cache, format):
    whole = measure(network, formats=[NumberFormat.INT8, format])
    alone = measure(network, formats=[format], cache=False)
    assert alone.effects == {key: whole.effects[key] for key in whole.effects if key[1] is format}


def test_of_distributions_it_is_told_which_share_of_answers_moves(network, cache, tmp_path):
    model = onnx.load(network)
    model.graph.node.append(onnx.helper.make_node("Softmax", ["y"], ["p"], name="last", axis=-1))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("p", 1, [1, 6]))
    path = tmp_path / "chances.onnx"
    onnx.save(model, path)
    samples = np.load(network.with_name("samples.npz"))["x"]
    formats = [NumberFormat.INT8, NumberFormat.INT8_ROWS]
    found = sense(path, calibration=samples, ranges="minmax", formats=formats)
    for effect in found.effects.values():
        assert effect.distance == effect.moved**2
        assert Effect.from_dict(json.loads(json.dumps(effect.to_dict()))) == effect
    # One large channel makes both convolutions' codes coarse.
    moved = {name: effect.moved for (name, form), effect in found.effects.items() if form == INT8}
    assert min(moved["Conv0"], moved["Conv2"]) > 3 * moved["MatMul4"] > 0
    logits = measure(network, formats=formats).effects["Conv0", INT8]
    assert logits.moved is None
    assert logits.distance == logits.noise


def test_other_outputs_are_measured_anew(network, cache, tmp_path):
    model = onnx.load(network)
    model.graph.output.append(onnx.helper.make_tensor_value_info("c", 1, [1, 4, 5, 5]))
    more = tmp_path / "more.onnx"
    onnx.save(model, more)
    samples = np.load(network.with_name("samples.npz"))["x"]
    assert measure(network).recalled == 0
    assert sense(more, calibration=samples, ranges="minmax").recalled == 0


def test_neighbours_that_change_together_are_not_taken_for_one_of_them(network, cache):
    graph = read_onnx(network)
    samples = [{"x": x[None]} for x in np.load(network.with_name("samples.npz"))["x"]]
    session = OnnxSession(network, 1)
    outputs = [session.run(sample) for sample in samples]
    learned = calibrate(graph, samples)
    ranges = RangeChoice("minmax")
    found = [
        measure_sensitivity(graph, learned, ranges, samples, outputs, most_parts=most)
        for most in (160, 1)
    ]
    assert [each.recalled for each in found] == [0, 0]


def test_other_samples_are_measured_anew(network, cache, tmp_path):
    measure(network)
    samples = np.load(network.with_name("samples.npz"))["x"]
    other = sense(network, calibration=samples + 0.5, ranges="minmax")
    assert other.recalled == 0


def test_the_callers_measure_is_taken_of_every_layer(network, cache):
    x = np.load(network.with_name("samples.npz"))["x"][:1]

    def evaluate(session):
        return -float(np.abs(session.run({"x": x})["y"]).max())

    found = measure(network, evaluate=evaluate)
    assert math.isfinite(found.float_accuracy)
    assert all(effect.accuracy is not None for effect in found.effects.values())


def test_an_unknown_format_is_told(network):
    given = ["sensitivity", str(network), "--calibration", str(network.with_name("samples.npz"))]
    result = CliRunner().invoke(app, [*given, "--number-format", "int5"])
    assert isinstance(result.exception, EdgekitError)
    assert "int5" in str(result.exception)


def test_the_command_prints_json(network, cache):
    given = ["sensitivity", str(network), "--calibration", str(network.with_name("samples.npz"))]
    result = CliRunner().invoke(app, [*given, "--number-format", "int8", "--json"])
    assert result.exit_code == 0, result.output
    parts = json.loads(result.stdout)["parts"]
    assert [list(part["formats"]) for part in parts] == [["int8"]] * 3


def test_neighbours_are_one_where_there_are_many(network):
    graph = read_onnx(network).graph
    assert [part.nodes for part in list_parts(graph, most=1)] == [
        ("Conv0", "Relu1", "Conv2", "MatMul4")
    ]


def test_what_moves_goes_with_what_is_before_it(network):
    graph = read_onnx(network).graph
    parts = list_parts(graph)
    spelled = spell_formats(graph, parts, {"Conv2": NumberFormat.INT8})
    assert set(spelled) == {"Conv0", "Relu1", "MatMul4"}
    assert set(spelled.values()) == {NumberFormat.FLOAT32}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 3))
def test_divergence_is_that_of_the_textbook(seed, size):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, size, (2, 4, 5))

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    p, q = softmax(a), softmax(b)
    expected = np.mean([sum(p[i] * np.log(p[i] / q[i])) for i in range(4)])
    assert diverge([{"y": a}], [{"y": b}]) == pytest.approx(expected, rel=1e-6)
    assert diverge([{"y": p}], [{"y": q}]) == pytest.approx(expected, rel=1e-6)
    assert diverge([{"y": a}], [{"y": a}]) == pytest.approx(0, abs=1e-12)


def test_numbers_that_are_no_chances_do_not_diverge():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    assert diverge([{"y": x}], [{"y": x + 1}]) is None
    chances = np.array([[0.2], [0.9]])
    assert diverge([{"y": chances}], [{"y": chances * 0.5}]) > 0
