"""Small quantized graphs, built by hand: what a calibrated network looks like to the writers."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest
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
