"""Files of operators on codes run natively with the codes that ONNX Runtime gives."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.own_scales import describe_rounding, keep_own_scales
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import get_report
from edgekit.converters.read_model import read_model
from edgekit.converters.write_plan import write_plan
from edgekit.session import NativeSession
from edgekit.targets.errors import ModelError

ROOT = Path(__file__).parents[2]
MICROSOFT = "com.microsoft"
STANDARD = {"QLinearConv", "QLinearMatMul"}


class CodesFile:
    """A file of operators on codes of one type; every tensor has its own grid."""

    def __init__(self, dtype="uint8", seed=0, opset=17):
        self.dtype = np.dtype(dtype)
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def grid(self, scale=None, zero_point=None):
        """Returns names of a scale and a zero point."""
        scale = self.random.uniform(0.01, 0.05) if scale is None else scale
        ends = np.iinfo(self.dtype)
        found = self.random.integers(ends.min + 60, ends.max - 60)
        code = found if zero_point is None else zero_point
        return [self.constant(np.float32(scale)), self.constant(np.array(code, self.dtype))]

    def input(self, shape, scale=None, zero_point=None):
        """Adds a float input and returns the operand that its codes are."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        grid = self.grid(scale, zero_point)
        return [self.node("QuantizeLinear", [name, *grid]), *grid]

    def node(self, op_type, inputs, **attributes):
        name = f"{op_type.lower()}{len(self.nodes)}"
        custom = op_type.startswith("Q") and op_type not in STANDARD | {"QuantizeLinear"}
        domain = MICROSOFT if custom else ""
        node = helper.make_node(op_type, inputs, [f"{name}_out"], name, domain=domain, **attributes)
        self.nodes.append(node)
        return f"{name}_out"

    def layer(self, op_type, x, weight, axis, y_scale, per_channel=True, bias=True, **attributes):
        """Adds a QLinearConv, QLinearMatMul or QGemm with random weights of that shape."""
        count = weight[axis]
        codes = self.random.integers(-127, 128, weight).astype(np.int8)
        scale = self.random.uniform(0.002, 0.01, count if per_channel else ()).astype(np.float32)
        sums = self.random.integers(-2000, 2000, count).astype(np.int32)
        operands = [*x, *map(self.constant, (codes, scale, np.zeros(scale.shape, np.int8)))]
        grid = self.grid(y_scale)
        offset = [self.constant(sums)] if bias and op_type != "QLinearMatMul" else []
        if op_type == "QGemm":
            return [self.node(op_type, [*operands, *offset, *grid], **attributes), *grid]
        return [self.node(op_type, [*operands, *grid, *offset], **attributes), *grid]

    def call(self, op_type, *operands, y=None, **attributes):
        """Adds an operator of com.microsoft that ends in a grid."""
        grid = self.grid() if y is None else y
        flat = [name for operand in operands for name in operand]
        return [self.node(op_type, [*flat, *grid], **attributes), *grid]

    def output(self, y):
        self.outputs.append(self.node("DequantizeLinear", y))

    def save(self, path):
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        for value in outputs:
            value.type.tensor_type.ClearField("shape")
        graph = helper.make_graph(self.nodes, "codes", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        shapes = {value.name: value.shape for value in session.get_outputs()}
        for value in outputs:
            shape = shapes[value.name]
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
        del model.graph.output[:]
        model.graph.output.extend(outputs)
        onnx.save(model, path)
        return path


def open_natively(path):
    """Returns a session of the file with its own codes, and the quantized graph."""
    source = read_model(path)
    graph = keep_own_scales(source.graph, source.records, source.dynamic)
    plan = path.with_suffix(".plan")
    write_plan(lower(graph), plan, isa=_native.best_isa(), target="host", source_digest="0" * 64)
    return NativeSession(plan, _native.Plan.open(plan), 1), graph


def count_differences(file, path, runs=4):
    """Returns how many codes of all outputs differ from ONNX Runtime's, and by how much at most."""
    file.save(path)
    session, graph = open_natively(path)
    assert not describe_rounding(graph)
    theirs = onnxruntime.InferenceSession(path)
    scales = {}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.constants}
    for node in file.nodes:
        if node.op_type == "DequantizeLinear":
            scales[node.output[0]] = arrays[node.input[1]]
    differing, most = 0, 0
    for _ in range(runs):
        feed = {
            value.name: file.random.normal(
                0, 2, [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            ).astype(np.float32)
            for value in file.inputs
        }
        given = session.run(feed)
        for name, wanted in zip(file.outputs, theirs.run(file.outputs, feed), strict=True):
            apart = np.abs(np.rint((given[name] - wanted) / scales[name]))
            assert given[name].shape == wanted.shape
            differing += int((apart > 0).sum())
            most = max(most, int(apart.max(initial=0)))
    return differing, most, graph


def make_network(dtype, seed, opset=17, per_channel=True):
    """Convolutions, a pool, a product, moves of codes between them."""
    file = CodesFile(dtype, seed, opset)
    x = file.input([1, 3, 10, 9])
    a = file.layer(
        "QLinearConv", x, (8, 3, 3, 3), 0, 0.05, per_channel, pads=[1, 1, 1, 1], strides=[2, 2]
    )
    b = file.layer("QLinearConv", a, (8, 1, 3, 3), 0, 0.1, per_channel, False, group=8)
    b[0] = file.node("MaxPool", b[:1], kernel_shape=[2, 2], strides=[1, 1])
    b[0] = file.node("Transpose", b[:1], perm=[0, 2, 3, 1])
    b[0] = file.node("Reshape", [b[0], file.constant(np.array([2, -1]))])
    # 8 x (5 x 5 behind the stride, 3 x 3 behind the window, 2 x 2 behind the pool).
    c = file.layer("QLinearMatMul", b, (16, 6), 1, 0.3, per_channel)
    d = file.layer("QGemm", c, (5, 6), 0, 0.5, per_channel, transB=1)
    file.output(c)
    file.output(d)
    return file


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("opset", [12, 13, 17, 21])
def test_layers_give_the_very_codes_of_onnx_runtime(tmp_path, dtype, opset):
    file = make_network(dtype, opset, opset)
    differing, _, graph = count_differences(file, tmp_path / "net.onnx")
    assert differing == 0
    assert not get_report(graph).float_nodes


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "int8"]), st.booleans())
def test_any_grids_give_the_same_codes(tmp_path_factory, seed, dtype, per_channel):
    file = make_network(dtype, seed, 17, per_channel)
    path = tmp_path_factory.mktemp("any") / "net.onnx"
    assert count_differences(file, path, runs=1)[0] == 0


