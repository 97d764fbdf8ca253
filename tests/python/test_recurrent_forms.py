"""`deploy` puts the weights of a recurrent layer into int8 in every form, and says so."""

import numpy as np
import onnx
import pytest

import edgekit

BODY = """
a = Conv <pads = [1, 1]> (x, k) p = Relu (a) t = Transpose <perm = [2, 0, 1]> (p)
{kind} f = Squeeze (hn, zero) y = Gemm <transB = 1> (f, g)
"""
KINDS = {
    "LSTM": "z, hn, next = LSTM <hidden_size = 96> (t, w, r, b, , , state)",
    "GRU": "z, hn = GRU <hidden_size = 96> (t, w, r, b, , state) next = Identity (hn)",
}
GATES = {"LSTM": 4, "GRU": 3}


def write_model(kind, folder):
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[1, 32, 8] x, float[1, 1, 96] state) => '
        f"(float[1, 10] y, float[1, 1, 96] next) {{ {BODY.format(kind=KINDS[kind])} }}"
    )
    rows = GATES[kind] * 96
    shapes = {
        "k": (64, 32, 3),
        "w": (1, rows, 64),
        "r": (1, rows, 96),
        "b": (1, 2 * rows),
        "g": (10, 96),
    }
    for name, shape in shapes.items():
        array = rng.normal(0, 0.15, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    for node in model.graph.node:
        node.name = f"{node.op_type}:{node.output[0]}"
    onnx.save(model, folder / "net.onnx")
    samples = [
        {
            "x": rng.normal(0, 1, (1, 32, 8)).astype(np.float32),
            "state": rng.normal(0, 0.5, (1, 1, 96)).astype(np.float32),
        }
        for _ in range(12)
    ]
    return folder / "net.onnx", samples


@pytest.fixture(scope="module", params=list(KINDS))
def network(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, *write_model(request.param, folder)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "onnx", "tflite"])
def test_every_form_is_small_close_and_named(form, network, tmp_path):
    kind, path, samples = network
    if form == "tflite":
        pytest.importorskip("ai_edge_litert")
    deployment = edgekit.deploy(
        path, calibration=samples, format=form, precision="int8", output=tmp_path / "out"
    )
    report = deployment.report
    assert report.snr_db > 25
    sizes = [size.bytes for size in report.sizes]
    # A quarter, but for what the form's many small operators take.
    assert sizes[1] < 0.5 * sizes[0]
    name = f"{kind}:z"
    assert any(f"int8 weights and float32 states: {name}" in note for note in report.notes)
    answers = deployment.load().run(samples[0])
    wanted = edgekit.load(path).run(samples[0])
    # The state that comes out was never in codes of 8 bits.
    error = np.square(answers["next"] - wanted["next"]).sum() / np.square(wanted["next"]).sum()
    assert error < 1e-3


@pytest.mark.slow
def test_the_native_report_counts_a_layer_as_one(network, tmp_path):
    kind, path, samples = network
    report = edgekit.deploy(
        path, calibration=samples, format="native", precision="int8", output=tmp_path / "out"
    ).report
    assert report.precision.int8_share > 0.99
    named = [line for line in report.precision.float_layers if line.startswith(kind)]
    assert named == [f"{kind}:z: its weights are int8, its states stay float32"]
    kinds = [layer.kind for layer in report.layers]
    assert kinds.count("DynamicFullyConnected") == 1 + 8 * (2 if kind == "GRU" else 1)


@pytest.mark.slow
def test_on_a_board_the_model_of_its_costs_chooses_the_same(network, tmp_path, monkeypatch):
    # Nor are the board's programs compiled.
    monkeypatch.setattr("edgekit.deployment.pack", lambda *arguments: None)
    kind, path, samples = network
    report = edgekit.deploy(
        path, calibration=samples, target="rpi4", format="native", output=tmp_path / "out"
    ).report
    assert report.precision.how == "modelled"
    assert any(layer.kind == "DynamicFullyConnected" for layer in report.layers)
    assert any(f"float32 states: {kind}:z" in note for note in report.notes)


