"""Reading TensorFlow Lite files whose weights or activations are short: their numbers are the file's own, exactly."""

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")

from ai_edge_litert import schema_py_generated as schema
from interpret_tflite import open_bytes
from test_read_tflite import check, normal, read, run_litert
from tflite_file import TfliteFile

import edgekit
from edgekit import ModelError

SAME = 0
TANH = 4


def layers_file(bits, axis_scales=True, odd=False, dequantize=False):
    """A convolution and a fully connected layer with float activations, their weights codes of ``bits``."""
    rng = np.random.default_rng(bits)
    file = TfliteFile()
    x = file.input("x", (1, 5, 5, 3))
    low, high = -(1 << (bits - 1)) + (bits == 8), (1 << (bits - 1)) - 1

    def weight(name, shape):
        codes = rng.integers(low, high + 1, shape).astype(np.int8)
        scale = rng.uniform(0.01, 0.1, shape[0] if axis_scales else 1).astype(np.float32)
        grid = (scale, np.zeros(scale.size), 0)
        index = (
            file.int4_constant(name, codes, grid) if bits == 4 else file.constant(name, codes, grid)
        )
        reals = codes * scale.reshape(-1, *[1] * (len(shape) - 1))
        if not dequantize:
            return index, reals
        made = file.tensor(f"{name}:real", shape)
        file.operator("DEQUANTIZE", [index], [made], "DequantizeOptions")
        return made, reals

    maps = file.tensor("maps", (1, 5, 5, 3 if odd else 4))
    kernel, kernel_reals = weight("kernel", (3 if odd else 4, 3, 3, 3))
    bias = file.constant("bias", normal(3 if odd else 4))
    conv = {"padding": SAME, "strideH": 1, "strideW": 1}
    file.operator("CONV_2D", [x, kernel, bias], [maps], "Conv2DOptions", **conv)
    size = 25 * (3 if odd else 4)
    shape = file.constant("shape", np.array([1, size], np.int32))
    rows = file.tensor("rows", (1, size))
    file.operator("RESHAPE", [maps, shape], [rows], "ReshapeOptions", newShape=[1, size])
    y = file.tensor("y", (1, 5))
    matrix, matrix_reals = weight("matrix", (5, size))
    file.operator("FULLY_CONNECTED", [rows, matrix], [y], "FullyConnectedOptions")
    return file.pack(y), kernel_reals.astype(np.float32), matrix_reals.astype(np.float32)


def initializers(network):
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in network.model.graph.initializer
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis_scales", [False, True])
@pytest.mark.parametrize("odd", [False, True])
def test_weights_become_the_numbers_that_their_codes_stand_for(tmp_path, bits, axis_scales, odd):
    data, kernel, matrix = layers_file(bits, axis_scales, odd)
    network = read(data, tmp_path)
    given = initializers(network)
    assert np.array_equal(given["kernel"], kernel.transpose(0, 3, 1, 2))
    # Columns are in the order of images with their channels second.
    channels = kernel.shape[0]
    wanted = matrix.reshape(5, 5, 5, channels).transpose(0, 3, 1, 2).reshape(5, -1)
    assert np.array_equal(given["matrix"], wanted)
    assert network.records == {}


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_behind_dequantize_answer_as_litert(tmp_path, bits):
    check(layers_file(bits, dequantize=True)[0], tmp_path, normal(1, 5, 5, 3), tolerance=2e-5)


def test_dynamic_range_answers_within_the_rounding_of_activations(tmp_path):
    """LiteRT rounds each layer's input to int8 of its own range: half a step for each weight, and onwards."""
    data, kernel, matrix = layers_file(8)
    model = read(data, tmp_path).model
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("maps"))
    x = normal(1, 5, 5, 3)
    given, maps = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (wanted,) = run_litert(data, [x])
    lost = np.abs(x).max() / 254 * np.abs(kernel).sum(axis=(1, 2, 3))
    step = (np.abs(maps).max() + lost.max()) / 254
    bound = np.abs(matrix).reshape(5, 25, 4) @ (lost + step)
    assert (np.abs(given - wanted)[0] <= bound.sum(axis=1)).all()
    assert np.abs(wanted).max() > bound.sum(axis=1).max()


