"""`deploy` of networks that are no .onnx file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit import EdgekitError, ModelError
from edgekit.cli import app
from edgekit.inspection import inspect


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
    pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")
    from test_read_tflite import cnn_file

    path = tmp_path_factory.mktemp("tflite") / "cnn.tflite"
    path.write_bytes(cnn_file())
    return path


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(0, 1, (8, 6, 5, 3)).astype(np.float32)


def test_a_tflite_file_becomes_a_bundle(tflite, samples, tmp_path):
    deployed = edgekit.deploy(
        tflite, calibration=samples, output=tmp_path / "out", format=["native", "onnx"]
    )
    report = deployed.report
    assert report.model == "cnn.tflite"
    assert report.sizes[0].form == "float, TFLite, as given"
    assert report.sizes[0].bytes == tflite.stat().st_size
    assert len(report.latencies) == 3
    assert report.snr_db > 20
    session = deployed.load()
    assert [(spec.name, spec.shape) for spec in session.inputs] == [("image", (None, 6, 5, 3))]
    assert "Transpose" not in {layer.kind for layer in report.layers}


def test_a_tflite_file_on_the_command_line(tflite, samples, tmp_path):
    np.savez(tmp_path / "samples.npz", image=samples)
    arguments = ["--calibration", str(tmp_path / "samples.npz"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["deploy", str(tflite), "--precision", "int8", *arguments])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "model.plan").is_file()
    result = CliRunner().invoke(app, ["inspect", str(tflite)])
    assert result.exit_code == 0, result.output
    assert "TensorFlow Lite model" in result.output


def test_inspect_counts_what_a_tflite_file_holds(tflite):
    facts = inspect(tflite)
    assert facts["operators"]["Conv"] == 1
    assert facts["quantized_values"] == 0
    assert facts["inputs"][0]["shape"] == ["N", 6, 5, 3]


def test_a_quantized_file_keeps_its_scales_unless_told(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")
    from test_own_scales import network_file

    path = tmp_path / "net.tflite"
    path.write_bytes(network_file())
    inputs = np.random.default_rng(0).uniform(-2, 2, (8, 8, 8, 3)).astype(np.float32)
    own = edgekit.deploy(path, calibration=inputs, output=tmp_path / "own")
    assert own.report.ranges == "the model's own"
    assert own.report.sizes[0].form == "int8, TFLite, as given"
    assert own.calibration is None
    anew = edgekit.deploy(path, calibration=inputs, output=tmp_path / "anew", quantize="int8")
    assert anew.report.ranges != "the model's own"
    assert anew.calibration.samples == 8


def test_what_is_no_network_is_named(samples, tmp_path):
    with pytest.raises(EdgekitError, match=r"path of an \.onnx or \.tflite file, not ndarray"):
        edgekit.deploy(samples, calibration=samples, output=tmp_path / "out")
    (tmp_path / "bad.tflite").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a TensorFlow Lite model"):
        edgekit.deploy(tmp_path / "bad.tflite", calibration=samples, output=tmp_path / "out")


def find_wake_words() -> Path:
    spec = importlib.util.find_spec("openwakeword")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("openwakeword is not installed")
    return Path(spec.submodule_search_locations[0]) / "resources" / "models"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embedding_model", (1, 76, 32, 1)),
        ("alexa_v0.1", (1, 16, 96)),
        ("melspectrogram", (1, 1280)),
    ],
)
def test_wake_word_files_of_others_run_natively(tmp_path, name, shape):
    pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")
    folder = find_wake_words()
    random = np.random.default_rng(0)
    inputs = random.normal(0, 1, (16, *shape)).astype(np.float32)
    deployed = edgekit.deploy(
        folder / f"{name}.tflite",
        calibration=inputs[:, 0],
        output=tmp_path / "out",
        format="native",
    )
    assert deployed.report.snr_db > 20
