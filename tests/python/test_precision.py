"""Layers are int8 only where that is faster, and the report says so."""

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit import _native
from edgekit.cli import app

SHAPE = (1, 24, 64, 48)


@pytest.fixture(scope="module")
def conversions_do_not_pay(tmp_path_factory):
    """A sum between two norms, which int8 can't hold: as codes it would cost three conversions."""
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> net (float{list(SHAPE)} x) => (float{list(SHAPE)} y) '
        "{ a = LayerNormalization <axis = 3> (x, s) b = Add (a, x) y = LayerNormalization <axis = 3> (b, s) }"
    )
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.ones(SHAPE[-1], np.float32), "s")
    )
    onnx.save(model, path)
    samples = np.random.default_rng(0).normal(0, 1, (4, *SHAPE[1:])).astype(np.float32)
    np.savez(path.with_name("samples.npz"), x=samples)
    return path


def deploy(path, output, **arguments):
    return edgekit.deploy(
        path, calibration=path.with_name("samples.npz"), output=output, ranges="minmax", **arguments
    )


def test_a_layer_whose_conversions_do_not_pay_stays_float(conversions_do_not_pay, tmp_path):
    deployment = deploy(conversions_do_not_pay, tmp_path / "auto")
    precision = deployment.report.precision
    assert precision.chosen in ("float32", "mixed")
    assert precision.how == "measured"
    times = precision.milliseconds
    assert times[precision.chosen] <= min(times["int8"], times["float32"] * 1.0501)
    assert any(line.startswith("b") for line in precision.float_layers)
    kinds = [layer.kind for layer in deployment.report.layers]
    assert "Binary" not in kinds
    text = str(deployment.report)
    assert "it is faster in float32" in " ".join(text.split())


def test_int8_can_be_forced(conversions_do_not_pay, tmp_path):
    deployment = deploy(conversions_do_not_pay, tmp_path / "int8", precision="int8")
    precision = deployment.report.precision
    assert (precision.chosen, precision.how) == ("int8", "asked for")
    kinds = [layer.kind for layer in deployment.report.layers]
    assert kinds.count("Quantize") >= 2
    assert "Dequantize" in kinds


@pytest.mark.slow
def test_both_precisions_answer_as_float_does(conversions_do_not_pay, tmp_path):
    x = np.load(conversions_do_not_pay.with_name("samples.npz"))["x"][:1]

    def norm(v):
        return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)

    expected = norm(norm(x) + x)
    for precision in ("auto", "int8"):
        deployment = deploy(conversions_do_not_pay, tmp_path / precision, precision=precision)
        y = deployment.load().run({"x": x})["y"]
        np.testing.assert_allclose(y, expected, atol=0.05)


def test_the_choice_for_a_board_is_modelled(conversions_do_not_pay, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.deployment.pack", lambda *arguments: None)
    deployment = deploy(conversions_do_not_pay, tmp_path / "board", target="rpi4")
    precision = deployment.report.precision
    assert precision.how == "modelled"
    assert precision.chosen != "int8"
    assert precision.milliseconds == {}


def test_an_unknown_precision_is_refused(conversions_do_not_pay, tmp_path):
    with pytest.raises(edgekit.EdgekitError, match="precision='fp16'"):
        deploy(conversions_do_not_pay, tmp_path / "dist", precision="fp16")


def test_the_command_line_takes_a_precision(conversions_do_not_pay, tmp_path):
    result = CliRunner().invoke(
        app,
        [
            "deploy",
            str(conversions_do_not_pay),
            "--calibration",
            str(conversions_do_not_pay.with_name("samples.npz")),
            *("--precision", "int8", "--ranges", "minmax", "--output", str(tmp_path / "dist")),
        ],
    )
    assert result.exit_code == 0, result.output
    plan = _native.Plan.open(tmp_path / "dist" / "model.plan")
    assert "Quantize" in [op.kind for op in plan.ops]


def test_formats_that_were_asked_for_stay(conversions_do_not_pay, tmp_path):
    deployment = deploy(conversions_do_not_pay, tmp_path / "asked", formats={"b": "int8"})
    assert "Binary" in [layer.kind for layer in deployment.report.layers]
    with pytest.raises(edgekit.EdgekitError, match=r"'y' \(LayerNormalization\) cannot be int8"):
        deploy(conversions_do_not_pay, tmp_path / "none", formats={"y": "int8"})
    assert not (tmp_path / "none").exists()


def test_the_command_line_takes_formats(conversions_do_not_pay, tmp_path):
    given = [str(conversions_do_not_pay), "--ranges", "minmax", "--precision", "int8"]
    samples = str(conversions_do_not_pay.with_name("samples.npz"))
    more = ["--calibration", samples, "-o", str(tmp_path / "out"), "--format-of", "b=float32"]
    assert CliRunner().invoke(app, ["deploy", *given, *more]).exit_code == 0
    report = CliRunner().invoke(app, ["inspect", str(tmp_path / "out" / "model.plan"), "--json"])
    assert "FloatBinary" in report.stdout


def test_all_layers_can_have_weights_of_four_bits(tmp_path):
    random = np.random.default_rng(3)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 96] x) => (float[1, 10] y) '
        "{ a = MatMul (x, w) b = Relu (a) y = MatMul (b, v) }"
    )
    for name, shape in (("w", (96, 256)), ("v", (256, 10))):
        array = random.normal(0, 0.1, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", x=random.normal(0, 1, (32, 96)).astype(np.float32))
    sizes = {}
    for quantize in ("int8", "int4"):
        deployment = deploy(
            tmp_path / "net.onnx",
            tmp_path / quantize,
            quantize=quantize,
            precision="int8",
            format=["native", "onnx"],
        )
        folder = tmp_path / quantize
        sizes[quantize] = [next(folder.glob(f"*.{end}")).stat().st_size for end in ("plan", "onnx")]
        assert {layer.kind for layer in deployment.report.layers} >= {"FullyConnected"}
    for int4, int8 in zip(sizes["int4"], sizes["int8"], strict=True):
        assert int4 < int8 - 0.45 * 96 * 256
