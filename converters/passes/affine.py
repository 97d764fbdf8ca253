"""The algebra of ``factor * x + shift`` for each channel, which passes fold into layers.

Layers are Conv, ConvTranspose and Gemm with constant weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import add_initializer, attribute, constant

_EPSILON = 1e-5


@dataclass(frozen=True)
class Affine:
    """``y[n, c, ...] = factor[c] * x[n, c, ...] + shift[c]``.

    Attributes:
        factor: float64 ``[C]``, or ``[1]`` for all channels.
        shift: The same shape.
    """

    factor: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


def affine_of(node: ir.Node) -> tuple[ir.Value, Affine] | str:
    """Returns what ``node`` scales and shifts, and how, or why it is not an affine map of one value."""
    if node.op_type == "BatchNormalization":
        return _affine_of_batch_norm(node)
    values = list(node.inputs)
    arrays = [constant(value) for value in values]
    index = 0 if arrays[1] is not None else 1
    source, operand = values[index], arrays[1 - index]
    if operand is None or source is None or arrays[index] is not None:
        return "none of its operands is constant"
    if not np.issubdtype(operand.dtype, np.floating):
        return "it does not compute on floats"
    vector = _per_channel(operand.astype(np.float64), source)
    if vector is None:
        return "its constant does not have one element a channel"
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    match node.op_type, index:
        case "Mul", _:
            return source, Affine(vector, zero)
        case "Add", _:
            return source, Affine(one, vector)
        case "Sub", 0:
            return source, Affine(one, -vector)
        case "Sub", 1:
            return source, Affine(-one, vector)
        case "Div", 0 if vector.all():
            return source, Affine(1.0 / vector, zero)
        case _:
            return "it divides by its input, or by 0"


def _affine_of_batch_norm(node: ir.Node) -> tuple[ir.Value, Affine] | str:
    source = node.inputs[0]
    if attribute(node, "training_mode", 0) or any(value.uses() for value in node.outputs[1:]):
        return "it is in training mode"
    statistics = [constant(value) for value in node.inputs[1:5]]
    if source is None or any(array is None for array in statistics):
        return "its statistics are not constant"
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in statistics)
    channels = None if source.shape is None or source.shape.rank() < 2 else source.shape[1]
    size = channels if isinstance(channels, int) else gamma.size
    if any(array.shape != (size,) for array in (gamma, beta, mean, variance)):
        return "its statistics are not one number a channel"
    epsilon = node.attributes.get("epsilon")
    factor = gamma / np.sqrt(variance + (_EPSILON if epsilon is None else epsilon.as_float()))
    return source, Affine(factor, beta - factor * mean)


def _per_channel(
    operand: npt.NDArray[np.float64], source: ir.Value
) -> npt.NDArray[np.float64] | None:
    """Returns ``[C]`` or ``[1]`` where ``operand`` broadcasts along dimension 1 of ``source`` alone."""
    if source.shape is None or operand.ndim > source.shape.rank() or source.shape.rank() < 2:
        return None
    if operand.size == 1:
        return operand.reshape(1)
    shape = (1,) * (source.shape.rank() - operand.ndim) + operand.shape
    channels = source.shape[1]
    return operand.reshape(-1) if shape[1] == channels == operand.size else None


def layer_obstacle(layer: ir.Node | None) -> str | None:
    """Returns why ``layer`` cannot take an affine map into its weights, or None where it can."""
    if layer is None or layer.domain or layer.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return "no Conv, ConvTranspose or Gemm comes before it"
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if constant(layer.inputs[1]) is None or (bias is not None and constant(bias) is None):
        return f"the weights of '{layer.name}' are not constant"
    if layer.op_type == "Gemm":
        factors = [layer.attributes.get(name) for name in ("alpha", "beta")]
        if any(a is not None and a.as_float() != 1.0 for a in factors) or attribute(
            layer, "transA", 0
        ):
            return f"'{layer.name}' has alpha, beta or transA"
        array = constant(bias)
        if array is not None and array.ndim > 1 and array.shape[0] != 1:
            return f"'{layer.name}' has a bias for each row"
    return None


def fold_into(graph: ir.Graph, layer: ir.Node, affine: Affine) -> None:
    """Makes ``layer`` compute ``factor * layer(x) + shift``, in float64, with weights and bias of its own."""
    weight, bias = (
        constant(layer.inputs[1]),
        constant(layer.inputs[2] if len(layer.inputs) > 2 else None),
    )
    assert weight is not None
    assert layer.inputs[1] is not None
    channels = _output_channels(layer, weight)
    factor = np.broadcast_to(affine.factor, channels)
    shift = np.broadcast_to(affine.shift, channels)
    if bias is not None:
        shift = shift + factor * np.broadcast_to(bias.astype(np.float64).reshape(-1), channels)
    scaled = _scale_output_channels(layer, weight.astype(np.float64), factor)
    name = layer.inputs[1].name
    layer.resize_inputs(3)
    layer.replace_input_with(
        1, add_initializer(graph, f"{name}_folded", scaled.astype(weight.dtype))
    )
    layer.replace_input_with(2, add_initializer(graph, f"{name}_bias", shift.astype(weight.dtype)))


def _output_channels(layer: ir.Node, weight: npt.NDArray[np.generic]) -> int:
    if layer.op_type == "ConvTranspose":
        return int(weight.shape[1] * attribute(layer, "group", 1))
    if layer.op_type == "Gemm" and not attribute(layer, "transB", 0):
        return int(weight.shape[1])
    return int(weight.shape[0])


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
