"""Reading TensorFlow Lite files: the float network answers as LiteRT does, and damaged files give one clear error."""

import contextlib

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")

from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_file import TfliteFile

from edgekit import ModelError
from edgekit.converters.read_model import read_model
from edgekit.converters.read_tflite import read_tflite
from edgekit.converters.read_tflite.file import parse

SAME, VALID = 0, 1
RELU6 = 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def run_litert(data, inputs):
    """Returns the outputs of LiteRT's plain kernels."""
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def read(data, folder):
    path = folder / "model.tflite"
    path.write_bytes(data)
    return read_tflite(path)


def check(data, folder, *inputs, tolerance=1e-5):
    """Compares what was read with LiteRT; returns the nodes' operators."""
    network = read(data, folder)
    session = onnxruntime.InferenceSession(network.model.SerializeToString())
    names = [info.name for info in session.get_inputs()]
    outputs = session.run(None, dict(zip(names, inputs, strict=True)))
    for given_, wanted in zip(outputs, run_litert(data, inputs), strict=True):
        assert given_.shape == wanted.shape
        np.testing.assert_allclose(given_, wanted, rtol=tolerance, atol=tolerance)
    return [node.op_type for node in network.model.graph.node]


def conv_file(code="CONV_2D", padding=SAME, stride=1, dilation=1, activation=0, size=(9, 8)):
    file = TfliteFile()
    x = file.input("x", (1, *size, 4))
    if code == "CONV_2D":
        weight, count = normal(6, 3, 3, 4), 6
        options, more = "Conv2DOptions", {}
    else:
        weight, count = normal(1, 3, 3, 8), 8
        options, more = "DepthwiseConv2DOptions", {"depthMultiplier": 2}
    reach = 2 * dilation + 1
    out = [max(-(-(n if padding == SAME else n - reach + 1) // stride), 1) for n in size]
    y = file.tensor("y", (1, *out, count))
    file.operator(
        code,
        [x, file.constant("w", weight), file.constant("b", normal(count, seed=1))],
        [y],
        options,
        padding=padding,
        strideH=stride,
        strideW=stride,
        dilationHFactor=dilation,
        dilationWFactor=dilation,
        fusedActivationFunction=activation,
        **more,
    )
    return file.pack(y)


@pytest.mark.parametrize("code", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize(
    ("padding", "stride", "dilation"),
    [(SAME, 1, 1), (SAME, 2, 1), (VALID, 2, 1), (SAME, 1, 2), (VALID, 1, 2)],
)
def test_convolutions_with_every_padding(tmp_path, code, padding, stride, dilation):
    data = conv_file(code, padding, stride, dilation, activation=RELU6)
    assert check(data, tmp_path, normal(1, 9, 8, 4)) == ["Transpose", "Conv", "Clip", "Transpose"]


def test_transposed_convolution(tmp_path):
    for padding, rows in ((SAME, 10), (VALID, 11)):
        file = TfliteFile()
        x = file.input("x", (1, 5, 5, 4))
        y = file.tensor("y", (1, rows, rows, 3))
        shape = file.constant("shape", np.array([1, rows, rows, 3], np.int32))
        file.operator(
            "TRANSPOSE_CONV",
            [shape, file.constant("w", normal(3, 3, 3, 4)), x],
            [y],
            "TransposeConvOptions",
            padding=padding,
            strideH=2,
            strideW=2,
        )
        check(file.pack(y), tmp_path, normal(1, 5, 5, 4))


@pytest.mark.parametrize("code", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("padding", [SAME, VALID])
def test_pools(tmp_path, code, padding):
    file = TfliteFile()
    x = file.input("x", (1, 7, 8, 5))
    y = file.tensor("y", (1, 4, 4, 5) if padding == SAME else (1, 3, 3, 5))
    file.operator(
        code,
        [x],
        [y],
        "Pool2DOptions",
        padding=padding,
        strideH=2,
        strideW=2,
        filterHeight=3,
        filterWidth=3,
    )
    check(file.pack(y), tmp_path, normal(1, 7, 8, 5))


def cnn_file():
    """A convolution, a sum with a constant, a pool by MEAN, and a fully connected layer behind a RESHAPE."""
    file = TfliteFile()
    x = file.input("image", (1, 6, 5, 3), signature=(-1, 6, 5, 3))
    maps = file.tensor("maps", (1, 6, 5, 4), signature=(-1, 6, 5, 4))
    file.operator(
        "CONV_2D",
        [x, file.constant("w", normal(4, 3, 3, 3)), file.constant("b", normal(4))],
        [maps],
        "Conv2DOptions",
        padding=SAME,
        strideH=1,
        strideW=1,
    )
    moved = file.tensor("moved", (1, 6, 5, 4), signature=(-1, 6, 5, 4))
    file.operator("ADD", [maps, file.constant("shift", normal(4, seed=2))], [moved], "AddOptions")
    slopes = file.tensor("slopes", (1, 6, 5, 4), signature=(-1, 6, 5, 4))
    file.operator("LEAKY_RELU", [moved], [slopes], "LeakyReluOptions", alpha=0.1)
    both = file.tensor("both", (1, 6, 5, 8), signature=(-1, 6, 5, 8))
    file.operator("CONCATENATION", [maps, slopes], [both], "ConcatenationOptions", axis=3)
    rows = file.tensor("rows", (1, 240), signature=(-1, 240))
    file.operator("RESHAPE", [both, file.constant("to", np.array([-1, 240], np.int32))], [rows])
    y = file.tensor("y", (1, 7), signature=(-1, 7))
    file.operator(
        "FULLY_CONNECTED",
        [rows, file.constant("fc", normal(7, 240)), file.constant("fb", normal(7))],
        [y],
        "FullyConnectedOptions",
    )
    soft = file.tensor("soft", (1, 7), signature=(-1, 7))
    file.operator("SOFTMAX", [y], [soft], "SoftmaxOptions", beta=1.0)
    return file.pack(soft)


def test_a_convolutional_network_has_one_transpose_at_its_input(tmp_path):
    operators = check(cnn_file(), tmp_path, normal(3, 6, 5, 3))
    assert operators == [
        "Transpose",
        "Conv",
        "Add",
        "LeakyRelu",
        "Concat",
        "Flatten",
        "Gemm",
        "Softmax",
    ]


def test_names_and_an_open_batch_stay(tmp_path):
    (tmp_path / "net.tflite").write_bytes(cnn_file())
    graph = read_model(tmp_path / "net.tflite").graph.graph
    assert [(v.name, str(v.shape)) for v in graph.inputs] == [("image", "[N,6,5,3]")]
    assert [(v.name, str(v.shape)) for v in graph.outputs] == [("soft", "[N,7]")]


def unary_file(code, options=None, **fields):
    file = TfliteFile()
    x = file.input("x", (2, 3, 4, 5))
    y = file.tensor("y", (2, 3, 4, 5))
    file.operator(code, [x], [y], options, **fields)
    return file.pack(y)


@pytest.mark.parametrize(
    ("code", "options", "fields"),
    [
        *((code, None, {}) for code in ("ABS", "CEIL", "COS", "EXP", "FLOOR", "HARD_SWISH", "NEG")),
        *((code, None, {}) for code in ("ELU", "LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1")),
        *((code, None, {}) for code in ("RELU_0_TO_1", "ROUND", "SIN", "SQUARE", "TANH")),
        ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.125}),
        ("GELU", "GeluOptions", {"approximate": False}),
        ("GELU", "GeluOptions", {"approximate": True}),
        ("SOFTMAX", "SoftmaxOptions", {"beta": 0.5}),
        ("LOG_SOFTMAX", None, {}),
    ],
)
def test_one_operand(tmp_path, code, options, fields):
    data = unary_file(code, options, **fields)
    check(data, tmp_path, normal(2, 3, 4, 5), tolerance=2e-4 if code == "GELU" else 1e-5)


@pytest.mark.parametrize("code", ["LOG", "RSQRT", "SQRT"])
def test_one_positive_operand(tmp_path, code):
    check(unary_file(code), tmp_path, np.abs(normal(2, 3, 4, 5)) + 0.1)


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("ADD", "AddOptions"),
        ("DIV", "DivOptions"),
        ("MAXIMUM", "MaximumMinimumOptions"),
        ("MINIMUM", "MaximumMinimumOptions"),
        ("MUL", "MulOptions"),
        ("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
        ("SUB", "SubOptions"),
    ],
)
def test_two_operands_spread_over_each_other(tmp_path, code, options):
    for shape in ((1, 3, 4, 5), (4, 5), (1, 3, 1, 1)):
        file = TfliteFile()
        a, b = file.input("a", (1, 3, 4, 5)), file.input("b", shape)
        y = file.tensor("y", (1, 3, 4, 5))
        file.operator(code, [a, b], [y], options)
        check(file.pack(y), tmp_path, normal(1, 3, 4, 5), np.abs(normal(*shape, seed=1)) + 0.5)


def test_prelu_of_an_image(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 4, 4, 5))
    pooled = file.tensor("pooled", (1, 2, 2, 5))
    window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    file.operator("MAX_POOL_2D", [x], [pooled], "Pool2DOptions", padding=VALID, **window)
    y = file.tensor("y", (1, 2, 2, 5))
    file.operator("PRELU", [pooled, file.constant("a", normal(1, 1, 5, seed=3))], [y])
    check(file.pack(y), tmp_path, normal(1, 4, 4, 5) - 2)


@pytest.mark.parametrize("code", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"])
@pytest.mark.parametrize(
    ("axes", "keep"), [([1, 2], True), ([1, 2], False), ([3], True), ([-1], False)]
)
def test_reductions_of_images(tmp_path, code, axes, keep):
    file = TfliteFile()
    x = file.input("x", (1, 6, 4, 5))
    pooled = file.tensor("pooled", (1, 3, 2, 5))
    window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    file.operator("MAX_POOL_2D", [x], [pooled], "Pool2DOptions", padding=VALID, **window)
    shape = np.zeros((1, 3, 2, 5)).sum(tuple(axes), keepdims=keep).shape
    y = file.tensor("y", shape)
    places = file.constant("axes", np.array(axes, np.int32))
    file.operator(code, [pooled, places], [y], "ReducerOptions", keepDims=keep)
    check(file.pack(y), tmp_path, normal(1, 6, 4, 5))


def moved_file(code, shape, constants, options=None, before=True, **fields):
    """A file with one operator that moves elements, behind a pool where ``before``."""
    file = TfliteFile()
    x = file.input("x", (1, 6, 4, 5))
    if before:
        pooled = file.tensor("pooled", (1, 6, 4, 5))
        window = {"strideH": 1, "strideW": 1, "filterHeight": 1, "filterWidth": 1}
        file.operator("MAX_POOL_2D", [x], [pooled], "Pool2DOptions", padding=VALID, **window)
        x = pooled
    operands = [file.constant(f"c{i}", np.array(c, np.int32)) for i, c in enumerate(constants)]
    if code == "SPLIT":
        parts = [file.tensor(f"y{i}", shape) for i in range(fields["numSplits"])]
        file.operator(code, [*operands, x], parts, options, **fields)
        return file.pack(*parts)
    y = file.tensor("y", shape)
    file.operator(code, [x, *operands], [y], options, **fields)
    return file.pack(y)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("code", "shape", "constants", "options", "fields"),
    [
        ("PAD", (1, 9, 5, 5), [[[0, 0], [1, 2], [0, 1], [0, 0]]], None, {}),
        ("PAD", (1, 6, 4, 8), [[[0, 0], [0, 0], [0, 0], [1, 2]]], None, {}),
        ("MIRROR_PAD", (1, 8, 5, 5), [[[0, 0], [1, 1], [1, 0], [0, 0]]], "MirrorPadOptions", {}),
        ("RESHAPE", (1, 24, 5), [[1, 24, 5]], None, {}),
        ("RESHAPE", (6, 20), [[6, 20]], None, {}),
        ("TRANSPOSE", (1, 5, 6, 4), [[0, 3, 1, 2]], None, {}),
        ("TRANSPOSE", (1, 4, 5, 6), [[0, 2, 3, 1]], None, {}),
        ("TRANSPOSE", (6, 1, 5, 4), [[1, 0, 3, 2]], None, {}),
        ("EXPAND_DIMS", (1, 1, 6, 4, 5), [[1]], None, {}),
        ("SLICE", (1, 3, 4, 2), [[0, 2, 0, 1], [1, 3, -1, 2]], None, {}),
        ("RESIZE_BILINEAR", (1, 9, 10, 5), [[9, 10]], "ResizeBilinearOptions", {}),
        (
            "RESIZE_BILINEAR",
            (1, 12, 3, 5),
            [[12, 3]],
            "ResizeBilinearOptions",
            {"halfPixelCenters": True},
        ),
        (
            "RESIZE_BILINEAR",
            (1, 11, 7, 5),
            [[11, 7]],
            "ResizeBilinearOptions",
            {"alignCorners": True},
        ),
        ("RESIZE_NEAREST_NEIGHBOR", (1, 9, 10, 5), [[9, 10]], "ResizeNearestNeighborOptions", {}),
        (
            "RESIZE_NEAREST_NEIGHBOR",
            (1, 9, 3, 5),
            [[9, 3]],
            "ResizeNearestNeighborOptions",
            {"halfPixelCenters": True},
        ),
        (
            "RESIZE_NEAREST_NEIGHBOR",
            (1, 9, 7, 5),
            [[9, 7]],
            "ResizeNearestNeighborOptions",
            {"alignCorners": True},
        ),
        ("SPACE_TO_DEPTH", (1, 3, 2, 20), [], "SpaceToDepthOptions", {"blockSize": 2}),
        ("SPLIT", (1, 3, 4, 5), [1], "SplitOptions", {"numSplits": 2}),
        ("SPLIT", (1, 6, 4, 1), [3], "SplitOptions", {"numSplits": 5}),
        ("GATHER", (1, 6, 4, 2), [[3, 0]], "GatherOptions", {"axis": 3}),
        (
            "STRIDED_SLICE",
            (1, 3, 3, 5),
            [[0, 1, 0, 0], [1, 6, 3, 5], [1, 2, 1, 1]],
            "StridedSliceOptions",
            {"endMask": 0},
        ),
        (
            "STRIDED_SLICE",
            (6, 4, 5),
            [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
            "StridedSliceOptions",
            {"beginMask": 14, "endMask": 14, "shrinkAxisMask": 1},
        ),
    ],
)
def test_moves(tmp_path, before, code, shape, constants, options, fields):
    data = moved_file(code, shape, constants, options, before, **fields)
    check(data, tmp_path, normal(1, 6, 4, 5))


def test_depth_to_space_and_pack(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 2, 3, 8))
    y = file.tensor("y", (1, 4, 6, 2))
    file.operator("DEPTH_TO_SPACE", [x], [y], "DepthToSpaceOptions", blockSize=2)
    z = file.tensor("z", (1, 2, 4, 6, 2))
    file.operator("PACK", [y, y], [z], "PackOptions", axis=1, valuesCount=2)
    check(file.pack(z), tmp_path, normal(1, 2, 3, 8))


def test_short_floats_behind_dequantize(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 8))
    short = file.constant("w16", normal(4, 8).astype(np.float16))
    weight = file.tensor("w", (4, 8))
    file.operator("DEQUANTIZE", [short], [weight])
    y = file.tensor("y", (1, 4))
    file.operator("FULLY_CONNECTED", [x, weight, -1], [y], "FullyConnectedOptions")
    assert check(file.pack(y), tmp_path, normal(1, 8)) == ["Gemm"]


