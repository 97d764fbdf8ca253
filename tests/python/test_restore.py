"""int8 does not ruin the answers: noisy layers go to float32, and the report says so."""

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import edgekit
from edgekit.choosing.closest import prefer_wide
from edgekit.choosing.float_search import FloatSearch, give_reasons
from edgekit.choosing.goal import LEAST_SNR_DB, Goal
from edgekit.choosing.precision import Contest
from edgekit.converters.choose_float import Costs, noise_left
from edgekit.converters.quantize import quantize
from edgekit.targets.errors import ModelError

# The logarithm of a sum of two squares: codes hold its large values only.
BODY = """
    a = Conv (x, w) b = Conv (x, v) aa = Mul (a, a) bb = Mul (b, b) s = Add (aa, bb) t = Add (s, e) l = Log (t)
    y = Conv (l, u)
"""


@pytest.fixture(scope="module")
def spectrum(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) '
        f"{{ {BODY} }}"
    )
    constants = {
        **{name: rng.normal(0, 1, (8, 8, 1, 1)) for name in "wvu"},
        "e": np.array(1e-6),
    }
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, path)
    size = np.exp(rng.normal(-1, 3, (16, 1, 6, 6)))
    samples = (size * rng.normal(0, 1, (16, 8, 6, 6))).astype(np.float32)
    np.savez(path.with_name("samples.npz"), x=samples)
    return path, samples


def deploy(spectrum, output, **arguments):
    path, _ = spectrum
    return edgekit.deploy(
        path, calibration=path.with_name("samples.npz"), output=output, **arguments
    )


def error(session, spectrum):
    path, samples = spectrum
    wanted = edgekit.load(path).run({"x": samples[:1]})["y"]
    return float(np.square(session.run({"x": samples[:1]})["y"] - wanted).mean())


@pytest.mark.slow
def test_layers_that_ruin_the_answers_are_float(spectrum, tmp_path):
    report = deploy(spectrum, tmp_path / "auto").report
    assert report.snr_db >= LEAST_SNR_DB
    assert report.precision.chosen in ("mixed", "float32")
    assert any(line.startswith("s: ") for line in report.precision.float_layers)
    assert not any("ANSWERS DIFFER" in note for note in report.notes)


@pytest.mark.slow
def test_int8_that_ruins_the_answers_is_said_to(spectrum, tmp_path):
    report = deploy(spectrum, tmp_path / "int8", precision="int8").report
    assert report.snr_db < LEAST_SNR_DB
    assert any("ANSWERS DIFFER" in note for note in report.notes)
    assert report.to_dict()["snr_db"] == report.snr_db


@pytest.mark.slow
def test_int8_stays_where_float32_is_not_to_be_had(spectrum, tmp_path, monkeypatch):
    def refuse(*arguments, keep_float, **options):
        if keep_float:
            raise ModelError("the runtime has no such float32 operator")
        return quantize(*arguments, keep_float=keep_float, **options)

    monkeypatch.setattr("edgekit.choosing.precision.quantize", refuse)
    report = deploy(spectrum, tmp_path / "auto").report
    assert report.precision.chosen == "int8"
    assert "float32 was not tried" in report.precision.how
    assert any("ANSWERS DIFFER" in note for note in report.notes)


@pytest.mark.slow
def test_the_callers_measure_decides_where_there_is_one(spectrum, tmp_path):
    def evaluate(session):
        return -error(session, spectrum)

    path, _ = spectrum
    front = edgekit.deploy(
        path,
        calibration=path.with_name("samples.npz"),
        output=tmp_path / "loose",
        evaluate=evaluate,
        max_drop=1e9,
    ).front
    # Where everything is allowed, the fastest is taken, or one within what a clock can tell.
    times = {point.name: point.milliseconds for point in front.points}
    assert times[front.chosen] <= 1.02 * min(times.values())
    strict = deploy(spectrum, tmp_path / "strict", evaluate=evaluate, max_drop=1e-4).report
    assert strict.accuracy.drop <= 1e-4
    assert strict.precision.chosen in ("mixed", "float32")


