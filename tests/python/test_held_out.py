"""Samples that choose forms are calibrated once: what is learned is the same, and it is not learned again."""

import numpy as np
import onnx
import pytest

from edgekit.choosing.closest import Reference, spread_places
from edgekit.choosing.held_out import calibrate_apart, hold_out
from edgekit.converters.passes import simplify
from edgekit.converters.read_onnx import read_onnx
from edgekit.data import read_samples
from edgekit.progress import ignore_progress
from edgekit.session import load
from edgekit.sizes import calibrate_sizes
from edgekit.targets.errors import CalibrationError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(2)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 3, 6, 6] x) => (float[1, 4] y) '
        "{ a = Conv (x, w) b = Relu (a) c = Flatten (b) y = MatMul (c, v) }"
    )
    for name, shape in (("w", (5, 3, 3, 3)), ("v", (80, 4))):
        array = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    found = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(model, found)
    return found


@pytest.fixture
def graph(path):
    model = read_onnx(path)
    simplify(model)
    return model


def make_samples(path, count):
    arrays = np.random.default_rng(3).normal(0, 1, (count, 1, 3, 6, 6)).astype(np.float32)
    return read_samples([{"x": array} for array in arrays], load(path).inputs)


def save(calibration, file):
    calibration.save(file)
    with np.load(file, allow_pickle=False) as content:
        return {name: content[name].tobytes() for name in content.files}


@pytest.mark.parametrize("count", [8, 33, 200])
def test_what_is_learned_apart_is_what_is_learned_at_once(path, graph, tmp_path, count):
    samples = make_samples(path, count)
    whole, seen = calibrate_apart([graph], samples, ignore_progress, None)
    wanted = calibrate_sizes([graph], samples, ignore_progress, None)
    assert save(whole, tmp_path / "a.npz") == save(wanted, tmp_path / "b.npz")
    assert whole.samples == count
    session = load(path)
    chosen = [samples[place] for place in spread_places(count)]
    reference = Reference(chosen, [session.run(sample) for sample in chosen])
    again = hold_out(graph, samples, reference, ignore_progress)
    known = hold_out(graph, samples, reference, ignore_progress, seen)
    assert known.places == again.places
    assert known.calibration is seen.calibration
    assert save(known.calibration, tmp_path / "c.npz") == save(
        again.calibration, tmp_path / "d.npz"
    )


def test_another_network_is_calibrated_by_itself(path, graph):
    samples = make_samples(path, 12)
    _, seen = calibrate_apart([graph], samples, ignore_progress, None)
    chosen = [samples[place] for place in spread_places(12)]
    reference = Reference(chosen, [load(path).run(sample) for sample in chosen])
    other = graph.clone()
    held = hold_out(other, samples, reference, ignore_progress, seen)
    assert held.calibration is not seen.calibration


def test_few_samples_and_checkpoints_are_calibrated_at_once(path, graph, tmp_path):
    assert calibrate_apart([graph], make_samples(path, 7), ignore_progress, None)[1] is None
    file = tmp_path / "half.calibration"
    assert calibrate_apart([graph], make_samples(path, 12), ignore_progress, file)[1] is None
    assert file.exists()


def test_a_bad_sample_is_named_by_its_number_among_all(path, graph):
    arrays = np.ones((12, 1, 3, 6, 6), np.float32)
    arrays[7, 0, 0, 0, 0] = np.nan
    samples = read_samples([{"x": array} for array in arrays], load(path).inputs)
    with pytest.raises(CalibrationError, match="sample 7"):
        calibrate_apart([graph], samples, ignore_progress, None)
