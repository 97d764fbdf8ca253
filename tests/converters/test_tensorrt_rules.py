"""NVIDIA's rules: one broken graph for each, and clean graphs without a finding."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.fusion import report_fusion
from edgekit.converters.fusion.tensorrt_rules import RULES, check_rules
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.write_onnx import write_onnx
from edgekit.targets.errors import ModelError

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)
SCALES = (np.abs(WEIGHT).max(axis=(1, 2, 3)) / 127).astype(np.float32)

SCALE, ZERO = np.float32(0.1), np.int8(0)


class Net:
    """A graph of pairs and layers, made node by node."""

    def __init__(self):
        self.nodes, self.constants, self.outputs = [], {}, []

    def constant(self, name, array):
        self.constants[name] = array
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def pair(self, source, name, *, scale=SCALE, zero=ZERO, **attributes):
        zero = np.broadcast_to(zero, np.shape(scale)) if np.ndim(zero) == 0 else zero
        parameters = [
            self.constant(f"{name}_s", np.asarray(scale)),
            self.constant(f"{name}_z", np.array(zero)),
        ]
        codes = self.node("QuantizeLinear", [source, *parameters], f"{name}_q", **attributes)
        return self.node("DequantizeLinear", [codes, *parameters], f"{name}_dq", **attributes)

    def weight(self, name="w", scale=SCALES, axis=0):
        source = self.constant(name, WEIGHT)
        return self.pair(source, f"{name}_pair", scale=scale, axis=axis)

    def conv(self, source, name, weight=None, **inputs):
        more = list(inputs.values())
        return self.node("Conv", [source, weight or self.weight(f"{name}_w"), *more], name)

    def build(self, *outputs):
        info = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, 3, 3])
            for name in ("x", *outputs)
        ]
        constants = [numpy_helper.from_array(array, key) for key, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "net", info[:1], info[1:], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def clean():
    net = Net()
    a = net.node("Relu", [net.conv(net.pair("x", "in"), "a")], "relu")
    b = net.conv(net.pair(a, "for_b"), "b")
    c = net.node("Add", [b, net.pair(a, "for_sum")], "sum")
    return net, net.conv(net.pair(c, "for_c"), "c")


def uint8_codes(net):
    net.conv(net.pair("x", "in", zero=np.uint8(0)), "y")


def a_zero_point(net):
    net.conv(net.pair("x", "in", zero=np.int8(3)), "y")


def a_computed_scale(net):
    net.nodes.append(helper.make_node("ReduceMax", ["x"], ["s"], name="s", keepdims=0))
    net.constant("z", np.array(0, np.int8))
    codes = net.node("QuantizeLinear", ["x", "s", "z"], "q")
    net.conv(net.node("DequantizeLinear", [codes, "s", "z"], "dq"), "y")


def a_negative_scale(net):
    net.conv(net.pair("x", "in", scale=np.float32(-0.1)), "y")


def scales_of_an_activation(net):
    net.conv(net.pair("x", "in", scale=np.full(4, 0.1, np.float32), axis=1), "y")


def one_scale_of_weights(net):
    net.conv(net.pair("x", "in"), "y", net.weight(scale=np.float32(0.02)))


def scales_of_the_wrong_axis(net):
    net.conv(net.pair("x", "in"), "y", net.weight(axis=1))


def an_integer_bias(net):
    net.constant("b", np.arange(4, dtype=np.int32))
    net.constant("bs", np.full(4, 0.01, np.float32))
    net.conv(
        net.pair("x", "in"), "y", bias=net.node("DequantizeLinear", ["b", "bs"], "bias", axis=0)
    )


def constant_codes(net):
    net.constant("codes", np.ones((4, 4, 1, 1), np.int8))
    net.constant("cs", SCALES)
    net.conv(net.pair("x", "in"), "y", net.node("DequantizeLinear", ["codes", "cs"], "w", axis=0))


def float_weights_alone(net):
    net.conv(net.pair("x", "in"), "y", net.constant("w", WEIGHT))


def a_float_input_alone(net):
    net.conv("x", "y")


def a_quantized_output(net):
    net.pair(net.conv(net.pair("x", "in"), "a"), "out")
    net.nodes[-1].output[0] = "y"


def a_pair_before_relu(net):
    net.node("Relu", [net.pair(net.conv(net.pair("x", "in"), "a"), "out")], "y")


def a_float_residual(net):
    net.node("Add", [net.conv(net.pair("x", "in"), "a"), "x"], "y")


def codes_that_stay(net):
    net.constant("s", np.array(0.1, np.float32))
    net.constant("z", np.array(0, np.int8))
    codes = net.node("QuantizeLinear", ["x", "s", "z"], "q")
    net.node("Cast", [codes], "y", to=onnx.TensorProto.FLOAT)


def an_integer_operator(net):
    net.nodes.append(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="dynamic")
    )
    net.node("DequantizeLinear", ["q", "s", "z"], "y")


BROKEN = {
    "zero points are 0": [a_zero_point],
    "codes are signed": [uint8_codes],
    "scales are constants": [a_computed_scale, a_negative_scale],
    "activations have one scale": [scales_of_an_activation],
    "weights have a scale for each channel": [one_scale_of_weights, scales_of_the_wrong_axis],
    "biases are floats": [an_integer_bias],
    "weights are floats behind a pair": [constant_codes],
    "all inputs of a layer": [float_weights_alone, a_float_input_alone],
    "no output of a layer for its own sake": [a_quantized_output],
    "no pair before an activation": [a_pair_before_relu],
    "the other input of a sum": [a_float_residual],
    "pairs": [codes_that_stay],
    "operators": [an_integer_operator],
}


def test_every_rule_has_a_broken_graph_and_a_source():
    assert BROKEN.keys() == RULES.keys()
    assert all(rule.source for rule in RULES.values())


@pytest.mark.parametrize(
    ("rule", "spoil"), [(rule, spoil) for rule, all_ in BROKEN.items() for spoil in all_]
)
def test_a_breach_is_found(rule, spoil):
    net = Net()
    spoil(net)
    findings = check_rules(net.build("y"))
    assert rule in {finding.rule for finding in findings}
    # A graph without any scale computed at run time breaks its own rule alone.
    if spoil not in (a_computed_scale, an_integer_operator):
        assert {finding.rule for finding in findings} == {rule}
    assert RULES[rule].source in str(next(f for f in findings if f.rule == rule))


def test_a_clean_graph_has_no_finding():
    net, output = clean()
    model = net.build(output)
    onnx.checker.check_model(model, full_check=True)
    assert check_rules(model) == []


def test_written_files_are_clean_and_fused(residual_net, tmp_path):
    quantized = residual_net
    path = write_onnx(quantized, tmp_path / "net.onnx", style="tensorrt", most_opset=13)
    model = onnx.load(path)
    assert next(entry.version for entry in model.opset_import if not entry.domain) == 13
    assert check_rules(model) == []
    report = report_fusion(path, "tensorrt")
    assert all(fused == there for fused, there in report.count().values())
    assert {"Conv", "Add", "Gemm"} <= report.count().keys()
    assert not report.left_float
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Relu") == 2


@pytest.mark.parametrize("is_read_as_codes", [False, True])
def test_a_pool_is_on_codes_only_where_its_output_is_too(tmp_path, is_read_as_codes):
    net = Net()
    pool = net.node("AveragePool", [net.pair("x", "in")], "pool", kernel_shape=[1, 1])
    if is_read_as_codes:
        net.conv(net.pair(pool, "out"), "y")
    else:
        net.node("Sigmoid", [pool], "y")
    onnx.save(net.build("y"), tmp_path / "net.onnx")
    nodes = {node.name: node for node in report_fusion(tmp_path / "net.onnx", "tensorrt").nodes}
    assert nodes["pool"].integer is is_read_as_codes
    assert is_read_as_codes or "what reads it is not quantized" in nodes["pool"].reason


def test_a_file_that_breaks_a_rule_is_refused(tmp_path):
    net = Net()
    a_zero_point(net)
    onnx.save(net.build("y"), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="zero point is not 0"):
        report_fusion(tmp_path / "net.onnx", "tensorrt")


@pytest.fixture
def residual_net(model_file):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    net (float[1, 3, 8, 8] x) => (float[1, 5] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        b = Relu (a)
        c = Conv (b, w2)
        d = Add (c, b)
        e = Relu (d)
        f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
        g = GlobalAveragePool (f)
        h = Flatten (g)
        y = Gemm <transB = 1> (h, w3, b3)
    }"""
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 1, 1), "w3": (5, 8), "b3": (5,)}
    weights = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = read_onnx(model_file(text, **weights))
    simplify(model)
    samples = [{"x": RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(6)]
    learned = calibrate(model, samples)
    return quantize(model, learned, method=RangeChoice(symmetric=True))


def test_asymmetric_grids_are_refused(graph_builder, tmp_path):
    builder = graph_builder()
    model = builder.build(builder.conv(builder.input([1, 3, 6, 6]), 3, 4, low=0.0))
    with pytest.raises(ModelError, match=r"zero point.*symmetric"):
        write_onnx(model, tmp_path / "net.onnx", style="tensorrt")