def test_activations_of_float16_are_float32(tmp_path):
    file = TfliteFile()
    x = file.input("x", (2, 3), "float16")
    y = file.tensor("y", (2, 3), "float16")
    factor = np.array([0.1, 2.5, -3.0], np.float16)
    file.operator("MUL", [x, file.constant("f", factor)], [y], "MulOptions")
    network = read(file.pack(y), tmp_path)
    numbers = normal(2, 3)
    session = onnxruntime.InferenceSession(network.model.SerializeToString())
    (given,) = session.run(None, {"x": numbers})
    assert np.array_equal(given, numbers * factor.astype(np.float32))


def blockwise_file(size=32, scales_type="float16"):
    rng = np.random.default_rng(0)
    file = TfliteFile()
    x = file.input("x", (4, 64))
    y = file.tensor("y", (4, 8))
    codes = rng.integers(-8, 8, (8, 64)).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, (8, 64 // size)).astype(scales_type)
    place = file.constant("scales", scales)
    matrix = file.int4_constant("matrix", codes)
    table = schema.QuantizationParametersT()
    table.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    table.details = schema.BlockwiseQuantizationT()
    table.details.scales, table.details.zeroPoints, table.details.blockSize = place, -1, size
    file.graph.tensors[matrix].quantization = table
    file.operator("FULLY_CONNECTED", [x, matrix], [y], "FullyConnectedOptions")
    reals = codes.reshape(-1, size) * scales.reshape(-1, 1).astype(np.float32)
    return file, y, table.details, reals.reshape(8, 64).astype(np.float32)


def test_scales_of_blocks_are_multiplied_out(tmp_path):
    file, y, _, reals = blockwise_file()
    data = file.pack(y)
    network = read(data, tmp_path)
    assert np.array_equal(initializers(network)["matrix"], reals)
    x = normal(4, 64)
    session = onnxruntime.InferenceSession(network.model.SerializeToString())
    (given,) = session.run(None, {"x": x})
    (wanted,) = run_with_delegate(data, x)
    assert np.abs(given - wanted).max() < 0.02 * np.abs(wanted).max()


def run_with_delegate(data, x):
    interpreter = open_bytes(data)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(interpreter.get_output_details()[0]["index"])]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("blockSize", 48, "no scale for each block of 48"),
        ("blockSize", 0, "no scale for each block of 0"),
        ("scales", 99, "no scale for each block"),
        ("scales", -5, "no scale for each block"),
        ("zeroPoints", 1, "zero points for its blocks"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, field, value, message):
    file, y, details, _ = blockwise_file()
    setattr(details, field, value)
    with pytest.raises(ModelError, match=message):
        read(file.pack(y), tmp_path)


def test_biases_of_64_bits_are_sums_of_their_layer(tmp_path):
    rng = np.random.default_rng(3)
    file = TfliteFile()
    x = file.input("x", (2, 6), "int16", grid=(1 / 4096, 0, 0))
    y = file.tensor("y", (2, 4), "int16", grid=(1 / 512, 0, 0))
    scale = rng.uniform(0.01, 0.02, 4).astype(np.float32)
    codes = rng.integers(-127, 128, (4, 6)).astype(np.int8)
    bias = rng.integers(-30000, 30000, 4).astype(np.int64)
    inputs = [
        x,
        file.constant("w", codes, (scale, np.zeros(4), 0)),
        file.constant("b", bias, (scale / 4096, np.zeros(4), 0)),
    ]
    file.operator("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions")
    data = file.pack(y)
    network = read(data, tmp_path)
    numbers = rng.integers(-8000, 8001, (2, 6)).astype(np.int16)
    (wanted,) = run_litert(data, [numbers])
    session = onnxruntime.InferenceSession(network.model.SerializeToString())
    (given,) = session.run(None, {"x": numbers.astype(np.float32) / 4096})
    # Half a step of the output's grid, and as much for its kernels' own rounding.
    assert np.abs(given - wanted / 512).max() <= 1 / 512


