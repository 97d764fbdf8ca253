"""What lowering makes of nodes: layouts, fusions, and refusals that say what to do."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.lower import lower
from edgekit.converters.lower.linear import largest_sum
from edgekit.converters.program import Conv, DepthwiseConv, FullyConnected, Transpose
from edgekit.converters.quantization import WeightQuantization, set_quantization
from edgekit.converters.reference import run_program
from edgekit.targets.errors import ModelError


def _kinds(program):
    return [op.kind for op in program.ops]


def test_images_are_channels_last_without_a_transpose(graph_builder):
    builder = graph_builder()
    x = builder.input(["N", 3, 8, 8])
    y = builder.conv(x, 3, 4, pads=[1, 1, 1, 1])
    y = builder.conv(y, 4, 4, group=4)
    y = builder.node("GlobalAveragePool", [y], -1, 1)
    y = builder.gemm(builder.node("Flatten", [y], like=y), 4, 5)
    program = lower(builder.build(y), 2)
    assert _kinds(program) == [
        "Quantize",
        "Conv",
        "DepthwiseConv",
        "GlobalMean",
        "Reshape",
        "FullyConnected",
        "Dequantize",
    ]
    assert program.tensors["x"].shape == (2, 3, 8, 8)
    assert program.tensors["conv_0_out"].shape == (2, 8, 8, 4)
    assert program.ops[1].weights.shape == (4, 3, 3, 3)
    assert program.ops[2].weights.shape == (4, 3, 3)


def test_flatten_of_an_image_moves_weights_not_codes(graph_builder):
    builder = graph_builder()
    x = builder.input(["N", 3, 2, 4])
    y = builder.node("MaxPool", [x], like=x, kernel_shape=[1, 1])
    flat = builder.node("Flatten", [y], like=y)
    model = builder.build(builder.gemm(flat, 24, 5))
    program = lower(model)
    assert "Transpose" not in _kinds(program)
    (layer,) = (op for op in program.ops if isinstance(op, FullyConnected))
    source = model.graph.node("gemm_2").inputs[1].meta["edgekit.quantization"].codes
    np.testing.assert_array_equal(
        layer.weights.reshape(5, 2, 4, 3)[:, 1, 2], source.reshape(5, 3, 2, 4)[:, :, 1, 2]
    )
    image = builder.rng.normal(0, 1, (1, 3, 2, 4)).astype(np.float32)
    codes = run_program(program, {"x": image})
    flattened = program.tensors["flatten_1_out"].to_source_order(codes["flatten_1_out"])
    centred = flattened.astype(np.int64) - program.tensors["x:codes"].zero_point
    total = centred @ source.astype(np.int64).T + layer.bias
    y = program.tensors[layer.output]
    rounded = np.rint(total.astype(np.float32) * layer.multiplier) + y.zero_point
    np.testing.assert_array_equal(codes[layer.output], np.clip(rounded, -128, 127))


def test_reshape_of_an_image_restores_the_source_order(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4, 2, 3])
    shape = builder.constant(np.array([0, 2, -1], np.int64))
    pooled = builder.node("MaxPool", [x], like=x, kernel_shape=[1, 1])
    y = builder.node("Reshape", [pooled, shape], like=x)
    program = lower(builder.build(y))
    assert _kinds(program) == ["Quantize", "Pool", "Transpose", "Reshape", "Dequantize"]
    image = builder.rng.normal(0, 1, (1, 4, 2, 3)).astype(np.float32)
    result = run_program(program, {"x": image})
    np.testing.assert_array_equal(result[program.outputs[0]].shape, (1, 2, 12))
    codes = result["x:codes"].transpose(0, 3, 1, 2).reshape(1, 2, 12)
    np.testing.assert_array_equal(result[program.ops[3].output], codes)


def test_an_input_that_is_only_reshaped_keeps_the_source_order(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4, 2, 3])
    shape = builder.constant(np.array([1, 2, 4, 3], np.int64))
    y = builder.conv(builder.node("Reshape", [x, shape], like=x), 2, 5)
    program = lower(builder.build(y))
    assert _kinds(program) == ["Quantize", "Reshape", "Transpose", "Conv", "Dequantize"]
    image = builder.rng.normal(0, 1, (1, 4, 2, 3)).astype(np.float32)
    result = run_program(program, {"x": image})
    codes = result["x:codes"].reshape(1, 2, 4, 3).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(result[program.ops[2].output], codes)


def test_batch_binds_the_open_dimension(graph_builder):
    builder = graph_builder()
    x = builder.input(["N", 4])
    model = builder.build(builder.gemm(x, 4, 3))
    assert lower(model, 7).tensors["x"].shape == (7, 4)
    builder = graph_builder()
    fixed = builder.build(builder.gemm(builder.input([2, 4]), 4, 3))
    assert lower(fixed).tensors["x"].shape == (2, 4)
    with pytest.raises(ModelError, match="first dimension of 2, not the batch 3"):
        lower(fixed, 3)
    builder = graph_builder()
    open_size = builder.build(builder.conv(builder.input(["N", 1, "H", 5]), 1, 1))
    with pytest.raises(ModelError, match=r"dimension 2 of input 'x' is open \(H\)"):
        lower(open_size)


def test_residual_sums_go_into_the_later_convolution(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4, 6, 6])
    a = builder.conv(x, 4, 4, (1, 1))
    b = builder.conv(x, 4, 4, group=4, pads=[1, 1, 1, 1])
    both = builder.node("Add", [a, b])
    out = builder.node("Add", [both, x])
    program = lower(builder.build(out))
    assert _kinds(program) == ["Quantize", "Conv", "DepthwiseConv", "Binary", "Dequantize"]
    layer = program.ops[2]
    assert isinstance(layer, DepthwiseConv)
    assert layer.residual is not None
    assert layer.residual.tensor == "conv_0_out"
    assert "conv_1_out" not in program.tensors


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_fusing_residuals_changes_no_code(data, image_net):
    net = image_net(data)
    model, images = net.build(), {"x": net.images()}
    apart = run_program(lower(model, net.batch, fuse=False), images)
    fused = run_program(lower(model, net.batch), images)
    for name, codes in fused.items():
        np.testing.assert_array_equal(codes, apart[name])


def test_a_convolution_that_others_read_keeps_its_sum_apart(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4, 6, 6])
    a = builder.conv(x, 4, 4, (1, 1))
    out = builder.node("Add", [a, x])
    assert "Binary" in _kinds(lower(builder.build(out, a)))


def test_a_convolution_added_to_itself_is_a_table(graph_builder):
    builder = graph_builder()
    a = builder.conv(builder.input([1, 4, 6, 6]), 4, 4, (1, 1))
    program = lower(builder.build(builder.node("Add", [a, a])))
    assert _kinds(program) == ["Quantize", "Conv", "Dequantize"]
    assert program.ops[1].table is not None


def test_scalar_constants_become_tables(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 300], limit=2.0)
    y = builder.node("Mul", [x, builder.constant(np.array([-0.5], np.float32))], -1, 1)
    program = lower(builder.build(y))
    assert _kinds(program) == ["Quantize", "Lookup", "Dequantize"]
    values = np.linspace(-2, 2, 300, dtype=np.float32)[None]
    result = run_program(program, {"x": values})[program.outputs[0]]
    assert np.abs(result + values / 2).max() <= 2 / 255 + 1 / 255


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda b, x: b.node("Mul", [x, b.constant(np.ones(4, np.float32))]),
            "a constant that stays float32",
        ),
        (lambda b, x: b.node("CumSum", [x, b.constant(np.array(1))]), "has no operator CumSum"),
        (
            lambda b, x: b.node("Div", [x, b.constant(np.ones(4, np.float32))]),
            "only as a function of one",
        ),
        (lambda b, x: b.node("Gemm", [x, b.weight((4, 4), 1)], transA=1), "transposes its first"),
        (lambda b, x: b.node("Gemm", [x, b.weight((4, 4), 1)], alpha=0.5), "alpha or beta"),
        (lambda b, x: b.node("Softmax", [x], 0, 1, axis=0), "normalizes dimension 0 of 2"),
        (lambda b, x: b.node("Softmax", [x], 0, 1e-4), r"not in \[2\^-17, 1\]"),
        (
            lambda b, x: b.node("Pad", [x, b.constant(np.zeros(4, np.int64))], mode="wrap"),
            "in mode 'wrap'",
        ),
    ],
)
def test_refusals_name_the_node_and_the_other_form(graph_builder, make, reason):
    builder = graph_builder()
    x = builder.input([4, 4])
    model = builder.build(make(builder, x))
    with pytest.raises(ModelError, match=reason) as error:
        lower(model)
    node = model.graph[0]
    assert f"node '{node.name}' ({node.op_type})" in str(error.value)
    assert "format onnx" in str(error.value)


def test_a_float_value_in_the_middle_is_refused(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4])
    y = builder.gemm(x, 4, 4)
    out = builder.gemm(y, 4, 4)
    set_quantization(y, None)
    with pytest.raises(
        ModelError, match=r"node 'gemm_0' \(Gemm\): its output 'gemm_0_out' stays float32"
    ):
        lower(builder.build(out))
    builder = graph_builder()
    x = builder.input([1, 4])
    set_quantization(x, None)
    with pytest.raises(ModelError, match="input 'x' stays float32"):
        lower(builder.build(builder.node("Relu", [x])))


def test_sums_that_could_leave_int32_are_refused(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 70000])
    weight = builder.constant(np.zeros((1, 70000), np.float32))
    record = WeightQuantization(np.full((1, 70000), 127, np.int8), np.array([1e-6], np.float32), 0)
    set_quantization(weight, record)
    model = builder.build(builder.node("Gemm", [x, weight], transB=1))
    with pytest.raises(ModelError, match="leaves int32"):
        lower(model)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-128, 127), st.sampled_from([0, 128]))
def test_the_bound_holds_for_partial_sums_in_any_order(seed, zero_point, shift):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (3, 9)).astype(np.int8)
    bias = rng.integers(-5000, 5000, 3).astype(np.int32)
    bound = largest_sum(weights, bias, zero_point)
    stored = rng.choice([-128, 127], 9) + shift
    order = rng.permutation(9)
    products = (weights.astype(np.int64) * stored)[:, order]
    start = bias - (zero_point + shift) * weights.sum(1, dtype=np.int64)
    assert np.abs(start[:, None] + products.cumsum(1)).max() <= bound
    assert np.abs(start).max() <= bound


def test_grouped_and_depthwise_are_told_apart(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 4, 5, 5])
    y = builder.conv(x, 4, 8, group=4)
    y = builder.conv(y, 8, 8, group=8)
    program = lower(builder.build(y))
    grouped, depthwise = program.ops[1:3]
    assert isinstance(grouped, Conv)
    assert grouped.groups == 4
    assert isinstance(depthwise, DepthwiseConv)


def test_a_transpose_follows_the_layout(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 3, 4, 5])
    y = builder.node("Transpose", [x], like=x, perm=[0, 2, 3, 1])
    program = lower(builder.build(y))
    assert not [op for op in program.ops if isinstance(op, Transpose)]
    image = builder.rng.normal(0, 1, (1, 3, 4, 5)).astype(np.float32)
    result = run_program(program, {"x": image})
    np.testing.assert_array_equal(result[program.ops[1].output], result["x:codes"])


def test_split_and_squeeze(graph_builder):
    builder = graph_builder()
    x = builder.input([1, 6, 1, 5])
    node = ir.node(
        "Split", [x], attributes={"axis": 1, "num_outputs": 2}, num_outputs=2, name="cut"
    )
    for index, value in enumerate(node.outputs):
        value.name = f"part_{index}"
        set_quantization(value, x.meta["edgekit.quantization"])
    builder.nodes.append(node)
    axes = builder.constant(np.array([2], np.int64))
    outputs = [builder.node("Squeeze", [part, axes], like=x) for part in node.outputs]
    program = lower(builder.build(*outputs))
    image = builder.rng.normal(0, 1, (1, 6, 1, 5)).astype(np.float32)
    result = run_program(program, {"x": image})
    codes = result["x:codes"].transpose(0, 3, 1, 2)[:, :, 0]
    np.testing.assert_array_equal(result[f"{outputs[0].name}:codes"], codes[:, :3])
    np.testing.assert_array_equal(result[f"{outputs[1].name}:codes"], codes[:, 3:])