def one_operator(dtype, op_type, *shapes, y=None, **attributes):
    file = CodesFile(dtype, len(op_type))
    operands = [file.input(list(shape)) for shape in shapes]
    grid = None if y is None else file.grid(*y)
    file.output(file.call(op_type, *operands, y=grid, **attributes))
    return file


UNIT = {"uint8": (1 / 256, 0), "int8": (1 / 256, -128)}


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("op_type", "shapes", "attributes"),
    [
        ("QLinearAdd", [(1, 4, 5, 6), (1, 4, 5, 6)], {}),
        ("QLinearMul", [(1, 4, 5, 6), (1, 4, 5, 6)], {}),
        (
            "QLinearAveragePool",
            [(1, 4, 6, 6)],
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        ),
        ("QLinearAveragePool", [(1, 4, 6, 6)], {"kernel_shape": [2, 3], "strides": [2, 1]}),
        ("QLinearGlobalAveragePool", [(1, 6, 5, 7)], {}),
        ("QLinearLeakyRelu", [(2, 30)], {"alpha": 0.1}),
        ("QLinearSigmoid", [(2, 30)], {}),
        ("QLinearSoftmax", [(2, 30)], {"axis": -1, "opset": 17}),
    ],
)
def test_operators_of_onnx_runtime_are_at_most_a_code_away(
    tmp_path, dtype, op_type, shapes, attributes
):
    """Sums, means and functions have rules of their own (docs/arithmetic.md)."""
    y = UNIT[dtype] if op_type in ("QLinearSigmoid", "QLinearSoftmax") else None
    file = one_operator(dtype, op_type, *shapes, y=y, **attributes)
    differing, most, graph = count_differences(file, tmp_path / "net.onnx", runs=10)
    assert not get_report(graph).float_nodes
    assert most <= 1
    assert differing <= 2 if op_type != "QLinearAveragePool" else most <= 1


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_concat_of_several_grids(tmp_path, dtype):
    file = CodesFile(dtype, 1)
    operands = [file.input([1, count, 4, 4]) for count in (2, 3, 2)]
    grid = file.grid()
    names = [name for operand in operands for name in operand]
    file.output([file.node("QLinearConcat", [*grid, *names], axis=1), *grid])
    differing, _, graph = count_differences(file, tmp_path / "net.onnx")
    assert differing == 0
    assert not get_report(graph).float_nodes


def test_a_choice_between_codes(tmp_path):
    file = CodesFile("uint8", 2)
    choice = file.constant(file.random.integers(0, 2, (2, 8)).astype(bool))
    x, y = file.input([2, 8]), file.input([2, 8])
    grid = file.grid()
    file.output([file.node("QLinearWhere", [choice, *x, *y, *grid]), *grid])
    assert count_differences(file, tmp_path / "net.onnx")[1] <= 1


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_moves_of_codes(tmp_path, dtype):
    """What fills a Pad of codes is code 0 where nothing is said, whatever number that is."""
    file = CodesFile(dtype, 3)
    x = file.input([1, 4, 6, 6])
    pads = file.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    y = [file.node("Pad", [x[0], pads]), *x[1:]]
    file.output(y)
    y = [file.node("Pad", [x[0], pads, x[2]]), *x[1:]]
    lo, hi = (file.constant(np.array(code, dtype)) for code in (20, 90))
    y = [file.node("Clip", [y[0], lo, hi]), *x[1:]]
    begin, end = file.constant(np.array([1])), file.constant(np.array([3]))
    y = [file.node("Slice", [y[0], begin, end, begin]), *x[1:]]
    file.output([file.node("Concat", [y[0], y[0]], axis=1), *x[1:]])
    assert count_differences(file, tmp_path / "net.onnx")[0] == 0


