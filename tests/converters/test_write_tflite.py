"""TFLite files that LiteRT computes as the native runtime does."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpret_tflite import run_bytes

import edgekit
from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.lower import fuse_floats, lower
from edgekit.converters.passes import simplify
from edgekit.converters.program import Pool, PoolKind
from edgekit.converters.quantization import keep_float
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.reference import run_program
from edgekit.converters.tflite import Weights, write_tflite
from edgekit.converters.tflite.compare import compare_operators
from edgekit.converters.tflite.model_file import ModelFile
from edgekit.converters.tflite.pooling import count_elements, mean_scale
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.write import make_file
from edgekit.converters.write_onnx import write_onnx
from edgekit.converters.write_plan import write_plan
from edgekit.targets.errors import ModelError

ROOT = Path(__file__).parents[2]

# What XNNPACK computes to the byte as docs/arithmetic.md says.
EXACT = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "MAX_POOL_2D", "PAD", "PADV2", "RESHAPE",
    "TRANSPOSE", "CONCATENATION", "SLICE", "STRIDED_SLICE", "LOGISTIC", "TANH", "CAST", "GATHER", "MAXIMUM", "MINIMUM",
}  # fmt: skip


def has_multiplier(program, op):
    """Whether the depthwise convolution that a mean becomes can have the mean's multiplier to the last bit."""
    x, y = program.tensors[op.input], program.tensors[op.output]
    counts = count_elements(op.window, x, y.shape[1:3], include_pad=op.count_include_pad)
    count = counts.flat[0]
    scale = np.float32(x.scale) * mean_scale(x, y, float(count)) / np.float32(y.scale)
    wanted = np.float32(x.scale) / (np.float32(y.scale) * count)
    return bool((counts == count).all() and scale == wanted)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_each_operator_gives_the_program_s_codes(image_net, data):
    net = image_net(data)
    program = lower(net.build(), net.batch, fuse=False)
    recorded = run_program(program, {program.inputs[0]: net.images()})
    operators = {op.name: op for op in program.ops}
    for found in compare_operators(program, recorded, run_bytes):
        allowed = 0 if set(found.written) <= EXACT else 1
        op = operators[found.name]
        if isinstance(op, Pool) and op.pool is not PoolKind.MAX:
            allowed = 0 if has_multiplier(program, op) else 1
        assert found.largest <= allowed, found
    for found in compare_operators(program, recorded, partial(run_bytes, reference=True)):
        assert found.largest <= 1, found


def quantize_on_noise(path, shape):
    """Returns a network quantized on four samples of noise, and the samples."""
    graph = read_onnx(path)
    simplify(graph)
    random = np.random.default_rng(0)
    samples = [
        {graph.graph.inputs[0].name: random.normal(0, 0.5, shape).astype(np.float32)}
        for _ in range(4)
    ]
    return quantize(graph, calibrate(graph, samples)), samples


def check_three_forms(path, shape, folder):
    """Writes the three forms of a network of float32 images and compares their answers byte for byte."""
    model, samples = quantize_on_noise(path, shape)
    summary = write_tflite(lower(model, fuse=False), folder / "net.tflite")
    assert summary.transposes == 0
    assert set(summary.operators) <= {
        *("QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "ADD", "MEAN", "RESHAPE"),
        *("FULLY_CONNECTED", "DEQUANTIZE"),
    }
    style = "ort-x86" if _native.best_isa().startswith("x86") else "ort-arm"
    write_onnx(model, folder / "net.onnx", style=style)
    write_plan(
        lower(model),
        folder / "net.plan",
        isa=_native.best_isa(),
        target="host",
        source_digest="0" * 64,
    )
    sessions = [edgekit.load(folder / f"net.{form}") for form in ("plan", "onnx", "tflite")]
    for sample in samples:
        native, onnx, tflite = (session.run(sample)["logits"] for session in sessions)
        assert native.tobytes() == tflite.tobytes()
        assert native.tobytes() == onnx.tobytes()


def test_three_forms_of_ds_cnn_give_the_same_bytes(tmp_path):
    check_three_forms(ROOT / "benchmarks/ds_cnn/ds_cnn.onnx", (1, 1, 28, 28), tmp_path)


@pytest.mark.slow
def test_three_forms_of_efficientnet_lite0_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    from efficientnet_lite0 import build_model

    try:
        build_model(tmp_path / "float.onnx")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    check_three_forms(tmp_path / "float.onnx", (1, 3, 224, 224), tmp_path)


def test_the_same_program_gives_the_same_bytes(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 3, 8, 8])
    program = lower(builder.build(builder.conv(x, 3, 4, (3, 3), pads=[1, 1, 1, 1])), fuse=False)
    assert make_file(program).data == make_file(program).data


