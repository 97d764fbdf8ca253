"""Random float networks, drawn by hypothesis: chains, sums, concatenations, groups, branches, clamps, a head."""

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.converters.read_onnx import infer_shapes


class FloatNet:
    """A network from ``x`` [N, 4, 8, 8] to ``y`` [N, classes], made step by step; later nodes read earlier values."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.values: list[tuple[str, int, int]] = [("x", 4, 8)]

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"n{len(self.nodes)}", **attributes))
        return name

    def normal(self, *shape: int, spread: float = 1.0) -> str:
        return self.constant(self.random.normal(0, spread, shape).astype(np.float32))

    def conv(self, x: tuple[str, int, int], outputs: int, group: int = 1, kernel: int = 3):
        source, channels, size = x
        depth = channels // group
        weight = self.normal(outputs, depth, kernel, kernel, spread=(depth * kernel**2) ** -0.5)
        inputs = [source, weight, self.normal(outputs, spread=0.3)]
        name = self.node("Conv", inputs, group=group, pads=[kernel // 2] * 4)
        return name, outputs, size

    def active(self, x: tuple[str, int, int], kind: str):
        source, channels, size = x
        match kind:
            case "Clip":
                bounds = [self.constant(np.array(b, np.float32)) for b in (0.0, 1.5)]
                source = self.node("Clip", [source, *bounds])
            case "PRelu":
                source = self.node("PRelu", [source, self.normal(channels, 1, 1)])
            case "Min":
                limits = self.random.uniform(0.5, 2, (channels, 1, 1)).astype(np.float32)
                source = self.node("Min", [self.node("Relu", [source]), self.constant(limits)])
            case "":
                pass
            case _:
                source = self.node(kind, [source])
        return source, channels, size

    def build(self, head: str = "Gemm", classes: int = 3) -> ir.Model:
        source, channels, size = self.values[-1]
        if head == "Gemm":
            flat = self.node("Flatten", [source])
            weight = self.normal(classes, channels * size * size, spread=0.1)
            output = self.node("Gemm", [flat, weight, self.normal(classes)], transB=1)
        else:
            mean = self.node("GlobalAveragePool", [source])
            output, classes = self.node("Flatten", [mean]), channels
        self.nodes[-1].output[0] = "y"
        assert output
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])],
            self.tensors,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(proto, full_check=True)
        model = ir.from_proto(proto)
        infer_shapes(model)
        return model


KINDS = ("Relu", "Relu", "LeakyRelu", "PRelu", "Clip", "Min", "Sigmoid", "HardSwish", "")


@st.composite
def float_networks(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> ir.Model:
    """Draws a network of one to eight steps."""
    net = FloatNet(draw(st.integers(0, 2**32 - 1)))
    for _ in range(draw(st.integers(1, 8))):
        x = draw(st.sampled_from(net.values[-3:]))
        channels = x[1]
        step = draw(
            st.sampled_from(["conv", "conv", "depthwise", "group", "sum", "concat", "pool"])
        )
        kind = draw(st.sampled_from(kinds))
        if step == "conv":
            made = net.conv(
                x, draw(st.sampled_from([2, 4, 6])), kernel=draw(st.sampled_from([1, 3]))
            )
        elif step == "depthwise":
            made = net.conv(x, channels, group=channels)
        elif step == "group":
            made = net.conv(x, 2 * channels, group=2 - channels % 2)
        elif step == "sum":
            other = net.conv(x, channels)
            made = (net.node(draw(st.sampled_from(["Add", "Sub"])), [x[0], other[0]]), *x[1:])
        elif step == "concat":
            other = net.conv(x, 3)
            made = (net.node("Concat", [other[0], x[0]], axis=1), channels + 3, x[2])
        else:
            op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            name = net.node(op, [x[0]], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
            made = (name, *x[1:])
        if made[1] <= 24:
            net.values.append(net.active(made, kind))
    return net.build(draw(st.sampled_from(["Gemm", "Mean"])))


def images(count: int = 3, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4, 8, 8)).astype(np.float32)
