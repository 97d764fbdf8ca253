"""Sums of two products that pass 16 bits on an x86 without VNNI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.doctor.fix_nodes import fix_nodes
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.processor import ONNX_RUNTIME
from edgekit.converters.doctor.qdq import (
    QLINEAR_PRODUCTS,
    Weight,
    channels_last_axis,
    find_nodes,
    has_uint8_input,
    is_depthwise,
    is_operator,
    label,
    weight_of,
)
from edgekit.converters.doctor.regrid import scale_bias
from edgekit.converters.doctor.rule import FEWER_BITS, Bench, Cost, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import add_initializer

_LEAST, _MOST = -32768, 32767
_LARGEST_CODE = 255


class Saturation(Rule[OnnxSubject]):
    """VPMADDUBSW adds two products of uint8 and int8 in 16 bits: 255 * (a + b) passes 32767 from a + b = 129 on.

    Which weights meet in a pair is the kernel's affair, so that the two largest of one sign in an output channel are
    taken: where their sum is at most 128 nothing can saturate, whatever the activations. Depthwise convolutions are
    multiplied otherwise and are left out. Fix: the channels that may saturate get 7 bits, half the code and twice the
    scale, and their biases likewise.
    """

    id: ClassVar[str] = "saturation"
    says: ClassVar[str] = (
        "uint8 times int8 on an x86 without VNNI: pairs of products may pass 32767 and saturate."
    )
    source: ClassVar[str] = (
        "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-and-why-do-i-need-to-try-u8u8"
    )
    promise: ClassVar[Promise | None] = FEWER_BITS

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Looks for the two largest weights of one sign in each output channel."""
        if subject.processor.engine != ONNX_RUNTIME:
            return []
        if not subject.processor.is_x86 or subject.processor.has_vnni:
            return []
        found = []
        for node in subject.graph:
            weight = _unsafe_weight(node)
            if weight is None:
                continue
            unsafe = may_saturate(_by_channel(node, weight))
            largest = _largest_pair(_by_channel(node, weight))
            found.append(
                Finding(
                    self.id,
                    (label(node),),
                    f"{int(unsafe.sum())} of {unsafe.size} output channels of {node.op_type} '{label(node)}' have two "
                    f"weights of one sign whose sum is up to {largest}: times {_LARGEST_CODE} that passes 16 bits",
                    "weights of 7 bits (reduce_range=True), or session.x64quantprecision=1 in the session's options",
                    fixable=_can_reduce(node, weight),
                )
            )
        return found

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Returns what saturation does to the sums of a layer, computed for codes that are drawn at random."""
        del bench
        for node in find_nodes(subject.graph, finding.nodes):
            weight = weight_of(node)
            if weight is not None:
                return _simulate(_by_channel(node, weight))
        return Cost(basis="not measured")

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Halves the codes of channels that may saturate."""
        graph = subject.graph

        def fix(node: ir.Node) -> bool:
            weight = _unsafe_weight(node)
            if weight is None or not _can_reduce(node, weight):
                return False
            _reduce(graph, node, weight)
            return True

        return fix_nodes(graph, findings, fix)