def test_the_rule_holds_for_boards(spectrum, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.deployment.pack", lambda *arguments: None)
    report = deploy(spectrum, tmp_path / "board", target="rpi4", ranges="minmax").report
    assert report.snr_db >= LEAST_SNR_DB
    assert report.precision.how == "modelled"


def test_a_float_layer_is_named_for_what_made_it_float():
    contest = Contest("mixed", "measured", {"a": "it is faster in float32"}, {}, {})
    noise = {"b": 0.01, "c": 1e-9}
    assert give_reasons(frozenset("abc"), contest, noise) == {
        "a": "it is faster in float32",
        "b": "left float32 for accuracy: 20.0 dB were left with it alone in int8",
        "c": "left float32 for accuracy",
    }
    assert give_reasons(frozenset("b"), contest, {"b": 0.0004}, of_answers=True) == {
        "b": "left float32 for accuracy: 2.0 % of the answers may be others with it alone in int8"
    }


@pytest.mark.slow
@pytest.mark.parametrize("formats", ["onnx", "tflite", ["native", "onnx", "tflite"]])
def test_every_form_leaves_the_same_layers_float(spectrum, tmp_path, formats):
    if "tflite" in formats:
        pytest.importorskip("ai_edge_litert")
    deployment = deploy(spectrum, tmp_path / "out", format=formats)
    report = deployment.report
    assert report.snr_db >= LEAST_SNR_DB
    assert not any("ANSWERS DIFFER" in note for note in report.notes)
    files = [path for path in (deployment.plan, deployment.onnx, deployment.tflite) if path]
    answers = [edgekit.load(path).run({"x": spectrum[1][:1]})["y"] for path in files]
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-3, atol=1e-3)
    left = [
        *(report.fusion.left_float if report.fusion else ()),
        *(report.tflite.left_float if report.tflite else ()),
    ]
    # With the native form among them, the clock may have left the same layers float32 before.
    if "native" not in formats:
        assert any("left float32 for accuracy" in note for note in report.notes)
        assert report.precision.how == "modelled"
        assert any(line.startswith("s") and "left float32 for accuracy" in line for line in left)
        assert set(report.precision.milliseconds) == {"int8", report.precision.chosen}


@pytest.mark.slow
def test_int8_that_is_asked_for_stays_in_every_form(spectrum, tmp_path):
    report = deploy(spectrum, tmp_path / "out", format="onnx", precision="int8").report
    assert report.snr_db < LEAST_SNR_DB
    assert any("ANSWERS DIFFER" in note for note in report.notes)
    assert report.precision is None


@pytest.mark.parametrize(
    ("noises", "best"),
    [
        ([1.0, 0.9, 0.85, 0.81], 0),
        ([1.0, 0.79, 0.7, 0.64], 1),
        ([1.0, 0.5, 0.6, 0.3], 3),
        ([0.1, 1.0, 1.0, 1.0], 0),
    ],
)
def test_ranges_that_cut_off_more_must_leave_a_fifth_less_noise(noises, best):
    candidates = [Pretended(noise) for noise in noises]
    assert prefer_wide(candidates) is candidates[best]


def test_of_answers_the_ranges_with_fewest_changes_are_taken():
    candidates = [Pretended(changed, plain_noise=0.0) for changed in (0.011, 0.01, 0.01, 0.02)]
    assert prefer_wide(candidates) is candidates[1]


@pytest.mark.parametrize(
    ("changed", "met", "sound"), [(0.002, True, True), (0.05, False, True), (0.06, False, False)]
)
def test_of_distributions_answers_are_what_counts(changed, met, sound):
    answers = Measured(3.0)
    answers.changed = answers.expected = changed
    answers.plain_noise = answers.plain_worst = 0.0
    goal = Goal(None, None, None)
    assert goal.is_met(answers) is met
    assert goal.is_sound(answers) is sound
    assert goal.is_worth(1.1 + 8 * changed, answers)
    assert not goal.is_worth(1.7, answers)
    assert goal.weigh(answers, 1.0) == pytest.approx(1 + 10 * changed)
    answers.expected = changed + 0.01
    assert not goal.is_met(answers)
    assert goal.is_sound(answers) is sound
    assert goal.weigh(answers, 1.0) == pytest.approx(1.1 + 10 * changed)