@pytest.mark.parametrize("form", ["native", "onnx"])
def test_weights_that_int8_cannot_hold_stay_float(form, tmp_path):
    """One input is always 0, its weights are so large that codes of the others are 0."""
    rng = np.random.default_rng(5)
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[4, 1, 24] x) => (float[4, 1, 1, 16] y) '
        "{ y = LSTM <hidden_size = 16> (x, w, r) }"
    )
    weights = rng.normal(0, 0.3, (1, 64, 24)).astype(np.float32)
    weights[:, :, 0] = 90
    state = rng.normal(0, 0.3, (1, 64, 16)).astype(np.float32)
    for name, array in (("w", weights), ("r", state)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.graph.node[0].name = "layer"
    onnx.save(model, tmp_path / "net.onnx")
    samples = [{"x": rng.normal(0, 1, (4, 1, 24)).astype(np.float32)} for _ in range(8)]
    for sample in samples:
        sample["x"][..., 0] = 0
    shapes = {"x": (4, 1, 24)}
    reports = {
        precision: edgekit.deploy(
            tmp_path / "net.onnx",
            calibration=samples,
            shapes=shapes,
            format=form,
            precision=precision,
            batch=4,
            output=tmp_path / precision,
        ).report
        for precision in ("int8", "auto")
    }
    assert reports["int8"].snr_db < 10
    assert reports["auto"].snr_db > 60
    assert not any("int8 weights" in note for note in reports["auto"].notes)


@pytest.mark.slow
def test_a_file_with_int8_weights_keeps_their_codes(network, tmp_path):
    kind, path, samples = network
    first = edgekit.deploy(
        path,
        calibration=samples,
        format=["native", "onnx"],
        precision="int8",
        output=tmp_path / "a",
    )
    again = edgekit.deploy(
        first.onnx, calibration=samples, format=["native", "onnx"], output=tmp_path / "b"
    )
    assert again.report.ranges == "the model's own"
    native, other = (deployed.load().run(samples[0]) for deployed in (first, again))
    if kind == "LSTM":
        assert any(f"float32 states: {kind}:z" in note for note in again.report.notes)
        assert again.onnx.stat().st_size < 1.05 * first.onnx.stat().st_size
        for name, wanted in native.items():
            np.testing.assert_array_equal(other[name], wanted, err_msg=name)
    for name, wanted in native.items():
        np.testing.assert_allclose(other[name], wanted, rtol=0, atol=0.05, err_msg=name)


@pytest.mark.parametrize("unsigned", [False, True])
def test_an_lstm_of_other_tools_is_the_numbers_of_its_codes(unsigned, tmp_path):
    """One scale for each direction and a zero point, as ``quantize_dynamic`` writes them."""
    rng = np.random.default_rng(8)
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    low, high, dtype = (0, 255, np.uint8) if unsigned else (-127, 127, np.int8)
    constants = {
        "w": rng.integers(low, high + 1, (2, 12, 32)).astype(dtype),
        "r": rng.integers(low, high + 1, (2, 8, 32)).astype(dtype),
        "ws": np.array([0.004, 0.005], np.float32),
        "rs": np.array([0.003, 0.004], np.float32),
        "wz": np.full(2, 130 if unsigned else 0, dtype),
        "rz": np.full(2, 120 if unsigned else 0, dtype),
    }
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"],
        ["y", "hn", ""],
        name="layer",
        domain="com.microsoft",
        hidden_size=8,
        direction="bidirectional",
    )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "net",
        [info("x", floats, [3, 1, 12])],
        [info("y", floats, [3, 2, 1, 8]), info("hn", floats, [2, 1, 8])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    samples = [{"x": rng.normal(0, 1, (3, 1, 12)).astype(np.float32)} for _ in range(4)]
    deployment = edgekit.deploy(
        path,
        calibration=samples,
        batch=3,
        format="native",
        precision="int8",
        output=tmp_path / "out",
    )
    kinds = {layer.kind for layer in deployment.report.layers}
    assert "DynamicFullyConnected" in kinds
    wanted = edgekit.load(path).run(samples[0])
    for name, found in deployment.load().run(samples[0]).items():
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=0.03, err_msg=name)


def test_an_lstm_whose_scales_are_computed_is_refused(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]> '
        "net (float[3, 1, 12] x, float[1] s) => (float y) "
        "{ y = com.microsoft.DynamicQuantizeLSTM <hidden_size = 8> (x, w, r, , , , , , s, , s) }"
    )
    for name, shape in (("w", (1, 12, 32)), ("r", (1, 8, 32))):
        array = np.zeros(shape, np.int8)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(edgekit.ModelError, match="a scale of it is computed"):
        edgekit.deploy(
            tmp_path / "net.onnx",
            calibration=[{"x": np.ones((3, 1, 12), np.float32), "s": np.ones(1, np.float32)}],
            format="native",
            output=tmp_path / "out",
        )
