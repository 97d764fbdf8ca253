"""`deploy(quantize="12x12")` and "12x8": from a small network to a bundle that is verified, inspected and reported."""

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit import ModelError, _native
from edgekit.bundles.verify import verify
from edgekit.cli import app
from edgekit.inspection import inspect

PARTS = ("12x12", "12x8")
BODY = """block (float[1, 3, 12, 10] x) => (float[1, 7] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, first_w) ra = Relu (a)
  b = Conv (ra, expand_w) rb = Clip (b, zero, six)
  c = Conv <group = 24, pads = [1, 1, 1, 1]> (rb, deep_w) rc = Clip (c, zero, six)
  d = Conv (rc, project_w)
  sum = Add (d, ra)
  flat = Flatten (sum)
  y = MatMul (flat, product_w)
}"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An inverted residual block between a first layer and a product."""
    rng = np.random.default_rng(11)
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {BODY}')
    weights = {
        "first_w": rng.normal(0, 0.4, (8, 3, 3, 3)),
        "expand_w": rng.normal(0, 0.5, (24, 8, 1, 1)),
        "deep_w": rng.normal(0, 0.4, (24, 1, 3, 3)),
        "project_w": rng.normal(0, 0.3, (8, 24, 1, 1)),
        "product_w": rng.normal(0, 0.1, (960, 7)),
        "zero": np.array(0),
        "six": np.array(6),
    }
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = node.output[0]
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(model, path)
    samples = rng.normal(0, 1, (48, 1, 3, 12, 10)).astype(np.float32)
    return path, [{"x": sample} for sample in samples]


def deploy(network, output, **arguments):
    path, samples = network
    how = {"ranges": "minmax", "rounding": "moments", **arguments}
    return edgekit.deploy(path, calibration=samples[:16], output=output, **how)


@pytest.fixture(scope="module", params=PARTS)
def deployed(network, request, tmp_path_factory):
    output = tmp_path_factory.mktemp(request.param) / "dist"
    made = deploy(network, output, quantize=request.param, format=["native", "onnx"])
    return request.param, made, output


def answers(session, samples):
    return np.concatenate([session.run(sample)["y"] for sample in samples])


def decibels(given, wanted):
    return 10 * np.log10(np.mean(wanted**2) / np.mean((given - wanted) ** 2))


def test_the_bundle_holds_parts_and_is_verified(deployed):
    _, _, output = deployed
    kinds = [op.kind for op in _native.Plan.open(output / "model.plan").ops]
    assert kinds.count("QuantizeParts") >= 2
    assert {"FloatConv", "Conv", "DepthwiseConv", "FullyConnected"} <= set(kinds)
    assert verify(output).ok


def test_both_forms_answer_as_float_does(deployed, network, tmp_path):
    name, _, output = deployed
    others = network[1][16:]
    wanted = answers(edgekit.load(network[0]), others)
    native = answers(edgekit.load(output), others)
    onnx_form = answers(edgekit.load(output / "model.onnx"), others)
    int8 = deploy(network, tmp_path / "int8", precision="int8").load()
    gained = decibels(native, wanted) - decibels(answers(int8, others), wanted)
    assert gained > (6 if name == "12x12" else 3)
    # The ONNX form has the weights that codes stand for, and float32 where there are parts.
    assert decibels(onnx_form, native) > 25
    assert decibels(onnx_form, wanted) > 25


def test_the_report_and_inspect_name_the_operators(deployed):
    _, made, output = deployed
    assert "QuantizeParts" in {layer.kind for layer in made.report.layers}
    assert "QuantizeParts" in str(made.report)
    assert "QuantizeParts" in made.report.to_html()
    assert "QuantizeParts" in str(inspect(output))
    assert made.report.snr_db > 25


@pytest.mark.parametrize("name", PARTS)
def test_the_tflite_form_says_what_it_cannot_hold(network, tmp_path, name):
    pytest.importorskip("ai_edge_litert", reason="the TFLite form needs the extra tflite")
    with pytest.raises(ModelError, match=r"'b:parts'.*TFLite form cannot hold.*native or onnx"):
        deploy(network, tmp_path / "dist", quantize=name, format="tflite")
    assert not (tmp_path / "dist").exists()


def test_the_command_line_knows_both(network, tmp_path):
    path, samples = network
    np.savez(tmp_path / "samples.npz", x=np.concatenate([sample["x"] for sample in samples[:8]]))
    arguments = ["--calibration", str(tmp_path / "samples.npz"), "-o", str(tmp_path / "out")]
    how = ["--quantize", "12x8", "--ranges", "minmax", "--rounding", "moments"]
    result = CliRunner().invoke(app, ["deploy", str(path), *arguments, *how])
    assert result.exit_code == 0, result.output
    kinds = {op.kind for op in _native.Plan.open(tmp_path / "out" / "model.plan").ops}
    assert "QuantizeParts" in kinds