def lstm_file(time_major=False, peepholes=False, weights="float32", **options):
    rng = np.random.default_rng(7)
    file = TfliteFile()
    batch, steps, features, hidden = 2, 5, 3, 4
    x = file.input("x", (steps, batch, features) if time_major else (batch, steps, features))

    def matrix(name, shape):
        if weights == "float32":
            return file.constant(name, rng.normal(0, 0.5, shape).astype(np.float32))
        codes = rng.integers(-127, 128, shape).astype(np.int8)
        return file.constant(name, codes, (np.float32(0.004), 0, 0))

    def vector(name):
        return file.constant(name, rng.normal(0, 0.5, hidden).astype(np.float32))

    gates = ("i", "f", "c", "o")
    inputs = [x]
    inputs += [matrix(f"w_{gate}", (hidden, features)) for gate in gates]
    inputs += [matrix(f"r_{gate}", (hidden, hidden)) for gate in gates]
    inputs += [vector(f"p_{gate}") if peepholes else -1 for gate in ("i", "f", "o")]
    inputs += [vector(f"b_{gate}") for gate in gates]
    inputs += [-1, -1]
    inputs += [file.state("h", (batch, hidden)), file.state("c", (batch, hidden))]
    inputs += [-1] * 4
    y = file.tensor("y", (steps, batch, hidden) if time_major else (batch, steps, hidden))
    fields = {"fusedActivationFunction": TANH, "timeMajor": time_major, **options}
    file.operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], "UnidirectionalSequenceLSTMOptions", **fields
    )
    return file, y


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("peepholes", [False, True])
def test_a_fused_lstm_is_onnx_s(tmp_path, time_major, peepholes):
    file, y = lstm_file(time_major, peepholes)
    shape = (5, 2, 3) if time_major else (2, 5, 3)
    assert "LSTM" in check(file.pack(y), tmp_path, normal(*shape))


def test_an_lstm_of_int8_weights_has_the_numbers_that_they_stand_for(tmp_path):
    file, y = lstm_file(weights="int8")
    network = read(file.pack(y), tmp_path)
    weight = initializers(network)["y:weight"]
    codes = weight / np.float32(0.004)
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    assert np.abs(codes).max() > 100
    assert any("zeros at the start" in note for note in network.notes)


def test_a_file_with_an_lstm_runs_natively(tmp_path):
    file, y = lstm_file()
    path = tmp_path / "lstm.tflite"
    path.write_bytes(file.pack(y))
    samples = normal(16, 5, 3).reshape(8, 2, 5, 3)
    deployed = edgekit.deploy(
        path, calibration=[{"x": sample} for sample in samples], batch=2, output=tmp_path / "out"
    )
    (wanted,) = run_litert(path.read_bytes(), [samples[0]])
    given = deployed.load().run(samples[0])["y"]
    # int8 inputs at most; the recurrence itself is float32.
    assert np.abs(given - wanted).max() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cellClip": 1.0}, "its cell state is clipped"),
        ({"projClip": 1.0}, "its projection is clipped"),
        ({"fusedActivationFunction": 1}, "its activation is not tanh"),
    ],
)
def test_an_lstm_that_does_more_is_refused(tmp_path, options, message):
    file, y = lstm_file(**options)
    with pytest.raises(ModelError, match=message):
        read(file.pack(y), tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [(1, "its gates are coupled"), (16, "it projects its state"), (20, "it normalizes its gates")],
)
def test_an_lstm_with_other_inputs_is_refused(tmp_path, place, message):
    file, y = lstm_file()
    inputs = file.graph.operators[0].inputs
    inputs[place] = -1 if place == 1 else inputs[12]
    with pytest.raises(ModelError, match=message):
        read(file.pack(y), tmp_path)


def test_sparse_weights_without_dimensions_are_refused(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 4))
    weight = file.constant("w", normal(2, 4))
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = [0, 1]
    file.graph.tensors[weight].sparsity = sparsity
    y = file.tensor("y", (1, 2))
    file.operator("FULLY_CONNECTED", [x, weight], [y], "FullyConnectedOptions")
    with pytest.raises(ModelError, match=r"'w' is stored sparsely.*order of dimensions"):
        read(file.pack(y), tmp_path)
