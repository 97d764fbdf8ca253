"""Walks a float graph and joins the factors that its operators keep (``Scaling``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.element_sets.variables import Ids
from edgekit.converters.element_sets.walk import ElementWalk, along, raise_rank, rank_of
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import is_layer, obstacle
from edgekit.converters.recover.scales import Bounds, Layer, Norm, Operand, Scaling, Site

_KEEP = frozenset({"Identity", "Dropout", "LeakyRelu", "Relu"})
_WITH_CONSTANTS = frozenset({"Add", "Max", "Min", "Sub"})


def find_scaling(model: ir.Model) -> Scaling:
    """Returns which channels of ``model``, a float graph in canonical form, may be scaled, and which together."""
    walk = _Walk(model)
    return Scaling(walk.variables, walk.values, walk.sites)


class _Walk(ElementWalk):
    """A walk whose variables are factors."""

    def __init__(self, model: ir.Model) -> None:
        self.sites: list[Site] = []
        super().__init__(model)

    def apply(self, node: ir.Node) -> Ids | None:
        source = node.inputs[0] if node.inputs else None
        if source is None or node.outputs[0].dtype != ir.DataType.FLOAT:
            return None
        op = node.op_type
        if op in _KEEP:
            return self.get(source)
        if op in _WITH_CONSTANTS and len(node.inputs) == 2:
            return self._with_constants(node)
        rule = _RULES.get(op)
        if rule is None:
            return self.move(node, source)
        if rank_of(source) is None or constant(source) is not None:
            return None
        return rule(self, node, source)

    def _layer(self, node: ir.Node, source: ir.Value) -> Ids | None:
        if node.op_type == "MatMul" and constant(node.inputs[1]) is None:
            return self._product(node)
        weight = constant(node.inputs[1])
        grouped = node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1
        if not is_layer(node) or (obstacle(node) is not None and not grouped) or weight is None:
            return None
        axis = 1 if node.op_type.startswith("Conv") else -1
        ids = self.get(source)
        axis %= ids.ndim
        ids = self.variables.collapse(ids, tuple(a for a in range(ids.ndim) if a != axis))
        inputs, outputs = _count_channels(node, weight)
        if inputs < 1 or ids.size not in (1, inputs):
            return None
        made = self.variables.make(outputs)
        site = Layer(node, np.broadcast_to(ids.reshape(-1), (inputs,)), made)
        self.sites.append(site)
        return along(made, axis, ids.ndim)

    def _product(self, node: ir.Node) -> Ids | None:
        """A product of two activations keeps the factors of the second one's columns."""
        a, b = node.inputs
        if a is None or b is None or (rank_of(b) or 0) < 2 or rank_of(a) != rank_of(b):
            return None
        self.variables.pin(self.get(a))
        ids = self.get(b)
        return self.variables.collapse(ids, (ids.ndim - 2,))

    def _norm(self, node: ir.Node, source: ir.Value) -> Ids | None:
        scale = constant(node.inputs[1])
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if scale is None or scale.ndim != 1 or (bias is not None and constant(bias) is None):
            return None
        rank = rank_of(source) or 0
        if node.op_type == "LayerNormalization":
            if attribute(node, "axis", -1) not in (-1, rank - 1):
                return None
            axis = rank - 1
        else:
            axis = 1
        if any(value.uses() for value in node.outputs[1:]):
            return None
        self.variables.pin(self.get(source))
        made = self.variables.make(scale.size)
        self.sites.append(Norm(node, made))
        return along(made, axis, rank)

    def _clip(self, node: ir.Node, source: ir.Value) -> Ids | None:
        bounds = [constant(value) for value in node.inputs[1:] if value is not None]
        if any(array is None or array.size != 1 for array in bounds):
            return None
        ids = self.get(source)
        self.sites.append(Bounds(node, ids))
        return ids

    def _with_constants(self, node: ir.Node) -> Ids | None:
        rank = rank_of(node.outputs[0])
        if rank is None or all(constant(value) is not None for value in node.inputs):
            return None
        result: Ids = np.zeros((1,) * rank, np.int64)
        first = True
        for value in node.inputs:
            if value is None:
                return None
            if constant(value) is not None:
                continue
            if rank_of(value) is None:
                return None
            ids = raise_rank(self.get(value), rank)
            # One element that meets several has the factor of all.
            if first:
                result, first = ids, False
            else:
                self.variables.join(result, ids)
                result = np.broadcast_to(result, np.broadcast_shapes(result.shape, ids.shape))
        # A value of one element a channel, against a constant of more, keeps one factor.
        for index, value in enumerate(node.inputs):
            if constant(value) is not None:
                self.sites.append(Operand(node, index, result))
        return result

    def _mul(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """One factor keeps its variables, the other one has none: a gate, or the smaller one."""
        rank = rank_of(node.outputs[0])
        values = [value for value in node.inputs if value is not None and constant(value) is None]
        if rank is None or any(rank_of(value) is None for value in values):
            return None
        if node.op_type == "Div" and constant(node.inputs[0]) is not None:
            return None
        ids = [raise_rank(self.get(value), rank) for value in values]
        if len(ids) == 2:
            pinned = [not self.variables.roots(each).any() for each in ids]
            keep = 1 if node.op_type == "Mul" and pinned[0] and not pinned[1] else 0
            self.variables.pin(ids[1 - keep])
            return ids[keep]
        return ids[0] if ids else None

    def _prelu(self, node: ir.Node, source: ir.Value) -> Ids | None:
        return self.get(source) if constant(node.inputs[1]) is not None else None


_Rule = Callable[[_Walk, ir.Node, ir.Value], Ids | None]
_RULES: dict[str, _Rule] = {
    "BatchNormalization": _Walk._norm,
    "Clip": _Walk._clip,
    "Conv": _Walk._layer,
    "ConvTranspose": _Walk._layer,
    "Div": _Walk._mul,
    "Gemm": _Walk._layer,
    "InstanceNormalization": _Walk._norm,
    "LayerNormalization": _Walk._norm,
    "MatMul": _Walk._layer,
    "Mul": _Walk._mul,
    "PRelu": _Walk._prelu,
}


def _count_channels(node: ir.Node, weight: npt.NDArray[np.generic]) -> tuple[int, int]:
    """Returns the input and output channels of a layer."""
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv":
        return weight.shape[1] * groups, weight.shape[0]
    if node.op_type == "ConvTranspose":
        return weight.shape[0], weight.shape[1] * groups
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return weight.shape[1], weight.shape[0]
    return weight.shape[0], weight.shape[1]