def test_constants_are_aligned_and_the_first_buffer_is_empty(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 3, 8, 8])
    program = lower(builder.build(builder.conv(x, 3, 4, (3, 3))), fuse=False)
    data = make_file(program).data
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    assert model.buffers[0].data is None
    for buffer in model.buffers[1:]:
        place = data.index(bytes(buffer.data))
        assert place % 16 == 0 or len(buffer.data) < 16
    for code in model.operatorCodes:
        assert code.builtinCode == code.deprecatedBuiltinCode > 0
    kinds = {code.builtinCode: code.version for code in model.operatorCodes}
    assert kinds[schema.BuiltinOperator.CONV_2D] == 3
    assert [signature.signatureKey for signature in model.signatureDefs] == [b"serving_default"]


def test_what_tflite_lacks_is_refused_by_node(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 2, 4, 4])
    weight = builder.weight((2, 3, 3, 3), 1)
    y = builder.node(
        "ConvTranspose", [x, weight, builder.bias(x, weight)], dilations=[2, 2], pads=[1, 1, 1, 1]
    )
    program = lower(builder.build(y), fuse=False)
    with pytest.raises(ModelError, match=r"node 'convtranspose_0' .*dilated.*native"):
        make_file(program)


FLOAT_NETWORK = """
<ir_version: 9, opset_import: ["" : 20]>
net (float[1, 3, 9, 8] image) => (float[1, 4] logits, float[1, 6, 9, 8] map) {
  a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1, b1)
  b = Relu (a)
  c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 6> (b, w2)
  sum = Add (c, b)
  d = Clip (sum, low, high)
  map = HardSwish (d)
  e = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (d)
  f = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (e)
  g = LeakyRelu <alpha = 0.2> (f)
  h = Flatten (g)
  i = Gemm <transB = 1> (h, w3, b3)
  j = LayerNormalization (i, s, t)
  k = Gelu (j)
  l = Tanh (k)
  logits = Softmax (l)
}
"""


@pytest.fixture
def float_model(model_file):
    random = np.random.default_rng(1)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    path = model_file(
        FLOAT_NETWORK,
        w1=weights(6, 3, 3, 3),
        b1=weights(6),
        w2=weights(6, 1, 3, 3),
        low=np.float32(-0.5),
        high=np.float32(1.5),
        w3=weights(4, 36),
        b3=weights(4),
        s=weights(4),
        t=weights(4),
    )
    model = read_onnx(path)
    simplify(model)
    for node in model.graph:
        keep_float(node)
    return path, fuse_floats(lower(model, fuse=False))


@pytest.mark.parametrize(
    ("weights", "tolerance"),
    [(Weights.FLOAT32, 1e-5), (Weights.FLOAT16, 5e-3), (Weights.INT8, 0.1)],
)
def test_float_networks_answer_as_onnx_runtime_does(float_model, tmp_path, weights, tolerance):
    path, program = float_model
    summary = write_tflite(program, tmp_path / "net.tflite", weights=weights)
    # Only before Flatten, whose layer could take its columns in another order.
    assert summary.transposes <= 1
    assert ("DEQUANTIZE" in summary.operators) == (weights is Weights.FLOAT16)
    session = edgekit.load(tmp_path / "net.tflite")
    image = np.random.default_rng(2).normal(0, 1, (1, 3, 9, 8)).astype(np.float32)
    wanted, given = edgekit.load(path).run(image), session.run(image)
    for name in ("logits", "map"):
        assert given[name].shape == wanted[name].shape
        assert np.abs(given[name] - wanted[name]).max() <= tolerance


PLAIN_NETWORK = """
<ir_version: 9, opset_import: ["" : 20]>
net ({kind}[2, 5, 1] x) => (float[2, 5, 4] hot, {kind}[2, 5, 4] wide, float[2, 5, 4] few) {{
  wide = Expand (x, shape)
  a = {comparison} (wide, classes)
  hot = Cast <to = 1> (a)
  b = {comparison} (x, classes)
  few = Cast <to = 1> (b)
}}
"""


