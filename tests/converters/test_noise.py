"""The noise of int8 is measured value by value, and where ranges are at fault they are chosen again."""

import numpy as np
import onnx
import pytest

from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.noise import (
    Switched,
    choose_ranges,
    measure_noise,
    noise_of_answers,
    relative_noise,
    tells_answers,
    worst_noise,
)
from edgekit.converters.passes import simplify
from edgekit.converters.quantization import ActivationQuantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx

# The sum of two squares spans many decades, and a logarithm looks at all of them.
BODY = """
    a = Conv (x, w) b = Conv (x, v) aa = Mul (a, a) bb = Mul (b, b) s = Add (aa, bb) t = Add (s, e) l = Log (t)
    y = Conv (l, w)
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    rng = np.random.default_rng(3)
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {{ {BODY} }}'
    )
    constants = {
        "w": rng.normal(0, 1, (8, 8, 1, 1)),
        "v": rng.normal(0, 1, (8, 8, 1, 1)),
        "e": np.array(1e-4),
    }
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    path = tmp_path_factory.mktemp("noise") / "net.onnx"
    onnx.save(model, path)
    graph = read_onnx(path)
    simplify(graph)
    size = np.exp(rng.normal(-1, 2, (16, 1, 1, 6, 6)))
    samples = [{"x": x} for x in (size * rng.normal(0, 1, (16, 1, 8, 6, 6))).astype(np.float32)]
    return graph, calibrate(graph, samples), samples


def test_relative_noise_is_of_the_worst_output():
    wanted = [{"a": np.array([3.0, 4.0]), "b": np.array([1.0]), "c": np.array([7])}]
    given = [{"a": np.array([3.0, 4.5]), "b": np.array([1.5]), "c": np.array([9])}]
    assert relative_noise(wanted, given) == pytest.approx(0.25)
    assert relative_noise(wanted, wanted) == 0.0
    twice = [wanted[0], wanted[0]]
    assert worst_noise(twice, [wanted[0], given[0]]) == pytest.approx(0.25)
    assert relative_noise(twice, [wanted[0], given[0]]) == pytest.approx(0.125)
    broken = [{**given[0], "a": np.array([3.0, np.nan])}]
    assert relative_noise(wanted, broken) == np.inf


def test_noise_of_answers_grows_with_the_share_that_may_change():
    def answer(*logits):
        powers = np.exp(np.array([logits]))
        return [{"y": (powers / powers.sum()).astype(np.float32)}]

    sure = answer(20.0, 0.0, -3.0)
    # Of chances as small as these the power of the differences tells nothing.
    assert relative_noise(sure, answer(20.0, 0.4, -3.0)) < 1e-15
    near = noise_of_answers(sure, answer(20.0, 0.2, -3.0))
    far = noise_of_answers(sure, answer(20.0, 0.4, -3.0))
    assert near > 1e-9
    assert far / near == pytest.approx(4.0, rel=0.3)
    assert tells_answers(sure)
    features = [{"y": np.float32([[1, -2]])}]
    assert not tells_answers(features)
    assert noise_of_answers(features, [{"y": np.float32([[1, -1]])}]) == pytest.approx(0.2)
    both = [{**sure[0], "z": np.float32([[1, -2]])}]
    assert not tells_answers(both)


def test_a_switch_rounds_one_value(network):
    graph, _, samples = network
    grid = ActivationQuantization(np.float32(0.5), 3)
    switched = Switched(graph, {"x": grid, "y": grid}, samples[:1])
    assert switched.measure(()) == 0.0
    y = np.asarray(switched._wanted[0]["y"], np.float64)
    rounded = 0.5 * (np.clip(np.rint(y / 0.5) + 3, -128, 127) - 3)
    expected = np.square(rounded - y).sum() / np.square(y).sum()
    assert switched.measure(("y",)) == pytest.approx(expected, rel=1e-5)
    assert switched.measure(("x",)) > 0


def test_the_value_that_int8_can_not_hold_is_found(network):
    graph, calibration, samples = network
    quantized = quantize(graph, calibration)
    noise = measure_noise(graph, quantized, samples, smallest=1e-4)
    assert max(noise, key=noise.get) == "s"
    together = Switched(graph, {}, samples).measure(())
    assert together == 0.0
    assert noise["s"] > 2 * noise["x"]


def test_groups_of_little_noise_are_not_split(network):
    graph, calibration, samples = network
    tried = []
    quantized = quantize(graph, calibration)
    noise = measure_noise(
        graph, quantized, samples, smallest=1e9, progress=lambda *count: tried.append(count)
    )
    assert tried == []
    assert len(set(noise.values())) == 1


def test_ranges_are_chosen_again_where_that_leaves_less_noise(network):
    graph, calibration, samples = network
    choice = RangeChoice("minmax")
    quantized = quantize(graph, calibration, method=choice)
    noise = measure_noise(graph, quantized, samples, smallest=1e-6)
    found, after = choose_ranges(
        graph, quantized, calibration, choice, samples, noise, smallest=1e-6
    )
    assert found.method == "minmax"
    assert found.exceptions
    assert sum(after.values()) < sum(noise.values())
    assert str(found).startswith("minmax, ")
    again = quantize(graph, calibration, method=found)
    measured = measure_noise(graph, again, samples, smallest=1e-6)
    assert sum(measured.values()) < sum(noise.values())
