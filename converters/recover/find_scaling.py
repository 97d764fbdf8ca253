"""Walks a float graph and joins the factors that its operators keep (``Scaling``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import is_layer, obstacle
from edgekit.converters.recover.scales import Bounds, Ids, Layer, Norm, Operand, Scaling, Variables

# Elements that a Reshape may move; more are pinned.
_MOST = 1 << 24
_KEEP = frozenset({"Identity", "Dropout", "LeakyRelu", "Relu"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_REDUCE = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
_RESHAPE = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_WITH_CONSTANTS = frozenset({"Add", "Max", "Min", "Sub"})


def find_scaling(model: ir.Model) -> Scaling:
    """Returns which channels of ``model``, a float graph in canonical form, may be scaled, and which together."""
    return _Walk(model).scaling


class _Walk:
    """One walk over a graph, in its order."""

    def __init__(self, model: ir.Model) -> None:
        self._variables = Variables()
        self.scaling = Scaling(self._variables, {}, [])
        for value in model.graph.inputs:
            self._set(value, _ones(value))
        for node in model.graph:
            self._visit(node)
        for value in model.graph.outputs:
            self._variables.pin(self._get(value))

    def _get(self, value: ir.Value) -> Ids:
        return self.scaling.values.get(value, _ones(value))

    def _set(self, value: ir.Value, ids: Ids) -> None:
        self.scaling.values[value] = ids

    def _visit(self, node: ir.Node) -> None:
        """Gives the results of ``node`` variables; pins all it reads where no rule fits."""
        ids = None if node.domain or _has_graphs(node) else self._apply(node)
        if ids is None:
            self._pin_all(node)
            return
        output = node.outputs[0]
        if _rank(output) != ids.ndim:
            self._variables.pin(ids)
            ids = _ones(output)
        self._set(output, ids)
        for value in node.outputs[1:]:
            self._set(value, _ones(value))

    def _pin_all(self, node: ir.Node) -> None:
        graphs = [
            a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH
        ]
        inner = [value for graph in graphs for each in graph.all_nodes() for value in each.inputs]
        outer = [value for graph in graphs for value in graph.outputs]
        for value in (*node.inputs, *inner, *outer):
            if value is not None and value in self.scaling.values:
                self._variables.pin(self._get(value))
        for value in node.outputs:
            self._set(value, _ones(value))

    def _apply(self, node: ir.Node) -> Ids | None:
        source = node.inputs[0] if node.inputs else None
        if source is None or node.outputs[0].dtype != ir.DataType.FLOAT:
            return None
        op = node.op_type
        if op in _KEEP:
            return self._get(source)
        if op in _WITH_CONSTANTS and len(node.inputs) == 2:
            return self._with_constants(node)
        rule = _RULES.get(op)
        if op in _RESHAPE:
            rule = _Walk._reshape
        elif op in _POOLS:
            rule = _Walk._pool
        elif op in _REDUCE:
            rule = _Walk._reduce
        if rule is None or _rank(source) is None or constant(source) is not None:
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
        ids = self._get(source)
        axis %= ids.ndim
        ids = self._variables.collapse(ids, tuple(a for a in range(ids.ndim) if a != axis))
        inputs, outputs = _count_channels(node, weight)
        if inputs < 1 or ids.size not in (1, inputs):
            return None
        made = self._variables.make(outputs)
        site = Layer(node, np.broadcast_to(ids.reshape(-1), (inputs,)), made)
        self.scaling.sites.append(site)
        return _along(made, axis, ids.ndim)

    def _product(self, node: ir.Node) -> Ids | None:
        """A product of two activations keeps the factors of the second one's columns."""
        a, b = node.inputs
        if a is None or b is None or (_rank(b) or 0) < 2 or _rank(a) != _rank(b):
            return None
        self._variables.pin(self._get(a))
        ids = self._get(b)
        return self._variables.collapse(ids, (ids.ndim - 2,))

    def _norm(self, node: ir.Node, source: ir.Value) -> Ids | None:
        scale = constant(node.inputs[1])
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if scale is None or scale.ndim != 1 or (bias is not None and constant(bias) is None):
            return None
        rank = _rank(source) or 0
        if node.op_type == "LayerNormalization":
            if attribute(node, "axis", -1) not in (-1, rank - 1):
                return None
            axis = rank - 1
        else:
            axis = 1
        if any(value.uses() for value in node.outputs[1:]):
            return None
        self._variables.pin(self._get(source))
        made = self._variables.make(scale.size)
        self.scaling.sites.append(Norm(node, made))
        return _along(made, axis, rank)

    def _clip(self, node: ir.Node, source: ir.Value) -> Ids | None:
        bounds = [constant(value) for value in node.inputs[1:] if value is not None]
        if any(array is None or array.size != 1 for array in bounds):
            return None
        ids = self._get(source)
        self.scaling.sites.append(Bounds(node, ids))
        return ids

    def _with_constants(self, node: ir.Node) -> Ids | None:
        rank = _rank(node.outputs[0])
        if rank is None or all(constant(value) is not None for value in node.inputs):
            return None
        result: Ids = np.zeros((1,) * rank, np.int64)
        first = True
        for value in node.inputs:
            if value is None:
                return None
            if constant(value) is not None:
                continue
            if _rank(value) is None:
                return None
            ids = _raise_rank(self._get(value), rank)
            # One element that meets several has the factor of all.
            if first:
                result, first = ids, False
            else:
                self._variables.join(result, ids)
                result = np.broadcast_to(result, np.broadcast_shapes(result.shape, ids.shape))
        # A value of one element a channel, against a constant of more, keeps one factor.
        for index, value in enumerate(node.inputs):
            if constant(value) is not None:
                self.scaling.sites.append(Operand(node, index, result))
        return result

    def _mul(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """One factor keeps its variables, the other one has none: a gate, or the smaller one."""
        rank = _rank(node.outputs[0])
        values = [value for value in node.inputs if value is not None and constant(value) is None]
        if rank is None or any(_rank(value) is None for value in values):
            return None
        if node.op_type == "Div" and constant(node.inputs[0]) is not None:
            return None
        ids = [_raise_rank(self._get(value), rank) for value in values]
        if len(ids) == 2:
            pinned = [not self._variables.roots(each).any() for each in ids]
            keep = 1 if node.op_type == "Mul" and pinned[0] and not pinned[1] else 0
            self._variables.pin(ids[1 - keep])
            return ids[keep]
        return ids[0] if ids else None

    def _prelu(self, node: ir.Node, source: ir.Value) -> Ids | None:
        return self._get(source) if constant(node.inputs[1]) is not None else None

    def _pool(self, node: ir.Node, source: ir.Value) -> Ids | None:
        if node.outputs[1:] and any(value.uses() for value in node.outputs[1:]):
            return None
        ids = self._get(source)
        return self._variables.collapse(ids, tuple(range(2, ids.ndim)))

    def _reduce(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self._get(source)
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if given is None:
            return None
        axes = tuple(sorted({int(axis) % ids.ndim for axis in given.reshape(-1)}))
        ids = self._variables.collapse(ids, axes)
        return ids if attribute(node, "keepdims", 1) else ids.squeeze(axes)

    def _resize(self, node: ir.Node, source: ir.Value) -> Ids | None:
        mode = node.attributes.get("coordinate_transformation_mode")
        if mode is not None and mode.as_string() == "tf_crop_and_resize":
            return None
        return self._collapse_changed(node, source)

    def _collapse_changed(self, node: ir.Node, source: ir.Value) -> Ids | None:
        """Joins variables along the dimensions whose size is another in the result."""
        ids, after = self._get(source), node.outputs[0].shape
        if source.shape is None or after is None or after.rank() != ids.ndim:
            return None
        changed = (a for a in range(ids.ndim) if source.shape[a] != after[a])
        return self._variables.collapse(ids, tuple(changed))

    def _pad(self, node: ir.Node, source: ir.Value) -> Ids | None:
        mode = node.attributes.get("mode")
        fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if len(node.inputs) > 2 and node.inputs[2] is not None and fill is None:
            return None
        constant_mode = mode is None or mode.as_string() == "constant"
        if constant_mode and fill is not None and np.any(fill != 0):
            return None
        return self._collapse_changed(node, source)

    def _transpose(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self._get(source)
        found = node.attributes.get("perm")
        return ids.transpose(None if found is None else list(found.as_ints()))

    def _reshape(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self._get(source)
        before, after = _sizes(source), _sizes(node.outputs[0])
        if not before or not after:
            return None
        # Leading dimensions that stay, and along which nothing varies, may be open.
        for axis in range(min(len(before), len(after))):
            if before[axis] != after[axis] or ids.shape[axis] != 1:
                break
            before[axis] = after[axis] = 1
        whole = [size for size in before if isinstance(size, int)]
        target = [size for size in after if isinstance(size, int)]
        if len(whole) < len(before) or len(target) < len(after):
            # Which elements lie where hangs on an open size; one variable for all is moved by any shape.
            if ids.size == 1:
                return ids.reshape((1,) * len(after))
            return None
        size = int(np.prod(whole))
        if size > _MOST or size != int(np.prod(target)) or not size:
            return None
        return _shrink(np.broadcast_to(ids, whole).reshape(target))

    def _concat(self, node: ir.Node, source: ir.Value) -> Ids | None:
        rank = _rank(source) or 0
        axis = node.attributes["axis"].as_int() % rank
        parts = []
        for value in node.inputs:
            if value is None or constant(value) is not None or _rank(value) != rank:
                return None
            ids, size = self._get(value), _sizes(value)[axis]
            if not isinstance(size, int):
                return None
            shape = list(ids.shape)
            shape[axis] = size
            parts.append(np.broadcast_to(ids, shape))
        others = [(*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts]
        rest = list(np.broadcast_shapes(*others))
        wide = []
        for part in parts:
            shape = [*rest]
            shape[axis] = part.shape[axis]
            wide.append(np.broadcast_to(part, shape))
        return _shrink(np.concatenate(wide, axis))

    def _slice(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids = self._get(source)
        given = [None if value is None else constant(value) for value in node.inputs[1:]]
        if any(v is not None and a is None for v, a in zip(node.inputs[1:], given, strict=True)):
            return None
        lists = [None if array is None else [int(x) for x in array.reshape(-1)] for array in given]
        starts, ends, axes, steps = (*lists, None, None)[:4]
        if starts is None or ends is None:
            return None
        places = range(len(starts)) if axes is None else axes
        strides = [1] * len(starts) if steps is None else steps
        cut = [slice(None)] * ids.ndim
        for place, start, end, step in zip(places, starts, ends, strides, strict=True):
            if ids.shape[place] > 1:
                cut[place] = slice(
                    start, None if step < 0 and end < -ids.shape[place] else end, step
                )
        return ids[tuple(cut)]

    def _gather(self, node: ir.Node, source: ir.Value) -> Ids | None:
        ids, indices = self._get(source), constant(node.inputs[1])
        if indices is None:
            return None
        axis = attribute(node, "axis", 0) % ids.ndim
        if ids.shape[axis] > 1:
            return np.take(ids, indices.astype(np.int64), axis)
        shape = (*ids.shape[:axis], *[1] * indices.ndim, *ids.shape[axis + 1 :])
        return ids.reshape(shape)

    def _expand(self, node: ir.Node, source: ir.Value) -> Ids | None:
        rank = _rank(node.outputs[0])
        return None if rank is None else _raise_rank(self._get(source), rank)


_Rule = Callable[[_Walk, ir.Node, ir.Value], Ids | None]
_RULES: dict[str, _Rule] = {
    "BatchNormalization": _Walk._norm,
    "Clip": _Walk._clip,
    "Concat": _Walk._concat,
    "Conv": _Walk._layer,
    "ConvTranspose": _Walk._layer,
    "Div": _Walk._mul,
    "Expand": _Walk._expand,
    "Gather": _Walk._gather,
    "Gemm": _Walk._layer,
    "InstanceNormalization": _Walk._norm,
    "LayerNormalization": _Walk._norm,
    "MatMul": _Walk._layer,
    "Mul": _Walk._mul,
    "PRelu": _Walk._prelu,
    "Pad": _Walk._pad,
    "Resize": _Walk._resize,
    "Slice": _Walk._slice,
    "Transpose": _Walk._transpose,
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


def _has_graphs(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(found.type in kinds for found in node.attributes.values())


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else value.shape.rank()


def _sizes(value: ir.Value) -> list[int | str]:
    """Returns the dimensions, the names of open ones; those without a name are unlike any other."""
    if value.shape is None:
        return []
    return [
        dim if isinstance(dim, int) else (str(dim.value) if dim.value else f"{value.name}:{axis}")
        for axis, dim in enumerate(value.shape)
    ]


def _ones(value: ir.Value) -> Ids:
    return np.zeros((1,) * (_rank(value) or 0), np.int64)


def _along(ids: Ids, axis: int, rank: int) -> Ids:
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)


def _raise_rank(ids: Ids, rank: int) -> Ids:
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def _shrink(ids: Ids) -> Ids:
    """Returns ``ids`` with each dimension of size 1 along which nothing varies."""
    for axis in range(ids.ndim):
        first = np.take(ids, [0], axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids
