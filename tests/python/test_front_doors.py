"""`deploy` of networks that are no .onnx file."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization
from typer.testing import CliRunner

import edgekit
from edgekit import EdgekitError, ModelError
from edgekit.cli import app
from edgekit.converters.read_model import read_model
from edgekit.converters.read_tflite import read_tflite
from edgekit.inspection import inspect
from edgekit.session import OnnxSession, load


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
    assert facts["operators"]["CONV_2D"] == 1
    assert facts["operators"]["FULLY_CONNECTED"] == 1
    assert "Conv" not in facts["operators"]
    assert facts["quantized_values"] == 0
    assert facts["inputs"] == [{"name": "image", "shape": ["any", 6, 5, 3], "dtype": "float32"}]
    assert facts["constants"]["float32"] > 100
    assert facts["not_for_deploy"] is None


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


def count_code_differences(deployed, qdq, images, scale):
    """Returns the elements of all outputs and how many codes they are from ONNX Runtime's on the file as given."""
    session = deployed.load()
    apart = []
    for image in images:
        (wanted,) = OnnxSession(qdq, 1).run({"image": image[None]}).values()
        (given,) = session.run({"image": image[None]}).values()
        apart.append(np.rint((given - wanted) / scale))
    return np.abs(np.concatenate(apart))


@pytest.mark.slow
def test_our_own_int8_file_becomes_the_same_plan_again(cnn, images, tmp_path):
    both = edgekit.deploy(
        cnn, calibration=images, output=tmp_path / "a", format=["native", "onnx"], precision="int8"
    )
    again = edgekit.deploy(both.onnx, calibration=images, output=tmp_path / "b", format="native")
    assert again.report.sizes[0].form == "int8, ONNX, as given"
    assert again.report.ranges == "the model's own"
    assert not [note for note in again.report.notes if "other codes" in note]
    wanted, given = (deployed.load().run({"image": images}) for deployed in (both, again))
    for name, array in wanted.items():
        np.testing.assert_array_equal(given[name], array)


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("written_as", ["QDQ", "QOperator"])
def test_a_file_of_quantize_static_keeps_its_codes(cnn, images, tmp_path, symmetric, written_as):
    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.samples = iter([{"image": image[None]} for image in images])

        def get_next(self):
            return next(self.samples, None)

    path = tmp_path / "static.onnx"
    quantization.quantize_static(
        cnn,
        path,
        Reader(),
        quant_format=quantization.QuantFormat[written_as],
        per_channel=True,
        activation_type=quantization.QuantType.QInt8
        if symmetric
        else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )
    deployed = edgekit.deploy(path, calibration=images, output=tmp_path / "out", format="native")
    records = read_model(path).records
    scale = records["logits"].scale
    apart = count_code_differences(deployed, path, images, scale)
    assert not [note for note in deployed.report.notes if "ANSWERS DIFFER" in note]
    # Residual sums and means round by docs/arithmetic.md.
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.05


@pytest.fixture(scope="module")
def wide_file(cnn, images, tmp_path_factory):
    pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")
    out = tmp_path_factory.mktemp("wide") / "out"
    return edgekit.deploy(
        cnn, calibration=images, format="tflite", quantize="16x8", output=out
    ).tflite


def test_codes_of_16_bits_are_read_as_numbers(wide_file, images):
    network = read_tflite(wide_file)
    assert network.records == {}
    assert any("codes of 16 bits" in note for note in network.notes)
    session = onnxruntime.InferenceSession(network.model.SerializeToString())
    x = np.ascontiguousarray(images[:1].transpose(0, 2, 3, 1))
    (given,) = session.run(None, {session.get_inputs()[0].name: x})
    wanted = load(wide_file).run(images[:1])["logits"]
    assert np.abs(given - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_a_file_of_16_bit_codes_becomes_a_native_plan(wide_file, images, tmp_path):
    samples = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    deployed = edgekit.deploy(
        wide_file, calibration=samples, precision="int8", ranges="minmax", output=tmp_path / "out"
    )
    assert deployed.report.snr_db > 20
    assert any("codes of 16 bits" in note for note in deployed.report.notes)


def test_convolutions_of_quantize_dynamic_are_calibrated_and_said(cnn, images, tmp_path):
    path = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(cnn, path, weight_type=quantization.QuantType.QUInt8)
    assert "ConvInteger" in {node.op_type for node in onnx.load(path).graph.node}
    deployed = edgekit.deploy(
        path, calibration=images, output=tmp_path / "out", format="native", precision="int8"
    )
    assert deployed.calibration is not None
    assert [
        note for note in deployed.report.notes if "3 convolutions of the model get codes" in note
    ]
    (wanted,) = OnnxSession(cnn, 1).run({"image": images[:4]}).values()
    given = [
        next(iter(deployed.load().run({"image": image[None]}).values())) for image in images[:4]
    ]
    noise = np.square(np.concatenate(given) - wanted).sum() / np.square(wanted).sum()
    assert -10 * np.log10(noise) > 30


def test_codes_outside_of_qdq_are_named(tmp_path):
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        onnx.helper.make_node("Max", ["q", "z"], ["m"], "most"),
        onnx.helper.make_node("DequantizeLinear", ["m", "s", "z"], ["y"], "dequantize"),
    ]
    path = write_qdq(tmp_path / "codes.onnx", nodes, [1, 2, 4, 4], [1, 2, 4, 4])
    with pytest.raises(ModelError, match=r"node 'most' \(Max\) computes on codes"):
        read_model(path)


def test_a_value_that_is_read_as_numbers_too_stays_exact(tmp_path):
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["r"], "relu"),
        onnx.helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"], "quantize"),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        onnx.helper.make_node("Add", ["d", "r"], ["y"], "add"),
    ]
    path = write_qdq(tmp_path / "both.onnx", nodes, [1, 8], [1, 8])
    source = read_model(path)
    x = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    (y,) = OnnxSession(source.reference, 1).run({"x": x}).values()
    np.testing.assert_array_equal(y, 2 * np.maximum(x, 0))
    deployed = edgekit.deploy(path, calibration=x, output=tmp_path / "out", format="native")
    (wanted,) = OnnxSession(path, 1).run({"x": x}).values()
    (given,) = deployed.load().run({"x": x}).values()
    np.testing.assert_array_equal(given, wanted)


def write_qdq(path, nodes, taken, given):
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", taken), ("y", given))
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        onnx.numpy_helper.from_array(np.array(3, np.int8), "z"),
    ]
    graph = onnx.helper.make_graph(nodes, "qdq", values[:1], values[1:], constants)
    opsets = [onnx.helper.make_opsetid("", 21)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


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
    from test_read_tflite import run_litert

    folder = find_wake_words()
    random = np.random.default_rng(0)
    inputs = random.normal(0, 1, (16, *shape)).astype(np.float32)
    deployed = edgekit.deploy(
        folder / f"{name}.tflite",
        calibration=inputs[:, 0],
        output=tmp_path / "out",
        format="native",
        precision="int8",
    )
    assert deployed.report.snr_db > 25
    assert deployed.report.precision.int8_share == 1
    (wanted,) = run_litert((folder / f"{name}.tflite").read_bytes(), [inputs[0, 0][None]])
    source = read_model(folder / f"{name}.tflite")
    session = OnnxSession(source.reference, 1)
    (given,) = session.run(inputs[0, 0][None]).values()
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)