def branching_file(*, shape=(1, 8), inside=False, inputs=2):
    """``y = If(max(x) >= 1, x + c, If(max(x) >= 0, ...) or x * c)``; both sides take ``x`` and ``c``."""
    file = TfliteFile()
    x = file.input("x", (1, 8))
    c = file.constant("c", normal(1, 8))

    def choose(graph, x, c, bound, sides):
        axis = graph.constant("axis", np.array([1], np.int32))
        peak = graph.tensor("peak", (1, 1))
        graph.operator("REDUCE_MAX", [x, axis], [peak], "ReducerOptions", keepDims=True)
        high = graph.tensor("high", (1, 1), "bool")
        limit = graph.constant("limit", np.array(bound, np.float32))
        graph.operator("GREATER_EQUAL", [peak, limit], [high], "GreaterEqualOptions")
        y = graph.tensor("y", (1, 8))
        then, other = (side.number for side in sides)
        graph.operator(
            "IF",
            [high, x, c],
            [y],
            "IfOptions",
            thenSubgraphIndex=then,
            elseSubgraphIndex=other,
        )
        return y

    def side(code, options):
        graph = file.branch()
        a, b = graph.input("a", (1, 8)), graph.input("b", (1, 8))
        y = graph.tensor("y", shape)
        graph.operator(code, [a, b][:inputs], [y], options)
        graph.graph.outputs = [y]
        return graph

    sides = [side("ADD", "AddOptions"), side("MUL", "MulOptions")]
    if inside:
        outer = file.branch()
        a, b = outer.input("a", (1, 8)), outer.input("b", (1, 8))
        outer.graph.outputs = [choose(outer, a, b, 0, sides)]
        sides = [sides[0], outer]
    return file, choose(file, x, c, 1, sides)