def may_saturate(channels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Returns for each row of weight codes whether some two of them, times uint8 codes, may pass 16 bits."""
    ordered = np.sort(channels, axis=1)
    if ordered.shape[1] == 1:
        ordered = np.concatenate([ordered, np.zeros_like(ordered)], axis=1)
    high = np.maximum(ordered[:, -2:], 0).sum(axis=1) * _LARGEST_CODE
    low = np.minimum(ordered[:, :2], 0).sum(axis=1) * _LARGEST_CODE
    unsafe: npt.NDArray[np.bool_] = (high > _MOST) | (low < _LEAST)
    return unsafe


def _largest_pair(channels: npt.NDArray[np.int64]) -> int:
    ordered = np.sort(channels, axis=1)
    return int(max(ordered[:, -2:].sum(axis=1).max(), -ordered[:, :2].sum(axis=1).min()))


def _unsafe_weight(node: ir.Node) -> Weight | None:
    """Returns the int8 weight of a product with uint8 activations of which some channel may saturate."""
    if not (is_operator(node, "Conv", "Gemm", "MatMul") or node.op_type in QLINEAR_PRODUCTS):
        return None
    weight = weight_of(node)
    if weight is None or weight.codes.dtype != np.int8 or weight.codes.ndim < 2:
        return None
    if not has_uint8_input(node) or is_depthwise(node, weight.codes):
        return None
    return weight if may_saturate(_by_channel(node, weight)).any() else None


def _can_reduce(node: ir.Node, weight: Weight) -> bool:
    """Returns whether the weight is this product's alone, behind a DequantizeLinear."""
    return is_operator(node, "Conv", "Gemm", "MatMul") and len(weight.holder.outputs[0].uses()) == 1


def _by_channel(node: ir.Node, weight: Weight) -> npt.NDArray[np.int64]:
    """Returns the codes, a row for each output channel."""
    codes = np.moveaxis(weight.codes, channels_last_axis(node), 0).astype(np.int64)
    return codes.reshape(len(codes), -1)


def _reduce(graph: ir.Graph, node: ir.Node, weight: Weight) -> None:
    axis = channels_last_axis(node) % weight.codes.ndim
    unsafe = may_saturate(_by_channel(node, weight))
    single = weight.grid.is_single
    factor = np.where(unsafe, 2.0, 1.0)
    if node.op_type == "MatMul" and (single or weight.codes.ndim > 2):
        factor = np.full(factor.shape, 2.0)
    shape = [1] * weight.codes.ndim
    shape[axis] = -1
    codes = np.rint(weight.codes / factor.reshape(shape)).astype(np.int8)
    scale = weight.grid.scale.astype(np.float64).reshape(-1) * (
        factor[:1] if single and _uniform(factor) else factor
    )
    base = weight.holder.inputs[0].name if weight.holder.inputs[0] is not None else None
    name = base or "weight"
    scalar = scale.size == 1
    new_scale = scale.astype(np.float32).reshape(weight.grid.scale.shape if scalar else (-1,))
    zeros = np.zeros(new_scale.shape, np.int8)
    weight.holder.resize_inputs(3)
    weight.holder.replace_input_with(0, add_initializer(graph, f"{name}_7_bits", codes))
    weight.holder.replace_input_with(1, add_initializer(graph, f"{name}_scale", new_scale))
    weight.holder.replace_input_with(2, add_initializer(graph, f"{name}_zero_point", zeros))
    if not scalar:
        weight.holder.attributes["axis"] = ir.AttrInt64("axis", axis)
    scale_bias(graph, node, factor[:1] if _uniform(factor) else factor)


def _uniform(factor: npt.NDArray[np.float64]) -> bool:
    return bool((factor == factor[0]).all())


def _simulate(channels: npt.NDArray[np.int64], rows: int = 32, seed: int = 0) -> Cost:
    """Returns the signal over what saturation adds, for activations drawn at random and neighbours as pairs."""
    if channels.shape[1] % 2:
        channels = np.concatenate([channels, np.zeros((len(channels), 1), np.int64)], axis=1)
    channels = channels[:256, :2048]
    codes = np.random.default_rng(seed).integers(0, 256, (rows, channels.shape[1]))
    signal = noise = 0.0
    for row in codes:
        pairs = (row * channels).reshape(len(channels), -1, 2).sum(axis=2)
        exact = pairs.sum(axis=1)
        got = np.clip(pairs, _LEAST, _MOST).sum(axis=1)
        signal += float(np.square(exact).sum())
        noise += float(np.square(exact - got).sum())
    ratio = 10 * np.log10(signal / noise) if noise else np.inf
    return Cost(
        db=(float(ratio), float("inf")),
        basis="sums of the layer, computed for random activations, neighbours in pairs",
    )