@pytest.mark.slow
def test_ranges_are_chosen_again_with_the_float_layers(spectrum, tmp_path, monkeypatch):
    """Only where they were left open: a range that was asked for stays."""
    deployed = deploy(spectrum, tmp_path / "out", format="onnx", ranges="entropy")
    assert deployed.report.ranges == "entropy"
    assert deployed.report.snr_db >= LEAST_SNR_DB
    free = deploy(spectrum, tmp_path / "free", format="onnx")
    assert free.report.snr_db >= LEAST_SNR_DB


def make_chain():
    """Returns a graph of layers that noise is told apart by, and its costs."""
    body = "a = Conv (x, w) b = Conv (a, w) c = Conv (b, w) d = Conv (c, w) y = Conv (d, w)"
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 8, 4, 4] x) => (float[1, 8, 4, 4] y) '
        f"{{ {body} }}"
    )
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    )
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph
    for node in graph:
        node.name = node.outputs[0].name
    names = [node.name for node in graph]
    costs = Costs(dict.fromkeys(names, 1.0), dict.fromkeys(names, 4.0), 0.001, 0.001)
    return graph, Contest("int8", "modelled", {}, {}, {}, costs=costs)


@dataclasses.dataclass
class Pretended:
    """Stands for forms: the noise that their decision leaves."""

    noise: float
    plain_noise: float = 1.0

    @property
    def distance(self):
        return self.noise


def search(allowed, is_hopeless=lambda decided: False):
    """Looks for layers that leave no more noise than allowed; returns what was found and how much was built."""
    graph, contest = make_chain()
    noise = {"x": 0.01, "a": 0.02, "b": 8.0, "c": 0.5, "d": 0.03, "y": 0.02}
    built = []

    def build(decided, name):
        built.append(name)
        return Pretended(noise_left(graph, noise, decided.keep_float.keys()))

    found = FloatSearch(graph, contest, noise, sum(noise.values())).find(
        build, lambda candidate: candidate.noise <= allowed, is_hopeless, "tried"
    )
    return found, built


def test_the_search_leaves_float_no_more_than_it_must():
    (candidate, decided), built = search(1.0)
    assert candidate.noise <= 1.0
    assert decided.chosen == "mixed"
    # b is held nowhere only where its maker and its reader are float.
    assert set(decided.keep_float) == {"b", "c"}
    assert len(set(built)) == len(built) <= 8


def test_the_search_lists_what_every_price_chooses():
    graph, contest = make_chain()
    noise = {"x": 0.01, "a": 0.02, "b": 8.0, "c": 0.5, "d": 0.03, "y": 0.02}
    listed = FloatSearch(graph, contest, noise, sum(noise.values())).list_decisions()
    left = [rest for _, rest in listed]
    assert left == sorted(left, reverse=True)
    assert {frozenset(decided.keep_float) for decided, _ in listed} >= {
        frozenset(),
        frozenset({"b", "c"}),
    }
    for decided, rest in listed:
        assert rest == pytest.approx(noise_left(graph, noise, decided.keep_float.keys()))


def test_the_search_says_when_nothing_is_good_enough():
    found, built = search(-1.0)
    assert found is None
    assert built


def test_the_search_builds_nothing_that_takes_too_long():
    found, built = search(1.0, is_hopeless=lambda decided: bool(decided.keep_float))
    assert found is None
    assert built == []


class Measured:
    def __init__(self, snr_db, worst=0.0):
        self.noise = self.plain_noise = 10 ** (-snr_db / 10)
        self.worst = self.plain_worst = worst
        self.changed = self.expected = None


@pytest.mark.parametrize(
    ("snr_db", "worst", "sound"),
    [(LEAST_SNR_DB, 0.5, True), (LEAST_SNR_DB - 0.1, 0.0, False), (30.0, 0.6, False)],
)
def test_what_is_sound_need_not_be_what_is_wanted(snr_db, worst, sound):
    goal = Goal(None, None, None)
    assert goal.is_sound(Measured(snr_db, worst)) is sound
    assert goal.is_worth(1.1, Measured(snr_db))
    assert not goal.is_worth(1.2, Measured(snr_db))