@pytest.mark.parametrize("inside", [False, True])
def test_both_branches_are_read_and_one_is_taken(tmp_path, inside):
    file, y = branching_file(inside=inside)
    data = file.pack(y)
    for shift in (-9, 0, 9):
        kinds = check(data, tmp_path, normal(1, 8) / 9 + shift / 9)
    assert kinds.count("Where") == 1 + inside
    assert not {"If"} & set(kinds)


def test_branches_that_cannot_be_taken_are_named(tmp_path):
    file, y = branching_file(shape=(8,))
    with pytest.raises(ModelError, match=r"operator 2 \(IF\): its branches give FLOAT32\[8\]"):
        read(file.pack(y), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file, graph: setattr(graph, "thenSubgraphIndex", 0), "inside of its own branch"),
        (lambda file, graph: setattr(graph, "elseSubgraphIndex", 9), "names subgraph 9"),
        (lambda file, graph: file.model.subgraphs[1].inputs.pop(), "not the same number"),
        (lambda file, graph: file.model.subgraphs[1].outputs.pop(), "not the same number"),
        (lambda file, graph: file.model.subgraphs[1].inputs.__setitem__(1, 0), "is missing"),
    ],
)
def test_damaged_branches_are_refused(tmp_path, change, words):
    file, y = branching_file()
    change(file, file.graph.operators[2].builtinOptions)
    with pytest.raises(ModelError, match=words):
        read(file.pack(y), tmp_path)


