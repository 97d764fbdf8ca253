"""FoldBatchNorm: scales and shifts the weights of the layer before instead of its output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import (
    GraphPass,
    Skip,
    add_initializer,
    attribute,
    bypass,
    constant,
    only_consumer,
    skip,
)

_EPSILON = 1e-5


class FoldBatchNorm(GraphPass):
    """Scales and shifts the weights of the layer before instead of its output.

    With ``a = gamma / sqrt(var + epsilon)``, computed in float64:

    Rules:
        ``BatchNormalization(L(x, W, b)) -> L(x, a * W, a * (b - mean) + beta)`` where L is Conv, ConvTranspose or
        Gemm with constant weights and no other user; a is along W's output channels, and a missing b is 0.
    """

    ops = frozenset({"BatchNormalization"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Folds ``node`` into its producer."""
        source = node.inputs[0]
        layer = None if source is None else source.producer()
        if (
            source is None
            or layer is None
            or layer.op_type not in ("Conv", "ConvTranspose", "Gemm")
        ):
            return skip(node, "no Conv, ConvTranspose or Gemm comes before it")
        if only_consumer(source) is not node:
            return skip(node, f"the output of '{layer.name}' has other users")
        if attribute(node, "training_mode", 0) or any(v.uses() for v in node.outputs[1:]):
            return skip(node, "it is in training mode")
        statistics = [constant(value) for value in node.inputs[1:5]]
        weight = constant(layer.inputs[1])
        old_bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        bias = constant(old_bias)
        if (
            weight is None
            or any(s is None for s in statistics)
            or (old_bias is not None and bias is None)
        ):
            return skip(node, "weights or statistics are not constant")
        if layer.op_type == "Gemm" and not _is_plain_gemm(layer):
            return skip(node, f"'{layer.name}' has alpha, beta or transA")

        gamma, beta, mean, variance = (np.asarray(s, np.float64) for s in statistics)
        epsilon = node.attributes.get("epsilon")
        factor = gamma / np.sqrt(variance + (_EPSILON if epsilon is None else epsilon.as_float()))
        shift = beta - factor * mean
        if bias is not None:
            shift = shift + factor * np.broadcast_to(
                bias.astype(np.float64).reshape(-1), factor.shape
            )
        scaled = _scale_output_channels(layer, weight.astype(np.float64), factor)
        dtype = weight.dtype
        name = "weight" if layer.inputs[1] is None else layer.inputs[1].name
        layer.resize_inputs(3)
        layer.replace_input_with(1, add_initializer(graph, f"{name}_folded", scaled.astype(dtype)))
        layer.replace_input_with(2, add_initializer(graph, f"{name}_bias", shift.astype(dtype)))
        if not bypass(graph, node, source):
            raise ir.passes.PassError(
                f"the output of '{layer.name}' cannot take the place of '{node.name}'"
            )
        return f"folded into '{layer.name}'"


def _is_plain_gemm(layer: ir.Node) -> bool:
    factors = [layer.attributes.get(name) for name in ("alpha", "beta")]
    return all(a is None or a.as_float() == 1.0 for a in factors) and not attribute(
        layer, "transA", 0
    )


def _scale_output_channels(
    layer: ir.Node, weight: npt.NDArray[np.float64], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Multiplies the weights of each output channel: Conv [O, I, ...], ConvTranspose [I, O/groups, ...], Gemm."""
    if layer.op_type == "Conv":
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.op_type == "Gemm":
        return weight * (factor[:, None] if attribute(layer, "transB", 0) else factor[None, :])
    groups = attribute(layer, "group", 1)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    by_group = factor.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    return (grouped * by_group).reshape(weight.shape)