@pytest.mark.parametrize(
    ("comparison", "written"),
    [("Equal", "EQUAL"), ("Less", "LESS"), ("LessOrEqual", "LESS_EQUAL"), ("Greater", "LESS")],
)
@pytest.mark.parametrize(("kind", "dtype"), [("int32", "int32"), ("float", "float32")])
def test_comparisons_and_expansions_are_onnx_runtime_s(
    model_file, tmp_path, kind, dtype, comparison, written
):
    classes = np.arange(4).astype(dtype).reshape(1, 1, 4)
    text = PLAIN_NETWORK.format(kind=kind, comparison=comparison)
    path = model_file(text, shape=np.array([2, 5, 4]), classes=classes)
    model = read_onnx(path)
    for node in model.graph:
        keep_float(node)
    program = lower(model, fuse=False)
    summary = write_tflite(program, tmp_path / "net.tflite")
    assert {written, "BROADCAST_TO", "CAST"} <= set(summary.operators)
    x = np.array([0, 1, 2, 3, 4, -1, 3, 2, 1, 0]).astype(dtype).reshape(2, 5, 1)
    wanted = edgekit.load(path).run({"x": x})
    given = edgekit.load(summary.path).run({"x": x})
    for name, array in wanted.items():
        np.testing.assert_array_equal(given[name], array)
        assert given[name].dtype == array.dtype


def test_comparisons_that_tflite_lacks_are_refused(model_file):
    text = PLAIN_NETWORK.format(kind="uint8", comparison="Less")
    path = model_file(text, shape=np.array([2, 5, 4]), classes=np.arange(4).astype(np.uint8))
    model = read_onnx(path)
    for node in model.graph:
        keep_float(node)
    with pytest.raises(ModelError, match=r"compares no uint8"):
        make_file(lower(model, fuse=False))


@pytest.mark.parametrize(
    ("function", "low", "high", "attributes", "written"),
    [
        ("Sigmoid", 0, 255 / 256, {}, ("LOGISTIC",)),
        ("Tanh", -1, 127 / 128, {}, ("TANH",)),
        ("Elu", -1, 2, {}, ("ELU",)),
        ("Gelu", -0.2, 2, {}, ("GELU",)),
        ("Exp", 0, 8, {}, ("EXP",)),
        ("Relu", 0, 2, {}, ("MUL",)),
        ("Neg", -2, 2, {}, ("MUL",)),
        ("LeakyRelu", -0.4, 2, {"alpha": 0.2}, ("DEQUANTIZE", "LEAKY_RELU", "QUANTIZE")),
        ("HardSwish", -0.4, 2, {}, ("DEQUANTIZE", "HARD_SWISH", "QUANTIZE")),
        ("Abs", 0, 2, {}, ("DEQUANTIZE", "ABS", "QUANTIZE")),
        ("HardSigmoid", 0, 255 / 256, {}, ("DEQUANTIZE", "MUL", "ADD", "QUANTIZE")),
        ("Softplus", 0, 2.2, {}, ("CAST", "ADD", "GATHER")),
        ("Sin", -1, 1, {}, ("CAST", "ADD", "GATHER")),
    ],
)
def test_functions_are_known_by_their_tables(
    graph_builder, function, low, high, attributes, written
):
    builder = graph_builder()
    x = builder.input([1, 256], limit=2.0371)
    program = lower(builder.build(builder.node(function, [x], low, high, **attributes)), fuse=False)
    scale = float(program.tensors["x:codes"].scale)
    every_code = np.float32(scale) * np.arange(-128, 128, dtype=np.float32)[None]
    recorded = run_program(program, {"x": every_code})
    found = compare_operators(program, recorded, run_bytes)[-1]
    assert found.written == written
    assert found.differing == 0


def test_each_tensor_has_a_name_of_its_own():
    """LiteRT's quantizer goes by names."""
    file = ModelFile()
    for shape in ((1,), (2,), (3,)):
        file.add_tensor("part", shape, np.float32)
    file.add_tensor("part_1", (1,), np.float32)
    names = [tensor.name for tensor in file._tensors]
    assert names == ["part", "part_1", "part_2", "part_1_1"]


def test_logic_and_choices(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> net (float[2, 3] x, float[2, 3] z) => (float[2, 3] y) '
        "{ a = Less (x, z) b = Less (z, x) n = Not (a) o = Or (a, b) d = And (o, n) y = Where (d, x, z) }"
    )
    path = tmp_path / "logic.onnx"
    onnx.save(proto, path)
    graph = read_onnx(path)
    for node in graph.graph:
        keep_float(node)
    made = make_file(lower(graph, fuse=False))
    assert {"LOGICAL_OR", "LOGICAL_AND", "NOT_EQUAL", "SELECT_V2"} <= set(made.operators)
    x, z = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[2, 2, 1], [7, 0, 6]])
    np.testing.assert_array_equal(run_bytes(made.data, [x, z]), np.where(z < x, x, z))
