"""Small quantized graphs, built by hand: what a calibrated network looks like to the writers."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import strategies as st
from onnx_ir.passes import common

from edgekit.converters.quantization import (
    ActivationQuantization,
    WeightQuantization,
    set_quantization,
)


class GraphBuilder:
    """Adds nodes whose scales come from the real range that random inputs would reach."""

    def __init__(self, seed: int = 0, opset: int = 18) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.inputs: list[ir.Value] = []
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def input(self, shape: Sequence[int | str], name: str = "x", limit: float = 2.0) -> ir.Value:
        value = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(list(shape))
        )
        self.inputs.append(value)
        return self.on_grid(value, -limit, limit)

    def on_grid(
        self, value: ir.Value, low: float, high: float, lo: int = -128, hi: int = 127
    ) -> ir.Value:
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / 255)
        zero_point = int(np.clip(round(-128 - low / float(scale)), -128, 127))
        set_quantization(value, ActivationQuantization(scale, zero_point, lo, hi))
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        low: float = -3.0,
        high: float = 3.0,
        *,
        like: ir.Value | None = None,
        **attributes: object,
    ) -> ir.Value:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes=attributes, name=name)
        value = node.outputs[0]
        value.name = f"{name}_out"
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self.nodes.append(node)
        if like is not None:
            set_quantization(value, like.meta["edgekit.quantization"])
            return value
        return self.on_grid(value, low, high)

    def constant(self, array: np.ndarray, name: str = "") -> ir.Value:
        tensor = ir.tensor(array)
        value = ir.Value(
            name=name or f"constant_{len(self.initializers)}",
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=tensor.shape,
        )
        self.initializers.append(value)
        return value

    def weight(self, shape: Sequence[int], axis: int) -> ir.Value:
        codes = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = self.rng.uniform(0.5, 2, shape[axis]).astype(np.float32)
        fan_in = max(codes.size // shape[axis], 1)
        scale *= np.float32(1 / (70 * np.sqrt(fan_in)))
        broadcast = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        value = self.constant(codes.astype(np.float32) * broadcast)
        set_quantization(value, WeightQuantization(codes, scale, axis))
        return value

    def bias(self, x: ir.Value, weight: ir.Value) -> ir.Value:
        scale = np.float32(x.meta["edgekit.quantization"].scale) * (
            weight.meta["edgekit.quantization"].scale
        )
        codes = np.rint(self.rng.uniform(-1, 1, scale.size) / scale).astype(np.int32)
        value = self.constant(codes.astype(np.float32) * scale)
        set_quantization(value, WeightQuantization(codes, scale, 0))
        return value

    def conv(
        self,
        x: ir.Value,
        channels: int,
        count: int,
        kernel: Sequence[int] = (3, 3),
        *,
        group: int = 1,
        with_bias: bool = True,
        low: float = -3.0,
        high: float = 3.0,
        **attributes: object,
    ) -> ir.Value:
        weight = self.weight((count, channels // group, *kernel), 0)
        inputs = [x, weight, self.bias(x, weight)] if with_bias else [x, weight]
        return self.node("Conv", inputs, low, high, group=group, **attributes)

    def gemm(self, x: ir.Value, depth: int, count: int, *, trans_b: bool = True) -> ir.Value:
        axis = 0 if trans_b else 1
        weight = self.weight((count, depth) if trans_b else (depth, count), axis)
        return self.node("Gemm", [x, weight, self.bias(x, weight)], transB=int(trans_b))

    def build(self, *outputs: ir.Value) -> ir.Model:
        for value in outputs:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": self.opset},
            name="net",
        )
        model = ir.Model(graph, ir_version=10)
        common.ShapeInferencePass()(model)
        return model


@pytest.fixture(scope="session")
def graph_builder() -> type[GraphBuilder]:
    return GraphBuilder


class ImageNet:
    """A random network over images, drawn by hypothesis: values ``[N, C, H, W]`` that later nodes may read."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        self.builder = GraphBuilder(self._draw(st.integers(0, 2**32 - 1), label="seed"))
        channels = self._draw(st.sampled_from([1, 3, 4, 8, 17]))
        size = self._draw(st.tuples(st.integers(5, 12), st.integers(5, 12)))
        self.batch = self._draw(st.integers(1, 2))
        self.values = [(self.builder.input(["N", channels, *size]), channels, *size)]

    def build(self, most: int = 6) -> ir.Model:
        steps = (
            self._conv,
            self._conv,
            self._conv,
            self._depthwise,
            self._sum,
            self._pool,
            self._unary,
            self._product,
            self._concat,
            self._cut,
            self._pad,
            self._shuffle,
            self._requantize,
        )
        for _ in range(self._draw(st.integers(1, most), label="nodes")):
            self._draw(st.sampled_from(steps))()
        value = self._draw(st.sampled_from([self._classes, self._mean, self._probabilities]))()
        return self.builder.build(value)

    def images(self) -> np.ndarray:
        _, channels, height, width = self.values[0]
        shape = (self.batch, channels, height, width)
        return self.builder.rng.normal(0, 1, shape).astype(np.float32)

    def _pick(self) -> tuple[ir.Value, int, int, int]:
        return self._draw(st.sampled_from(self.values[-3:]))

    def _window(self, height: int, width: int, kernels: list[int], dilate: bool) -> tuple:
        kernel = [self._draw(st.sampled_from(kernels)) for _ in "hw"]
        stride = [self._draw(st.integers(1, 2)) for _ in "hw"]
        dilation = [self._draw(st.integers(1, 2)) if dilate else 1 for _ in "hw"]
        pads = [self._draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
        out = []
        for i, size in enumerate((height, width)):
            span = (kernel[i] - 1) * dilation[i] + 1
            out.append((size + pads[i] + pads[i + 2] - span) // stride[i] + 1)
        return kernel, stride, dilation, pads, out

    def _conv(self) -> None:
        x, channels, height, width = self._pick()
        kernel, stride, dilation, pads, out = self._window(height, width, [1, 1, 2, 3], True)
        if min(out) < 1:
            return
        group = self._draw(st.sampled_from([g for g in (1, 1, 2, 4) if channels % g == 0]))
        count = group * self._draw(st.integers(1, 20))
        value = self.builder.conv(
            x,
            channels,
            count,
            kernel,
            group=group,
            with_bias=self._draw(st.booleans()),
            low=self._draw(st.sampled_from([0.0, -2.0])),
            strides=stride,
            dilations=dilation,
            pads=pads,
        )
        self.values.append((value, count, *out))

    def _depthwise(self) -> None:
        x, channels, height, width = self._pick()
        kernel, stride, dilation, pads, out = self._window(height, width, [3, 5], True)
        if min(out) < 1:
            return
        value = self.builder.conv(
            x,
            channels,
            channels,
            kernel,
            group=channels,
            strides=stride,
            dilations=dilation,
            pads=pads,
        )
        self.values.append((value, channels, *out))

    def _sum(self) -> None:
        x, channels, height, width = self._pick()
        a = self.builder.conv(x, channels, channels, (1, 1))
        operands = self._draw(st.permutations([a, x]))
        value = self.builder.node(self._draw(st.sampled_from(["Add", "Add", "Sub"])), operands)
        self.values.append((value, channels, height, width))

    def _product(self) -> None:
        x, channels, height, width = self._pick()
        gate = self.builder.node("GlobalAveragePool", [x], -2, 2)
        gate = self.builder.node("Sigmoid", [gate], 0, 255 / 256)
        value = self.builder.node("Mul", [x, gate], -2, 2)
        self.values.append((value, channels, height, width))

    def _pool(self) -> None:
        x, channels, height, width = self._pick()
        kernel, stride, _, pads, out = self._window(height, width, [2, 3], False)
        pads = [min(pad, 1) for pad in pads]
        out = [
            (size + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1
            for i, size in enumerate((height, width))
        ]
        if min(out) < 1:
            return
        kind = self._draw(st.sampled_from(["MaxPool", "AveragePool"]))
        attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads}
        if kind == "AveragePool":
            attributes["count_include_pad"] = self._draw(st.integers(0, 1))
        value = self.builder.node(
            kind, [x], -2, 2, like=x if kind == "MaxPool" else None, **attributes
        )
        self.values.append((value, channels, *out))

    def _unary(self) -> None:
        x, *size = self._pick()
        kind = self._draw(st.sampled_from(["Sigmoid", "HardSwish", "Tanh", "LeakyRelu", "Relu"]))
        low, high = {"Sigmoid": (0, 255 / 256), "Tanh": (-1, 127 / 128)}.get(kind, (-1, 2))
        self.values.append((self.builder.node(kind, [x], low, high), *size))

    def _concat(self) -> None:
        x, channels, height, width = self._pick()
        other = self.builder.conv(x, channels, 5, (1, 1))
        value = self.builder.node("Concat", [x, other], -2, 2, axis=1)
        self.values.append((value, channels + 5, height, width))

    def _cut(self) -> None:
        x, channels, height, width = self._pick()
        if width < 3:
            return
        bounds = [np.array([bound], np.int64) for bound in (1, width, 3)]
        value = self.builder.node(
            "Slice", [x, *(self.builder.constant(bound) for bound in bounds)], like=x
        )
        self.values.append((value, channels, height, width - 1))

    def _pad(self) -> None:
        x, channels, height, width = self._pick()
        amounts = [0, 0, 1, 2, 0, 1, 0, 1]
        fill = self._draw(st.sampled_from([0.0, -0.4, 1.1]))
        inputs = [
            x,
            self.builder.constant(np.array(amounts, np.int64)),
            self.builder.constant(np.array(fill, np.float32)),
        ]
        value = self.builder.node("Pad", inputs, like=x)
        self.values.append((value, channels + 1, height + 1, width + 3))

    def _shuffle(self) -> None:
        x, channels, height, width = self._pick()
        if channels % 2:
            return
        apart = self.builder.constant(np.array([0, 2, channels // 2, height, width], np.int64))
        value = self.builder.node("Reshape", [x, apart], like=x)
        value = self.builder.node("Transpose", [value], like=x, perm=[0, 2, 1, 3, 4])
        together = self.builder.constant(np.array([0, channels, height, width], np.int64))
        value = self.builder.node("Reshape", [value, together], like=x)
        self.values.append((value, channels, height, width))

    def _requantize(self) -> None:
        x, *size = self._pick()
        self.values.append((self.builder.node("Identity", [x], -1.3, 0.9), *size))

    def _classes(self) -> ir.Value:
        x, channels, height, width = self.values[-1]
        flat = self.builder.node("Flatten", [x], like=x)
        value = self.builder.gemm(
            flat,
            channels * height * width,
            self._draw(st.integers(2, 40)),
            trans_b=self._draw(st.booleans()),
        )
        return self.builder.node("Softmax", [value], 0, 255 / 256, axis=-1)

    def _mean(self) -> ir.Value:
        x, *_ = self.values[-1]
        mean = self.builder.node("GlobalAveragePool", [x], -1, 1)
        return self.builder.node("Flatten", [mean], like=mean)

    def _probabilities(self) -> ir.Value:
        x, channels, *_ = self.values[-1]
        if channels == 1:  # ONNX Runtime 1.31's uint8 softmax of one element wraps around to 0
            return self._mean()
        return self.builder.node("Softmax", [x], 0, 255 / 256, axis=1)


@pytest.fixture(scope="session")
def image_net() -> type[ImageNet]:
    return ImageNet


@pytest.fixture
def model_file(tmp_path):
    """Returns a function that writes a model, given as ONNX text and its weights, and returns the path."""

    def write(text: str, name: str = "net.onnx", **weights: np.ndarray):
        proto = onnx.parser.parse_model(text)
        proto.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, key) for key, array in weights.items()
        )
        onnx.save(proto, tmp_path / name)
        return tmp_path / name

    return write
