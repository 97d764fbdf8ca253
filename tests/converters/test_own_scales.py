"""Quantized models of others run natively with their own scales: the codes of the runtime that they were made for."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="reading .tflite needs the extra tflite")

from ai_edge_litert.interpreter import Interpreter
from tflite_file import TfliteFile

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.own_scales import describe_rounding, keep_own_scales
from edgekit.converters.quantize import get_report
from edgekit.converters.read_model import read_model
from edgekit.converters.write_plan import write_plan
from edgekit.session import NativeSession

SAME = 0
RELU, RELU6 = 1, 3


class QuantizedFile(TfliteFile):
    """A file whose tensors have scales; codes are int8 or uint8."""

    def __init__(self, dtype="int8", seed=0):
        super().__init__()
        self.dtype = dtype
        self.shift = 128 if dtype == "uint8" else 0
        self.random = np.random.default_rng(seed)

    def codes(self, name, shape, scale, zero_point=0):
        return self.tensor(name, shape, self.dtype, grid=(scale, zero_point + self.shift, 0))

    def layer(self, code, x, x_scale, name, shape, weight_shape, axis, y_grid, options, **fields):
        """Adds a layer with random weights and bias, a scale for each channel where codes are int8."""
        count = weight_shape[axis]
        if self.dtype == "int8":
            scale = self.random.uniform(0.002, 0.01, count).astype(np.float32)
            weight = self.random.integers(-127, 128, weight_shape).astype(np.int8)
            grid = (scale, np.zeros(count), axis)
        else:
            scale = np.float32(0.006)
            zero_point = fields.pop("weight_zero", 128)
            weight = self.random.normal(zero_point, 40, weight_shape)
            weight[(0,) * len(weight_shape)] = 255
            weight = np.clip(np.rint(weight), 1, 255).astype(np.uint8)
            grid = (scale, zero_point, 0)
        bias = self.random.integers(-2000, 2000, count).astype(np.int32)
        bias_scale = np.float32(x_scale) * scale
        y = self.codes(name, shape, *y_grid)
        inputs = [
            x,
            self.constant(f"{name}:w", weight, grid),
            self.constant(f"{name}:b", bias, (bias_scale, np.zeros(np.size(bias_scale)), 0)),
        ]
        self.operator(code, inputs, [y], options, **fields)
        return y


def network_file(dtype="int8", seed=0, weight_zero=128):
    """Convolutions, a sum, a mean, a fully connected layer and a softmax, all in codes."""
    file = QuantizedFile(dtype, seed)
    more = {"weight_zero": weight_zero} if dtype == "uint8" else {}
    x = file.codes("image", (1, 8, 8, 3), 0.02, -5)
    file.graph.inputs.append(x)
    conv = {"padding": SAME, "strideH": 1, "strideW": 1, "fusedActivationFunction": RELU6, **more}
    a = file.layer(
        "CONV_2D",
        x,
        0.02,
        "a",
        (1, 8, 8, 8),
        (8, 3, 3, 3),
        0,
        (0.024, -128),
        "Conv2DOptions",
        **conv,
    )
    b = file.layer(
        "DEPTHWISE_CONV_2D",
        a,
        0.024,
        "b",
        (1, 8, 8, 8),
        (1, 3, 3, 8),
        3,
        (0.05, -20),
        "DepthwiseConv2DOptions",
        **conv | {"fusedActivationFunction": 0},
        depthMultiplier=1,
    )
    total = file.codes("sum", (1, 8, 8, 8), 0.055, -30)
    file.operator("ADD", [a, b], [total], "AddOptions", fusedActivationFunction=RELU)
    pooled = file.codes("pooled", (1, 1, 1, 8), 0.02, -60)
    axes = file.constant("axes", np.array([1, 2], np.int32))
    file.operator("MEAN", [total, axes], [pooled], "ReducerOptions", keepDims=True)
    rows = file.codes("rows", (1, 8), 0.02, -60)
    shape = file.constant("shape", np.array([1, 8], np.int32))
    file.operator("RESHAPE", [pooled, shape], [rows], "ReshapeOptions", newShape=[1, 8])
    logits = file.layer(
        "FULLY_CONNECTED",
        rows,
        0.02,
        "logits",
        (1, 5),
        (5, 8),
        0,
        (0.03, 4),
        "FullyConnectedOptions",
        **more,
    )
    soft = file.codes("soft", (1, 5), 1 / 256, -128)
    file.operator("SOFTMAX", [logits], [soft], "SoftmaxOptions", beta=1.0)
    return file.pack(logits, soft)


def layers_file(dtype="int8", seed=0):
    """Three layers and nothing else."""
    file = QuantizedFile(dtype, seed)
    x = file.codes("image", (1, 6, 6, 3), 0.02, -5)
    file.graph.inputs.append(x)
    conv = {"padding": SAME, "strideH": 2, "strideW": 2}
    a = file.layer(
        "CONV_2D", x, 0.02, "a", (1, 3, 3, 8), (8, 3, 3, 3), 0, (0.04, -7), "Conv2DOptions", **conv
    )
    b = file.layer(
        "CONV_2D",
        a,
        0.04,
        "b",
        (1, 3, 3, 6),
        (6, 1, 1, 8),
        0,
        (0.05, -128),
        "Conv2DOptions",
        **conv | {"strideH": 1, "strideW": 1, "fusedActivationFunction": RELU},
    )
    rows = file.codes("rows", (1, 54), 0.05, -128)
    shape = file.constant("shape", np.array([1, 54], np.int32))
    file.operator("RESHAPE", [b, shape], [rows], "ReshapeOptions", newShape=[1, 54])
    y = file.layer(
        "FULLY_CONNECTED", rows, 0.05, "y", (1, 5), (5, 54), 0, (0.2, 4), "FullyConnectedOptions"
    )
    return file.pack(y)


def count_differences(path, runs=20):
    """Returns how many output codes differ from LiteRT's with XNNPACK, by how much at most, and the quantized graph."""
    source = read_model(path)
    graph = keep_own_scales(source.graph, source.records)
    write_plan(
        lower(graph),
        path.with_suffix(".plan"),
        isa=_native.best_isa(),
        target="host",
        source_digest="0" * 64,
    )
    plan = path.with_suffix(".plan")
    session = NativeSession(plan, _native.Plan.open(plan), 1)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (details,) = interpreter.get_input_details()
    limits = np.iinfo(details["dtype"])
    random = np.random.default_rng(1)
    differing, most = 0, 0
    for _ in range(runs):
        codes = random.integers(limits.min, limits.max + 1, details["shape"]).astype(
            details["dtype"]
        )
        scale, zero_point = details["quantization"]
        reals = (codes.astype(np.float32) - zero_point) * np.float32(scale)
        interpreter.set_tensor(details["index"], codes)
        interpreter.invoke()
        outputs = session.run(reals)
        for detail, name in zip(interpreter.get_output_details(), session.outputs, strict=True):
            scale, zero_point = detail["quantization"]
            given = np.rint(outputs[name] / np.float32(scale)) + zero_point
            apart = np.abs(given - interpreter.get_tensor(detail["index"]).astype(np.int64))
            differing += int((apart > 0).sum())
            most = max(most, int(apart.max()))
    return differing, most, graph


@pytest.mark.parametrize("seed", range(3))
def test_layers_give_the_very_codes_of_litert(tmp_path, seed):
    path = tmp_path / "net.tflite"
    path.write_bytes(layers_file(seed=seed))
    assert count_differences(path)[:2] == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_int8_codes_are_those_of_litert(tmp_path, seed):
    path = tmp_path / "net.tflite"
    path.write_bytes(network_file(seed=seed))
    differing, most, graph = count_differences(path)
    assert not get_report(graph).float_nodes
    assert not describe_rounding(graph)
    # Sums, means and softmax have rules of their own (docs/arithmetic.md): a code on the edge may go either way.
    assert most <= 1
    assert differing <= 4


def test_uint8_codes_shift_to_int8(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network_file("uint8"))
    _, most, graph = count_differences(path)
    assert not describe_rounding(graph)
    assert most <= 1


def test_weights_far_from_zero_are_rounded_anew_and_said(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(network_file("uint8", weight_zero=60))
    _, most, graph = count_differences(path)
    (note,) = describe_rounding(graph)
    assert "21 channels of 3 layers have other codes" in note
    assert most <= 3