def test_branches_that_double_are_bounded(tmp_path):
    """Each of 40 subgraphs has two branches into the next one: inlined they would be 2^40."""
    file = TfliteFile()
    graphs = [file, *(file.branch() for _ in range(40))]
    for number, graph in enumerate(graphs):
        c, x = graph.input("c", (1,), "bool"), graph.input("x", (1, 8))
        y = graph.tensor("y", (1, 8))
        after = number + 1
        if after < len(graphs):
            sides = {"thenSubgraphIndex": after, "elseSubgraphIndex": after}
            graph.operator("IF", [c, c, x], [y], "IfOptions", **sides)
        else:
            graph.operator("RELU", [x], [y])
        graph.graph.outputs = [y]
    with pytest.raises(ModelError, match="it says that it holds more than its bytes can"):
        read(file.pack(y), tmp_path)


def test_choices_and_comparisons(tmp_path):
    file = TfliteFile()
    a, b = file.input("a", (1, 4, 4, 3)), file.constant("b", normal(4, 4, 3))
    less, y = file.tensor("less", (1, 4, 4, 3), "bool"), file.tensor("y", (1, 4, 4, 3))
    file.operator("LESS", [a, b], [less], "LessOptions")
    file.operator("SELECT_V2", [less, a, b], [y], "SelectV2Options")
    assert check(file.pack(y), tmp_path, normal(1, 4, 4, 3)) == ["Less", "Where"]