def test_inputs_and_outputs_that_are_codes_become_numbers(tmp_path):
    file = make_network("uint8", 5)
    path = file.save(tmp_path / "net.onnx")
    model = onnx.load(path)
    first, last = model.graph.node[0], model.graph.node[-1]
    grid = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name in first.input[1:]]
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info(first.output[0], TensorProto.UINT8, [1, 3, 10, 9])
    )
    model.graph.output[1].CopyFrom(
        helper.make_tensor_value_info(last.input[0], TensorProto.UINT8, [2, 5])
    )
    model.graph.node.remove(first)
    model.graph.node.remove(last)
    onnx.save(model, path)
    codes = np.random.default_rng(0).integers(0, 256, (1, 3, 10, 9)).astype(np.uint8)
    wanted = onnxruntime.InferenceSession(path).run(None, {first.output[0]: codes})
    session, _ = open_natively(path)
    real = (codes.astype(np.float32) - grid[1]) * grid[0]
    given = session.run({first.output[0]: real})
    output = read_model(path).records[last.input[0]]
    np.testing.assert_array_equal(
        np.rint(given[last.input[0]] / output.scale) + output.zero_point + 128, wanted[1]
    )


def test_the_clamp_of_a_grid_is_one_of_the_float_network_too(tmp_path):
    file = CodesFile("uint8", 4)
    x = file.input([1, 3, 6, 6])
    y = file.layer("QLinearConv", x, (4, 3, 3, 3), 0, 0.05)
    zero = next(tensor for tensor in file.constants if tensor.name == y[2])
    zero.CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), y[2]))
    file.output(y)
    path = file.save(tmp_path / "net.onnx")
    source = read_model(path)
    assert [node.op_type for node in source.graph.graph] == ["Conv", "Clip"]
    codes = file.random.integers(-60, 61, (1, 3, 6, 6)).astype(np.float32)
    feed = {"x0": codes * source.records["x0"].scale}
    (wanted,) = onnxruntime.InferenceSession(path).run(None, feed)
    (given,) = onnxruntime.InferenceSession(source.reference).run(None, feed)
    assert np.abs(given - wanted).max() <= 0.0251
    assert given.min() == 0
    graph = keep_own_scales(source.graph, source.records)
    assert [node.op_type for node in graph.graph] == ["Conv"]


def spoil(file, path, op_type, index, name):
    """Gives the first operator of a kind another input."""
    file.save(path)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == op_type)
    node.input[index] = name
    return model, node


def test_what_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "net.onnx"
    model, node = spoil(make_network("uint8", 0), path, "QLinearConv", 1, "rows")
    model.graph.input.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, []))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=rf"node '{node.name}' \(QLinearConv\): a scale of it is"):
        read_model(path)

    model, node = spoil(make_network("uint8", 0), path, "QLinearMatMul", 1, "rows")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "rows"))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"\(QLinearMatMul\): a tensor of it has 2 scales"):
        read_model(path)

    file = CodesFile("uint8")
    x, y = file.input([1, 2, 4, 4]), file.input([1, 2, 4, 4])
    file.output([file.node("Concat", [x[0], y[0]], axis=1), *x[1:]])
    file.save(path)
    with pytest.raises(ModelError, match=r"\(Concat\): it joins codes of several scales"):
        read_model(path)


def test_codes_read_with_two_scales_are_named(tmp_path):
    file = CodesFile("uint8")
    x = file.input([1, 4])
    file.output(x)
    file.output([x[0], *file.grid()])
    path = file.save(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"\(DequantizeLinear\) reads the codes of .* another"):
        read_model(path)


@pytest.mark.parametrize("codes", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("written_as", ["QOperator", "QDQ"])
def test_ds_cnn_of_quantize_static_gives_the_very_codes(tmp_path, written_as, codes):
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (12, 1, 1, 28, 28)).astype(np.float32)
    source, path = ROOT / "benchmarks/ds_cnn/ds_cnn.onnx", tmp_path / "static.onnx"
    (value,) = onnx.load(source).graph.input

    class Reader(quantization.CalibrationDataReader):
        samples = iter([{value.name: image} for image in images])

        def get_next(self):
            return next(self.samples, None)

    quantization.quantize_static(
        source,
        path,
        Reader(),
        quant_format=quantization.QuantFormat[written_as],
        per_channel=True,
        activation_type=quantization.QuantType[codes],
        weight_type=quantization.QuantType.QInt8,
    )
    session, graph = open_natively(path)
    assert not get_report(graph).float_nodes
    theirs = onnxruntime.InferenceSession(path)
    for image in images:
        (wanted,) = theirs.run(None, {value.name: image})
        (given,) = session.run({value.name: image}).values()
        np.testing.assert_array_equal(given, wanted)


def test_the_float_network_can_be_simplified_and_run(tmp_path):
    path = make_network("int8", 9).save(tmp_path / "net.onnx")
    graph = read_model(path).graph
    simplify(graph)
    assert not [n for n in graph.graph if n.op_type.endswith("Linear") or n.domain]
