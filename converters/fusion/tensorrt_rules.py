"""NVIDIA's rules for QuantizeLinear (Q) and DequantizeLinear (DQ), checked on a graph.

TensorRT itself is not asked: it runs on NVIDIA's machines alone. Each rule names the page that it comes from: sections
of the TensorRT Developer Guide, chapter "Explicit Quantization", as it was for TensorRT 8, whose boards are the oldest
ones that are served. Today it is a page of its own, of the same sections:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.converters.fusion.graph import Graph
from edgekit.converters.quantizable import LAYERS

_GUIDE = "TensorRT Developer Guide, Explicit Quantization"
_IMPORTER = "onnx/onnx-tensorrt 10.1, onnxOpImporters.cpp, QuantDequantLinearHelper"
_PLACEMENT = f"{_GUIDE}, Q/DQ Layer-Placement Recommendations"
_QUANTIZED_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
    }
)
_ACTIVATIONS = frozenset({"Clip", "Relu", "BatchNormalization"})


@dataclass(frozen=True)
class Finding:
    """A breach of a rule.

    Attributes:
        rule: Its name, a key of ``RULES``.
        node: The node at fault.
        what: What is wrong and what would be right.
    """

    rule: str
    node: str
    what: str

    @property
    def source(self) -> str:
        """The page that the rule comes from."""
        return RULES[self.rule].source

    def __str__(self) -> str:
        return f"{self.node}: {self.what} ({self.source})"


@dataclass(frozen=True)
class Rule:
    """A rule: where it is written, and what finds breaches of it."""

    source: str
    find: Callable[[_Network], Iterator[tuple[onnx.NodeProto, str]]]


class _Network(Graph):
    """A graph whose constants can be read."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        super().__init__(proto)
        self._tensors = {tensor.name: tensor for tensor in proto.initializer}
        self._outputs = {value.name for value in proto.output}

    def of_kind(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Yields the nodes of these operators, in order."""
        return (node for node in self.nodes if node.op_type in kinds)

    def array(self, name: str) -> np.ndarray | None:
        """Returns the constant ``name``, None where it is computed."""
        tensor = self._tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_quantized(self, name: str) -> bool:
        """Whether a DQ makes the value ``name``."""
        maker = self.maker(name)
        return maker is not None and maker.op_type == "DequantizeLinear"

    def weight(self, node: onnx.NodeProto) -> np.ndarray | None:
        """Returns the constant behind the Q and DQ of a Q, DQ or layer input, None where there is none."""
        name = node.input[0]
        while (maker := self.maker(name)) is not None:
            if maker.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                return None
            name = maker.input[0]
        return self.array(name)

    def is_output(self, name: str) -> bool:
        """Whether the graph gives ``name`` back."""
        return name in self._outputs


def check_rules(model: onnx.ModelProto) -> list[Finding]:
    """Returns every breach of a rule in a graph, by rule and then by node."""
    network = _Network(model.graph)
    return [
        Finding(name, node.name, what)
        for name, rule in RULES.items()
        for node, what in rule.find(network)
    ]


def _zero_points(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("QuantizeLinear", "DequantizeLinear"):
        zero = network.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if zero is not None and zero.astype(np.int64).any():
            yield node, "its zero point is not 0: quantize with symmetric grids"


def _signed_codes(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("QuantizeLinear", "DequantizeLinear"):
        # Without a zero point QuantizeLinear makes uint8.
        zero = network.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        codes = network.array(node.input[0])
        kind = zero.dtype if zero is not None else None if codes is None else codes.dtype
        if kind == np.uint8 or (kind is None and node.op_type == "QuantizeLinear"):
            yield node, "its codes are uint8: write int8"


def _constant_scales(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("QuantizeLinear", "DequantizeLinear"):
        scale = network.array(node.input[1])
        if scale is None:
            yield node, "its scale is computed: it must be a constant"
        elif not (np.isfinite(scale) & (scale > 0)).all():
            yield node, "a scale is not positive and finite"


def _per_tensor(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("QuantizeLinear"):
        scale = network.array(node.input[1])
        if scale is not None and scale.size > 1 and network.weight(node) is None:
            yield node, "an activation has a scale for each channel: give it one"


def _per_channel(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for layer in network.of_kind(*LAYERS):
        maker = network.maker(layer.input[1])
        if maker is None or maker.op_type != "DequantizeLinear":
            continue
        scale, weight = network.array(maker.input[1]), network.weight(maker)
        if scale is None or weight is None:
            continue
        axis = _attribute(maker, "axis", 1)
        wanted = _output_axis(layer, weight.ndim)
        if weight.shape[wanted] > 1 and scale.size == 1:
            yield maker, "weights have one scale: give each output channel its own"
        elif scale.size > 1 and axis % weight.ndim != wanted:
            yield (
                maker,
                f"weights have a scale for each index of axis {axis}, and output channels are axis {wanted}",
            )


def _float_bias(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("DequantizeLinear"):
        codes = network.array(node.input[0])
        if codes is not None and codes.dtype == np.int32:
            yield node, "it dequantizes int32, as of a bias: write the bias in float32"


def _float_weights(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("DequantizeLinear"):
        codes = network.array(node.input[0])
        if codes is not None and codes.dtype in (np.int8, np.uint8):
            yield node, "it reads constant codes: write float weights with a Q before it"


def _all_inputs(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for layer in network.of_kind(*LAYERS):
        quantized = [network.is_quantized(name) for name in layer.input[:2]]
        if any(quantized) and not all(quantized):
            which = layer.input[quantized.index(False)]
            yield layer, f"its input {which!r} is not quantized, and the other one is"


def _no_output(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for layer in network.of_kind(*LAYERS):
        for q in network.readers(layer.output):
            if q.op_type != "QuantizeLinear":
                continue
            results = [name for dq in network.readers(q.output) for name in dq.output]
            if any(network.is_output(name) for name in results):
                yield (
                    q,
                    f"the output of {layer.name!r} is quantized for nothing: the graph gives it back",
                )


def _activation_inside(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind(*_ACTIVATIONS):
        dq = network.maker(node.input[0])
        if dq is None or dq.op_type != "DequantizeLinear":
            continue
        q = network.maker(dq.input[0])
        maker = None if q is None else network.maker(q.input[0])
        if maker is not None and maker.op_type in LAYERS:
            yield (
                node,
                f"a Q and DQ stand between {maker.name!r} and it, and keep them from being fused",
            )


def _residual(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("Add"):
        for index in (0, 1):
            layer, other = network.maker(node.input[index]), node.input[1 - index]
            if (
                layer is not None
                and layer.op_type in LAYERS
                and network.is_quantized(layer.input[0])
                and other not in network.constants
                and not network.is_quantized(other)
                and not _is_quantized_layer(network, other)
            ):
                yield (
                    node,
                    f"its input {other!r} is not quantized, so the sum does not go into {layer.name!r}",
                )


def _is_quantized_layer(network: _Network, name: str) -> bool:
    maker = network.maker(name)
    return maker is not None and maker.op_type in LAYERS and network.is_quantized(maker.input[0])


def _pairs(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.of_kind("QuantizeLinear"):
        readers = network.readers(node.output)
        if not readers or any(reader.op_type != "DequantizeLinear" for reader in readers):
            yield node, "what reads its codes is no DQ"


def _operators(network: _Network) -> Iterator[tuple[onnx.NodeProto, str]]:
    for node in network.nodes:
        if node.op_type in _QUANTIZED_OPERATORS or node.domain == "com.microsoft":
            yield node, f"TensorRT has no {node.op_type}: write float operators between Q and DQ"


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    found = [attribute.i for attribute in node.attribute if attribute.name == name]
    return found[0] if found else default


def _output_axis(layer: onnx.NodeProto, rank: int) -> int:
    if layer.op_type == "Conv" or (layer.op_type == "Gemm" and _attribute(layer, "transB", 0)):
        return 0
    return rank - 1 if layer.op_type == "MatMul" else 1


RULES = {
    "zero points are 0": Rule(
        f"{_IMPORTER}, and NVIDIA/TensorRT issue 2774: 'TensorRT only supports symmetric quantization'",
        _zero_points,
    ),
    "codes are signed": Rule(
        f"{_IMPORTER}: uint8 codes are refused, for a zero point of uint8 int8 is taken instead",
        _signed_codes,
    ),
    "scales are constants": Rule(
        "TensorRT Operators, Quantize: scale must be a build-time constant; "
        f"{_IMPORTER}: 'Scale coefficients must all be positive'",
        _constant_scales,
    ),
    "activations have one scale": Rule(
        f"{_PLACEMENT}: per-tensor quantization for activations", _per_tensor
    ),
    "weights have a scale for each channel": Rule(
        f"{_PLACEMENT}: per-channel quantization for weights; ONNX Support: axis 0 of a GEMM with transB, else 1",
        _per_channel,
    ),
    "biases are floats": Rule(
        "microsoft/onnxruntime issue 14229, onnx/onnx-tensorrt issue 850: 'only activation types allowed as input'",
        _float_bias,
    ),
    "weights are floats behind a pair": Rule(
        f"{_GUIDE}, Quantized Weights: of TensorRT 8, weights must be FP32; newer ones take codes behind a DQ as well",
        _float_weights,
    ),
    "all inputs of a layer": Rule(
        f"{_PLACEMENT}: quantize all inputs of weighted operations", _all_inputs
    ),
    "no output of a layer for its own sake": Rule(
        f"{_PLACEMENT}: by default, don't quantize the outputs of weighted operations", _no_output
    ),
    "no pair before an activation": Rule(
        f"{_PLACEMENT}: don't simulate batch-normalization and ReLU fusions", _activation_inside
    ),
    "the other input of a sum": Rule(
        f"{_PLACEMENT}: quantize the residual input in skip connections", _residual
    ),
    "pairs": Rule(
        f"{_GUIDE}, TensorRT Processing of Q/DQ Networks: a pair of Q and DQ on each input of a quantizable layer",
        _pairs,
    ),
    "operators": Rule(
        f"{_GUIDE}, ONNX Support, and onnx/onnx-tensorrt, docs/operators.md: not supported; NVIDIA/TensorRT issue 1009",
        _operators,
    ),
}