def test_control_flow_is_named(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 8))
    y = file.tensor("y", (1, 8))
    file.operator("WHILE", [x], [y], "WhileOptions")
    with pytest.raises(ModelError, match=r"operator 0 \(WHILE, 'y'\): it calls or loops"):
        read(file.pack(y), tmp_path)


def test_a_window_that_is_larger_than_its_input_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"its window \[3, 3\] is larger than its input"):
        read(conv_file(padding=VALID, size=(2, 8)), tmp_path)


def test_an_unknown_operator_is_named(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 8))
    y = file.tensor("y", (1, 8))
    file.operator("CUMSUM", [x, file.constant("axis", np.array(1, np.int32))], [y])
    with pytest.raises(ModelError, match=r"\(CUMSUM, 'y'\): there is no CUMSUM in edgekit"):
        read(file.pack(y), tmp_path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        read_tflite(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="it does not say TFL3"):
        read(b"\x08\x00\x00\x00ONNX" + bytes(64), tmp_path)


def test_every_truncation_is_refused_or_harmless(tmp_path):
    data = cnn_file()
    for size in range(0, len(data), max(len(data) // 400, 1)):
        try_to_read(data[:size], tmp_path)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), min_size=1, max_size=6),
    st.sampled_from(["cnn", "conv", "slice"]),
)
def test_forged_bytes_give_one_error(tmp_path_factory, changes, which):
    forged = bytearray(_SOUND[which])
    for place, byte in changes:
        forged[place % len(forged)] = byte
    try_to_read(bytes(forged), tmp_path_factory.getbasetemp())


_SOUND = {
    "cnn": cnn_file(),
    "conv": conv_file(activation=RELU6),
    "slice": moved_file("SLICE", (1, 3, 4, 2), [[0, 2, 0, 1], [1, 3, -1, 2]]),
}


def try_to_read(data, folder):
    """Reads what may be damaged: a sound network or a ModelError, never anything else."""
    path = folder / "forged.tflite"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        read_model(path)


def test_a_vector_that_names_one_tensor_a_million_times_is_refused(tmp_path):
    file = TfliteFile()
    x = file.input("x", (1, 8))
    y = file.tensor("y", (1, 8))
    file.operator("CONCATENATION", [x] * 8, [y], "ConcatenationOptions", axis=1)
    data = bytearray(file.pack(y))
    counts = [
        place for place in range(0, len(data) - 4, 4) if data[place : place + 4] == b"\x08\0\0\0"
    ]
    for place in counts:
        forged = bytearray(data)
        forged[place : place + 4] = (1 << 28).to_bytes(4, "little")
        try_to_read(bytes(forged), tmp_path)


def test_parse_says_where_it_broke():
    with pytest.raises(ModelError, match=r"^net\.tflite: "):
        parse(cnn_file()[:200], "net.tflite")
