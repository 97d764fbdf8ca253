"""Finds which channels of a float graph can be cut, which only together, and what goes with them (``Channels``)."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import onnx_ir as ir

from edgekit.converters.element_sets.variables import Ids
from edgekit.converters.element_sets.walk import ElementWalk, along, raise_rank, rank_of
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.prune.channels.channels import Channels, Role, Slab

# One input of elements, one result of as many, each of its own alone; what else they read is a number.
_UNARY = frozenset(
    {
        *(
            "Abs",
            "Cast",
            "Ceil",
            "Celu",
            "Clip",
            "Cos",
            "Dropout",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
        ),
        *(
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "Log",
            "Mish",
            "Neg",
            "Reciprocal",
            "Relu",
        ),
        *(
            "Round",
            "Selu",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Swish",
            "Tanh",
        ),
        "ThresholdedRelu",
    }
)
# Several inputs that broadcast.
_BROADCAST = frozenset(["Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Where"])
_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def find_channels(model: ir.Model, keep: Collection[str] = ()) -> Channels:
    """Returns which channels of ``model``, a float graph in canonical form, can be cut, and what goes with each.

    Args:
        model: The graph; it is not changed.
        keep: Names of nodes, or of their results, whose channels stay.
    """
    walk = _Walk(model, frozenset(keep))
    return Channels(walk.variables, walk.values, walk.slabs)


class _Walk(ElementWalk):
    """A walk whose variables say whether elements are there.

    A value's variables vary along one dimension at most: what is left of it must be a box. Where they would along
    several, as when a row of features becomes heads, those along the inner ones are joined.
    """

    def __init__(self, model: ir.Model, keep: frozenset[str]) -> None:
        self.slabs: list[Slab] = []
        super().__init__(model)
        for node in model.graph:
            for value in node.outputs:
                if value.name in keep or node.name in keep:
                    self.variables.pin(self.get(value))

    def set(self, value: ir.Value, ids: Ids) -> None:
        wide = [axis for axis, size in enumerate(ids.shape) if size > 1]
        super().set(value, self.variables.collapse(ids, tuple(wide[1:])))

    def apply(self, node: ir.Node) -> Ids | None:
        source = node.inputs[0] if node.inputs else None
        if source is None or rank_of(source) is None:
            return None
        op = node.op_type
        if op in _GATES:
            return self._recurrent(node, source)
        if node.outputs[0].dtype != ir.DataType.FLOAT:
            return None
        if op in _BROADCAST:
            return self._broadcast(node)
        if constant(source) is not None:
            return None
        if op in _UNARY:
            return self.get(source) if source.dtype == ir.DataType.FLOAT else None
        rule = _RULES.get(op)
        return self.move(node, source) if rule is None else rule(self, node, source)

    def _add(
        self, node: ir.Node, index: int, axis: int, ids: Ids, role: Role, repeats: int = 1
    ) -> None:
        if len(node.inputs) > index and node.inputs[index] is not None:
            self.slabs.append(Slab(node, index, axis, np.tile(ids, repeats), role, repeats))

    def _read(self, source: ir.Value, axis: int, count: int) -> Ids | None:
        """Returns the variables of the channels that a layer reads; those along other dimensions become one."""
        ids = self.get(source)
        axis %= ids.ndim
        ids = self.variables.collapse(ids, tuple(a for a in range(ids.ndim) if a != axis))
        if ids.size not in (1, count):
            return None
        return np.broadcast_to(ids.reshape(-1), (count,))

    def _conv(self, node: ir.Node, source: ir.Value) -> Ids | None:
        weight, groups = constant(node.inputs[1]), attribute(node, "group", 1)
        rank = rank_of(source) or 0
        if weight is None or weight.ndim != rank or not self._constants_follow(node, 2):
            return None
        transposed = node.op_type == "ConvTranspose"
        inputs = weight.shape[0] if transposed else weight.shape[1] * groups
        outputs = weight.shape[1] * groups if transposed else weight.shape[0]
        if not weight.size or inputs % groups or outputs % groups:
            return None
        ids = self._read(source, 1, inputs)
        if ids is None:
            return None
        by_group = ids.reshape(groups, -1)
        alone = groups > 1 and by_group.shape[1] == 1
        if alone:
            # Groups of one channel go with it; there may be several results of each.
            made = np.repeat(ids, outputs // groups)
        elif groups == 1:
            made = self.variables.make(outputs)
        else:
            # All groups keep as many: the channels at one place of each go together.
            ids = self.variables.collapse(by_group, (0,)).reshape(-1)
            made = np.tile(self.variables.make(outputs // groups), groups)
            by_group = np.broadcast_to(ids, by_group.shape)
        one_group = made[: outputs // groups]
        if transposed:
            self._add(node, 1, 0, by_group.reshape(-1), Role.ALONG if alone else Role.READS)
            if not alone:
                self._add(node, 1, 1, one_group, Role.MAKES)
        else:
            self._add(node, 1, 0, made, Role.ALONG if alone else Role.MAKES)
            if not alone:
                self._add(node, 1, 1, by_group[0], Role.READS)
        self._add(node, 2, 0, made, Role.ALONG if alone else Role.MAKES)
        return along(made, 1, rank)

    def _product(self, node: ir.Node, source: ir.Value) -> Ids | None:
        weight, rank = constant(node.inputs[1]), rank_of(source) or 0
        if weight is None:
            return self._product_of_values(node)
        if weight.ndim != 2 or rank < 2 or not self._constants_follow(node, 2):
            return None
        if attribute(node, "transA", 0) or not weight.size:
            return None
        axis = 1 if attribute(node, "transB", 0) else 0
        ids = self._read(source, -1, weight.shape[axis])
        if ids is None:
            return None
        made = self.variables.make(weight.shape[1 - axis])
        self._add(node, 1, axis, ids, Role.READS)
        self._add(node, 1, 1 - axis, made, Role.MAKES)
        if len(node.inputs) > 2:
            bias = constant(node.inputs[2])
            if bias is not None and bias.ndim and bias.shape[-1] > 1:
                self._add(node, 2, bias.ndim - 1, made, Role.MAKES)
        return along(made, rank - 1, rank)

    def _product_of_values(self, node: ir.Node) -> Ids | None:
        """Rows, columns and batches of a product may go; what is summed over stays."""
        a, b = node.inputs
        if node.op_type != "MatMul" or a is None or b is None or constant(a) is not None:
            return None
        rank = rank_of(node.outputs[0]) or 0
        if rank_of(a) != rank or rank_of(b) != rank or rank < 2:
            return None
        left, right = _wide_axis(self.get(a)), _wide_axis(self.get(b))
        if left == rank - 1:
            self.variables.pin(self.get(a))
            left = None
        if right == rank - 2:
            self.variables.pin(self.get(b))
            right = None
        if left is not None and left == right and left < rank - 2:
            self.variables.join(self.get(a), self.get(b))
            return self.get(a)
        # Matrices that all those of the other side are multiplied by need no partner.
        if left is not None and left < rank - 2 and not _is_one(b, left):
            self.variables.pin(self.get(a))
            left = None
        if right is not None and right < rank - 2 and not _is_one(a, right):
            self.variables.pin(self.get(b))
            right = None
        if left is not None and right is not None:
            self.variables.pin(self.get(b))
        if left is None and right is None:
            return np.zeros((1,) * rank, np.int64)
        return self.get(a) if left is not None else self.get(b)

    def _broadcast(self, node: ir.Node) -> Ids | None:
        rank = rank_of(node.outputs[0])
        values = [value for value in node.inputs if value is not None]
        computed = [value for value in values if constant(value) is None]
        if rank is None or not computed or any(rank_of(value) is None for value in values):
            return None
        result = self._meet(computed, rank)
        wide = _wide_axis(result)
        for index, value in enumerate(node.inputs):
            array = constant(value)
            if array is not None and wide is not None:
                place = wide - rank + array.ndim
                if place >= 0 and array.shape[place] > 1:
                    self._add(node, index, place, result.reshape(-1), Role.ALONG)
        return result

    def _meet(self, values: list[ir.Value], rank: int) -> Ids:
        """Returns the variables of what several values make together: elements that meet go together.

        A value that is spread along a dimension in which others vary is needed by all of them, and stays.
        """
        parts = [raise_rank(self.get(value), rank) for value in values]
        full = np.broadcast_shapes(*(ids.shape for ids in parts))
        result: Ids = np.zeros((1,) * rank, np.int64)
        first = True
        for value, ids in zip(values, parts, strict=True):
            narrow = [axis for axis in range(rank) if ids.shape[axis] < full[axis]]
            sizes = [_size(value, axis - rank) for axis in range(rank)]
            if any(sizes[axis] not in (1, full[axis]) for axis in narrow):
                for each in parts:
                    self.variables.pin(each)
                return np.zeros((1,) * rank, np.int64)
            if any(sizes[axis] == 1 for axis in narrow):
                self.variables.pin(ids)
            elif first:
                result, first = ids, False
            else:
                self.variables.join(result, ids)
                result = np.broadcast_to(result, np.broadcast_shapes(result.shape, ids.shape))
        return result

    def _softmax(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        return ids if ids.shape[attribute(node, "axis", -1)] == 1 else None

    def _layer_norm(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self.get(source)
        first = attribute(node, "axis", -1) % ids.ndim
        if any(size > 1 for size in ids.shape[first:]) or _uses_more(node):
            return None
        return ids

    def _channel_norm(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """Each channel has constants of its own, and mean and variance as well."""
        ids = self.get(source)
        if ids.ndim < 2 or not self._constants_follow(node, 1) or _uses_more(node):
            return None
        ids = self.variables.collapse(ids, tuple(a for a in range(ids.ndim) if a != 1))
        if ids.size > 1:
            for index in range(1, len(node.inputs)):
                self._add(node, index, 0, ids.reshape(-1), Role.ALONG)
        return ids

    def _recurrent(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """Cells go with all their gates, those of both directions together; a cell reads all others by R."""
        inputs = [*node.inputs, *[None] * (8 - len(node.inputs))]
        w, r = constant(inputs[1]), constant(inputs[2])
        gates, layout = _GATES[node.op_type], attribute(node, "layout", 0)
        if w is None or r is None or r.ndim != 3 or layout or rank_of(source) != 3:
            return None
        if any(inputs[i] is not None and constant(inputs[i]) is None for i in (3, 4, 7)):
            return None
        cells = r.shape[2]
        ids = self._read(source, -1, w.shape[2])
        if ids is None or r.shape[1] != gates * cells or "hidden_size" not in node.attributes:
            return None
        made = self.variables.make(cells)
        for index in (5, 6):
            state = inputs[index]
            if state is None:
                continue
            if constant(state) is not None:
                self._add(node, index, 2, made, Role.ALONG)
                continue
            known = self._read(state, 2, cells) if rank_of(state) == 3 else None
            self.variables.join(made, np.zeros(1, np.int64) if known is None else known)
        self._add(node, 1, 2, ids, Role.READS)
        self._add(node, 1, 1, made, Role.MAKES, gates)
        self._add(node, 2, 2, made, Role.READS)
        self._add(node, 2, 1, made, Role.MAKES, gates)
        self._add(node, 3, 1, made, Role.MAKES, 2 * gates)
        self._add(node, 7, 1, made, Role.MAKES, 3)
        for value in node.outputs[1:]:
            self.set(value, along(made, 2, 3))
        return along(made, 3, 4)

    def _slice(self, node: ir.Node, source: ir.Value) -> Ids | None:
        wide = _wide_axis(self.get(source))
        if wide is not None and len(node.inputs) > 4 and node.inputs[4] is not None:
            steps = constant(node.inputs[4])
            if steps is None or (steps != 1).any():
                return None
        return self.move(node, source)

    def _gather(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids, indices = self.get(source), constant(node.inputs[1])
        if indices is None:
            return None
        if indices.ndim != 1 and _wide_axis(ids) == attribute(node, "axis", 0) % ids.ndim:
            return None
        return self.move(node, source)

    def _constants_follow(self, node: ir.Node, first: int) -> bool:
        return all(value is None or constant(value) is not None for value in node.inputs[first:])


_Rule = Callable[[_Walk, ir.Node, ir.Value], Ids | None]
_RULES: dict[str, _Rule] = {
    "BatchNormalization": _Walk._channel_norm,
    "Conv": _Walk._conv,
    "ConvTranspose": _Walk._conv,
    "Gather": _Walk._gather,
    "Gemm": _Walk._product,
    "InstanceNormalization": _Walk._channel_norm,
    "LayerNormalization": _Walk._layer_norm,
    "LogSoftmax": _Walk._softmax,
    "MatMul": _Walk._product,
    "Slice": _Walk._slice,
    "Softmax": _Walk._softmax,
}


def _wide_axis(ids: Ids) -> int | None:
    """Returns the dimension along which variables vary."""
    return next((axis for axis, size in enumerate(ids.shape) if size > 1), None)


def _size(value: ir.Value, axis: int) -> int | None:
    """Returns the size of a dimension counted from the last one, 1 before the first, None where it is open."""
    if value.shape is None:
        return None
    if -axis > value.shape.rank():
        return 1
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def _is_one(value: ir.Value, axis: int) -> bool:
    return value.shape is not None and value.shape[axis] == 1


def _uses_more(node: ir.Node) -> bool:
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
