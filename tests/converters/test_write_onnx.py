"""The QDQ file: what it holds, that ONNX Runtime fuses it, and that a layer's difference would be seen."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.converters.compare import compare_layers
from edgekit.converters.fusion import report_fusion
from edgekit.converters.lower import lower
from edgekit.converters.program import codes_name
from edgekit.converters.quantization import (
    ActivationQuantization,
    get_quantization,
    set_quantization,
)
from edgekit.converters.reference import run_program
from edgekit.converters.write_onnx import write_onnx
from edgekit.targets.errors import EdgekitError, ModelError


def _network(graph_builder, seed=0):
    builder = graph_builder(seed)
    x = builder.input(["N", 3, 12, 12])
    a = builder.conv(x, 3, 8, pads=[1, 1, 1, 1], low=0.0)
    b = builder.conv(a, 8, 8, group=8, pads=[1, 1, 1, 1], low=0.0)
    c = builder.conv(b, 8, 8, (1, 1))
    d = builder.node("Add", [c, a])
    e = builder.node("GlobalAveragePool", [d], -1, 1)
    f = builder.gemm(builder.node("Flatten", [e], like=e), 8, 10)
    return builder, builder.build(builder.node("Softmax", [f], 0, 255 / 256, axis=-1))


def _images(builder):
    return builder.rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32)


def test_the_graph_is_left_as_it_was_and_bytes_repeat(graph_builder, tmp_path):
    _, model = _network(graph_builder)
    digests = set()
    for name in ("a.onnx", "b.onnx"):
        path = write_onnx(model, tmp_path / name, style="ort-x86")
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert [node.op_type for node in model.graph].count("Conv") == 3
    _, again = _network(graph_builder)
    path = write_onnx(again, tmp_path / "c.onnx", style="ort-x86")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in digests


def test_both_storages_say_the_same_numbers(graph_builder, tmp_path):
    builder, model = _network(graph_builder)
    images = _images(builder)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    results = []
    for style, codes in (("ort-x86", "uint8"), ("ort-arm", "int8"), ("openvino", "uint8")):
        path = write_onnx(model, tmp_path / "net.onnx", style=style)
        results.append(onnxruntime.InferenceSession(path, options).run(None, {"x": images})[0])
        proto = onnx.load(path)
        constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        zero_point = onnx.numpy_helper.to_array(constants["x:zero_point"])
        assert zero_point.dtype == codes
        assert zero_point.shape == ()
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_weights_and_biases_are_those_of_the_records(graph_builder, tmp_path):
    _, model = _network(graph_builder)
    proto = onnx.load(write_onnx(model, tmp_path / "net.onnx", style="ort-x86"))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in model.graph:
        for value in node.inputs[1:]:
            record = get_quantization(value)
            if record is not None and not isinstance(record, ActivationQuantization):
                np.testing.assert_array_equal(constants[f"{value.name}:codes"], record.codes)
                np.testing.assert_array_equal(constants[f"{value.name}:scale"], record.scale)
    assert {c.dtype for c in constants.values()} <= {
        np.dtype(t) for t in ("int8", "int32", "uint8", "float32")
    }


def test_onnxruntime_fuses_every_layer(graph_builder, tmp_path):
    _, model = _network(graph_builder)
    report = report_fusion(write_onnx(model, tmp_path / "net.onnx", style="ort-x86"))
    runs = {node.name: node.runs_as for node in report.nodes}
    assert runs == {
        "conv_0": "QLinearConv",
        "conv_1": "QLinearConv",
        "conv_2": "QLinearConv",
        "add_3": "QLinearAdd",
        "globalaveragepool_4": "QLinearGlobalAveragePool",
        "flatten_5": "Flatten",
        "gemm_6": "QGemm",
        "softmax_7": "QLinearSoftmax",
    }
    assert not report.left_float
    assert onnxruntime.__version__ in report.runtime


def test_what_stays_float_says_why(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.input([1, 4, 6, 6])
    a = builder.conv(x, 4, 4)
    b = builder.node("Tanh", [a], -1, 1)
    c = builder.node("Sin", [b], -1, 1)
    d = builder.conv(c, 4, 4)
    e = builder.conv(d, 4, 4, (1, 1))
    model = builder.build(e)
    set_quantization(c, None)
    record = get_quantization(d)
    set_quantization(d, ActivationQuantization(record.scale, record.zero_point, lo=0))
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-x86")
    report = {node.name: node for node in report_fusion(path).nodes}
    assert report["conv_0"].integer
    assert "no integer Tanh" in report["tanh_1"].reason
    assert report["sin_2"].reason == "its output 'sin_2_out' stays float32"
    assert report["conv_3"].reason == "nothing is quantized between Sin 'sin_2' and it"
    assert report["conv_4"].integer
    with pytest.raises(ModelError, match="sin_2"):
        lower(model)


def test_bounds_inside_the_grid_are_kept(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.input([1, 4, 6, 6])
    y = builder.conv(x, 4, 4)
    record = get_quantization(y)
    set_quantization(y, ActivationQuantization(record.scale, record.zero_point, lo=-20, hi=31))
    z = builder.node("MaxPool", [y], like=y, kernel_shape=[1, 1])
    model = builder.build(z)
    images = builder.rng.normal(0, 1, (1, 4, 6, 6)).astype(np.float32)
    program = lower(model)
    recorded = run_program(program, {"x": images})
    assert recorded["conv_0_out"].min() == -20
    assert recorded["conv_0_out"].max() == 31
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-arm")
    for layer in compare_layers(path, program, recorded):
        assert layer.largest == 0


def test_a_wrong_code_is_seen_in_its_layer_alone(graph_builder, tmp_path):
    builder, model = _network(graph_builder)
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-x86")
    program = lower(model, fuse=False)
    recorded = run_program(program, {"x": _images(builder)})
    recorded["conv_1_out"] = recorded["conv_1_out"].copy()
    recorded["conv_1_out"][0, 3, 3, 3] ^= 1
    layers = {layer.name: layer for layer in compare_layers(path, program, recorded)}
    wrong = [name for name, layer in layers.items() if not layer.is_as_promised]
    assert "conv_1_out" in wrong
    assert (layers["conv_1_out"].differing, layers["conv_1_out"].largest) == (1, 1)
    assert layers["conv_0_out"].differing == 0


def test_unrecorded_layers_are_compared_through(graph_builder, tmp_path):
    builder, model = _network(graph_builder)
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-x86")
    program = lower(model)
    recorded = run_program(program, {"x": _images(builder)})
    layers = {layer.name: layer for layer in compare_layers(path, program, recorded)}
    assert layers["add_3_out"].operators == "Conv+Add"
    assert layers["add_3_out"].largest <= 1
    assert "conv_2_out" not in layers


def test_an_old_opset_is_refused(graph_builder, tmp_path):
    builder = graph_builder(opset=11)
    model = builder.build(builder.conv(builder.input([1, 4, 6, 6]), 4, 4))
    with pytest.raises(ModelError, match="opset 11"):
        write_onnx(model, tmp_path / "net.onnx", style="ort-x86")


def test_an_unknown_style_is_refused(graph_builder, tmp_path):
    _, model = _network(graph_builder)
    with pytest.raises(EdgekitError, match=r"'ort-mips'.*ort-x86"):
        write_onnx(model, tmp_path / "net.onnx", style="ort-mips")


def test_openvino_gets_its_bias_in_floats(graph_builder, tmp_path):
    _, model = _network(graph_builder)
    proto = onnx.load(write_onnx(model, tmp_path / "net.onnx", style="openvino"))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    biases = [node.input[2] for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(biases) == 4
    assert all(constants[name].dtype == np.float32 for name in biases)
    assert all(array.dtype != np.int32 for array in constants.values())


@pytest.mark.parametrize("style", ["ort-x86", "ort-arm"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_operators_on_codes_give_the_bytes_of_pairs(style, data, image_net, tmp_path_factory):
    net = image_net(data)
    model = net.build(8)
    folder = tmp_path_factory.mktemp("onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    entry = "x64quantprecision" if style == "ort-x86" else "qdqisint8allowed"
    options.add_session_config_entry(f"session.{entry}", "1")
    images = net.images()
    pairs, operators = (
        _run_for_codes(write_onnx(model, folder / f"{name}.onnx", style=name), options, images)
        for name in (style, f"{style}-qlinear")
    )

    def differ_by(value):
        """Returns by how many codes a value differs, None where a file has no codes of it."""
        name = codes_name(value.name)
        if name not in pairs or name not in operators:
            return None
        return np.abs(pairs[name].astype(int) - operators[name].astype(int)).max()

    def same(value):
        difference = differ_by(value)
        if difference is None and value.producer() is not None:
            return all(same(source) for source in value.producer().inputs if source is not None)
        return not difference

    compared = 0
    for node in model.graph:
        difference = differ_by(node.outputs[0])
        if difference is not None and all(
            same(value) for value in node.inputs if value is not None
        ):
            # Where ONNX Runtime fuses nothing of a pair it computes in floats, and may round the other way.
            assert difference <= 1, node.name
            compared += 1
    assert compared > 0


def _run_for_codes(path, options, images):
    """Returns the codes that each node of the file writes, by name."""
    proto = onnx.load(path)
    given = {output.name for output in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name.endswith(":codes")]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return dict(zip(names, session.run(names, {"x": images}), strict=True))


def test_operators_on_codes_leave_nothing_to_fuse(graph_builder, tmp_path):
    builder, model = _network(graph_builder)
    path = write_onnx(model, tmp_path / "net.onnx", style="ort-x86-qlinear")
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == [
        "QuantizeLinear",
        *["QLinearConv"] * 3,
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "Flatten",
        "QGemm",
        "QLinearSoftmax",
        "DequantizeLinear",
    ]
    report = report_fusion(path, "ort-x86-qlinear")
    assert not report.left_float
    assert report.count()["Conv"] == (3, 3)
    pairs = write_onnx(model, tmp_path / "pairs.onnx", style="ort-x86")
    images = {"x": _images(builder)}
    results = [onnxruntime.InferenceSession(p).run(None, images)[0] for p in (path, pairs)]
    np.testing.assert_array_equal(*results)


def test_floats_between_operators_on_codes(graph_builder, tmp_path):
    """Bounds become a Clip on codes; an operator without a kin reads and writes floats."""
    builder = graph_builder()
    x = builder.input([1, 4, 6, 6])
    y = builder.conv(x, 4, 4)
    record = get_quantization(y)
    set_quantization(y, ActivationQuantization(record.scale, record.zero_point, lo=-20, hi=31))
    z = builder.node("HardSwish", [y], -0.4, 2)
    model = builder.build(builder.node("Concat", [z, y], -2, 2, axis=1), z)
    images = {"x": builder.rng.normal(0, 1, (1, 4, 6, 6)).astype(np.float32)}
    results = []
    for style in ("ort-x86", "ort-x86-qlinear"):
        path = write_onnx(model, tmp_path / "net.onnx", style=style)
        results.append(onnxruntime.InferenceSession(path).run(None, images))
    for pairs, operators in zip(*results, strict=True):
        np.testing.assert_array_equal(pairs, operators)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == [
        "QuantizeLinear",
        "QLinearConv",
        "Clip",
        "DequantizeLinear",
        "HardSwish",
        "QuantizeLinear",
        "QLinearConcat",
        "DequantizeLinear",
        "DequantizeLinear",
    ]


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("codes", ["uint16", "int16"])
def test_16_bits_are_a_finer_grid_over_the_same_range(graph_builder, tmp_path, codes, opset):
    builder = graph_builder(opset=opset)
    x = builder.input([1, 3, 6, 6])
    y = builder.on_grid(builder.conv(x, 3, 4), 0.0, 1.5)
    model = builder.build(builder.conv(y, 4, 4, (1, 1)))
    path = write_onnx(model, tmp_path / "net.onnx", style=f"ort-{codes}")
    proto = onnx.load(path)
    domains = {n.domain for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    assert domains == ({"com.microsoft"} if opset < 21 else {""})
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    zero_point, scale = constants["x:zero_point"], constants["x:scale"]
    assert zero_point.dtype == codes
    record = get_quantization(x)
    if codes == "uint16":
        ends = (np.array([0, 65535]) - int(zero_point)) * float(scale)
        expected = (np.array([-128, 127]) - record.zero_point) * float(record.scale)
        np.testing.assert_allclose(ends, expected, rtol=1e-6)
    else:
        assert zero_point == 0
    graph = onnx.helper.make_model(proto.graph, opset_imports=proto.opset_import, ir_version=10)
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info("conv_0_out", onnx.TensorProto.FLOAT, None)
    )
    images = {"x": builder.rng.normal(0, 1, (1, 3, 6, 6)).astype(np.float32)}
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    values = session.run(["conv_0_out"], images)[0]
    assert values.min() == 0
    assert values.max() <= 1.5 * (1 + 1e-4)
    steps = values / (1.5 / 255)
    assert np.abs(steps - np.rint(steps)).max() > 0.1


def test_16_bit_constants(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.conv(builder.input([1, 3, 6, 6]), 3, 4)
    offset = builder.on_grid(
        builder.constant(np.linspace(-1, 1, 4, dtype=np.float32)[:, None, None]), -1, 1
    )
    model = builder.build(builder.node("Add", [x, offset]))
    for codes in ("uint16", "int16"):
        proto = onnx.load(write_onnx(model, tmp_path / "net.onnx", style=f"ort-{codes}"))
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
        found = constants[f"{offset.name}:codes"].astype(np.float64)
        real = (found - float(constants[f"{offset.name}:zero_point"])) * constants[
            f"{offset.name}:scale"
        ]
        # The 8 bit grid, whose ends these share, ends within half a step of the range.
        np.testing.assert_allclose(real.reshape(-1), np.linspace(-1, 1, 4), atol=1 / 255)
