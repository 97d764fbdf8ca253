"""No preset is faster and smaller than what a search returns; layers whose codes come in parts cost what they do."""

import sys

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.sensitivity import Part, list_parts, spell_formats
from edgekit.search import find_plan
from edgekit.search.estimate import Costs, Link
from edgekit.search.part_costs import PartCosts
from edgekit.search.presets import list_presets

INT8, HALF, TWELVE, FLOAT32 = (
    NumberFormat.INT8,
    NumberFormat.INT12,
    NumberFormat.INT12_WEIGHTS,
    NumberFormat.FLOAT32,
)
BODY = """net (float[1, 4, 16, 16] x) => (float[1, 9] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w0) ra = Relu (a)
  b = Conv (ra, w1) rb = Clip (b, zero, six)
  c = Conv <group = 48, pads = [1, 1, 1, 1]> (rb, w2) rc = Clip (c, zero, six)
  d = Conv (rc, w3)
  sum = Add (d, ra)
  e = Conv <strides = [2, 2]> (sum, w4) re = Relu (e)
  flat = Flatten (re)
  y = MatMul (flat, w5)
}"""
SHAPES = ((16, 4, 3, 3), (48, 16, 1, 1), (48, 1, 3, 3), (16, 48, 1, 1), (24, 16, 2, 2), (1536, 9))


def write_network(path, seed):
    """An inverted residual block whose channels are of sizes that differ, so that int8 loses some answers."""
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {BODY}')
    arrays = {"zero": np.array(0), "six": np.array(6)}
    for index, shape in enumerate(SHAPES):
        spread = np.exp(rng.normal(0, 0.8, (shape[0], *(1,) * (len(shape) - 1))))
        fan = shape[0] if len(shape) == 2 else np.prod(shape[1:])
        arrays[f"w{index}"] = rng.normal(0, 1 / np.sqrt(fan), shape) * spread
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, path)
    return [{"x": x} for x in rng.normal(0, 1, (160, 1, 4, 16, 16)).astype(np.float32)]


class Agreement:
    """The share of samples whose largest output is float's: a figure without scores."""

    def __init__(self, path, samples):
        self._samples = samples
        session = edgekit.load(path)
        self._wanted = [session.run(sample)["y"].argmax() for sample in samples]

    def __call__(self, session):
        given = [session.run(sample)["y"].argmax() for sample in self._samples]
        return float(np.mean(np.equal(given, self._wanted)))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    write_network(path, 0)
    model = read_onnx(path)
    simplify(model)
    return model.graph


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_no_preset_beats_what_is_found(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    samples = write_network(tmp_path / "net.onnx", seed)
    evaluate = Agreement(tmp_path / "net.onnx", samples[16:])
    seen = {}
    module = sys.modules[find_plan.__module__]
    whole = module.choose_point

    def choose(points, built, times, promises, goal, latency):
        chosen = whole(points, built, times, promises, goal, latency)
        seen.update(built=dict(built), times=times, goal=goal, chosen=chosen)
        return chosen

    monkeypatch.setattr(module, "choose_point", choose)
    made = edgekit.deploy(
        tmp_path / "net.onnx",
        calibration=samples[:16],
        output=tmp_path / "dist",
        ranges="minmax",
        rounding="moments",
        recover="none",
        evaluate=evaluate,
        max_drop=0.03,
    )
    presets = {"as by default", "all float32", "all int8", "all 12x12", "all 12x8"}
    assert presets <= seen["built"].keys()
    chosen = seen["chosen"]
    assert evaluate(made.load()) >= 0.97
    for name in presets:
        candidate = seen["built"][name]
        milliseconds = np.median(seen["times"][name])
        size = candidate.forms.summary.file_size
        beats = milliseconds < chosen.milliseconds / 1.02 and size <= chosen.plan_bytes
        assert not (beats and seen["goal"].measure(candidate).drop <= 0.03), name


def test_presets_are_what_deploy_gives_to_all_layers(graph):
    parts = list_parts(graph, (INT8, HALF, TWELVE))
    presets = list_presets(graph, parts)
    assert presets.keys() == {"all 12x12", "all 12x8"}
    spelled = spell_formats(graph, parts, presets["all 12x12"].by_part)
    assert spelled["a"] is FLOAT32
    assert {spelled[name] for name in ("b", "d", "sum", "e", "y")} == {TWELVE}
    assert "c" not in spelled, "depthwise convolutions are int8"
    wide = list_presets(graph, list_parts(graph, (INT8, NumberFormat.INT16, NumberFormat.INT4)))
    assert wide.keys() == {"all 16x8", "all int4"}


def test_what_layers_in_parts_read_and_write_is_counted():
    """Three layers in a row, each of 100 us where it reads and writes codes."""
    parts = tuple(Part(name, "Conv", (name,), (INT8, HALF, TWELVE)) for name in "abc")
    formats = (INT8, HALF, TWELVE, FLOAT32)
    plain = {(name, format): 100.0 for name in "abc" for format in formats}
    keys = [(name, format) for name in "abc" for format in (HALF, TWELVE)]
    in_parts = PartCosts({}, dict.fromkeys(keys, 30.0), dict.fromkeys(keys, 7.0), {HALF: 0.1})
    costs = Costs(
        parts,
        plain,
        {},
        dict.fromkeys(plain, 1e-9),
        (Link(0, (1,), 10), Link(1, (2,), 10)),
        0.5,
        0.25,
        in_parts,
    )

    def beyond(*formats):
        return costs.microseconds_of(formats) - 300

    assert beyond(INT8, INT8, INT8) == 0
    assert beyond(INT8, HALF, INT8) == 0, "codes are read as they are, and written at once"
    assert beyond(FLOAT32, HALF, INT8) == pytest.approx(30 + 10 * 0.1), "one product more"
    assert beyond(INT8, HALF, FLOAT32) == pytest.approx(7)
    assert beyond(INT8, HALF, HALF) == pytest.approx(7 + 30 + 10 * 0.1)
    # Two products are added in float32, and become codes again.
    assert beyond(INT8, TWELVE, INT8) == pytest.approx(2 * 7 + 10 * 0.5)
    assert beyond(FLOAT32, TWELVE, INT8) == pytest.approx(30)
