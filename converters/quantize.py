"""Static int8: decides which nodes are quantized, which values share a grid, and hangs the records on the values.

The graph that comes out still has the float operators; a value with a record is int8 there. What that means for
each operator is in docs/arithmetic.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, Range, choose_range
from edgekit.converters.passes.fuse_clamps import Clamp, FuseClamps, get_clamp
from edgekit.converters.passes.rewrite import (
    PassReport,
    add_initializer,
    attribute,
    constant,
    forget_names,
)
from edgekit.converters.quantization import ActivationQuantization, set_quantization
from edgekit.converters.quantize_weights import quantize_layer
from edgekit.converters.round_weights import InputStatistics
from edgekit.converters.tables import SCALAR_OPERATORS, UNARY_OPERATORS
from edgekit.targets.errors import CalibrationError, ModelError

_REPORT_KEY = "edgekit.quantization_report"

# Results that lie in a known interval have a known grid: [0, 1) in 1/256 and [-1, 1) in 1/128.
_UNSIGNED_UNIT = ActivationQuantization(np.float32(1 / 256), -128)
_SIGNED_UNIT = ActivationQuantization(np.float32(1 / 128), 0)
_FIXED = {
    "Sigmoid": _UNSIGNED_UNIT,
    "HardSigmoid": _UNSIGNED_UNIT,
    "Softmax": _UNSIGNED_UNIT,
    "Tanh": _SIGNED_UNIT,
    "Erf": _SIGNED_UNIT,
}
# Operators that move codes: the result has its first input's grid.
_MOVES = frozenset(
    {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Slice", "Pad"}
)
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_BINARY = frozenset({"Add", "Sub", "Mul"})
# One input, and a result with a grid of its own.
_UNARY = UNARY_OPERATORS | {"AveragePool", "GlobalAveragePool", "Softmax"}
# Two operands, one of them a single constant: in effect unary.
_SCALAR = SCALAR_OPERATORS - _BINARY
_KNOWN = _MOVES | _LAYERS | _BINARY | _UNARY | _SCALAR | {"Concat"}
_CLAMPABLE = _KNOWN - _MOVES - _FIXED.keys() - {"Concat"}
# A range that is smaller is noise, and would let multipliers leave float32.
_SMALLEST_SCALE = 2.0**-64
# Inputs of a Concat share one grid if none loses more than one bit by it.
_SHARED_WIDTH = 2.0


@dataclass(frozen=True)
class FloatNode:
    """A node that stays float, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class QuantizationReport:
    """What ``quantize`` decided.

    Attributes:
        method: How ranges were chosen.
        quantized: Names of the nodes that are int8, in graph order.
        float_nodes: The others.
        fused_clamps: A line for each Relu or Clip that went into a range.
        widened: By node, the output channels whose weights got a wider scale to keep sums in int32.
    """

    method: str
    quantized: tuple[str, ...]
    float_nodes: tuple[FloatNode, ...]
    fused_clamps: tuple[str, ...]
    widened: dict[str, tuple[int, ...]] = field(default_factory=dict)


def quantize(model: ir.Model, calibration: Calibration, *, method: str = "minmax") -> ir.Model:
    """Returns a quantized copy of ``model``: records on its values, clamps taken into ranges.

    Args:
        model: A float model in canonical form, simplified; it is not changed.
        calibration: Made from this model.
        method: How the range of an activation is chosen from its sketch (``calibrate.METHODS``).

    Raises:
        CalibrationError: A value was never seen in calibration, or there is no such method.
        ModelError: A scale cannot be held in float32.
    """
    result = model.clone()
    graph = result.graph
    fused = FuseClamps(lambda node: node.op_type in _CLAMPABLE and obstacle(node) is None)(result)
    assert isinstance(fused, PassReport)

    quantized: list[ir.Node] = []
    float_nodes: list[FloatNode] = []
    for node in graph:
        reason = obstacle(node)
        if reason is None:
            quantized.append(node)
        else:
            float_nodes.append(FloatNode(node.name or "", node.op_type, reason))

    ranges = _Ranges(calibration, method)
    grids = _share_grids(quantized, ranges)
    widened: dict[str, tuple[int, ...]] = {}
    for value, grid in grids.assign():
        set_quantization(value, grid)
    for node in quantized:
        if node.op_type in _LAYERS:
            channels = _quantize_weights(graph, node, grids, calibration)
            if channels:
                widened[node.name or ""] = channels
        elif node.op_type in _BINARY:
            _quantize_constants(graph, node)
    forget_names(graph)
    result.meta[_REPORT_KEY] = QuantizationReport(
        method,
        tuple(node.name or "" for node in quantized),
        tuple(float_nodes),
        tuple(fused.changed),
        widened,
    )
    return result


def get_report(model: ir.Model) -> QuantizationReport:
    """Returns what ``quantize`` decided about ``model``, which it made."""
    return cast(QuantizationReport, model.meta[_REPORT_KEY])


def obstacle(node: ir.Node) -> str | None:
    """Returns why ``node`` cannot be int8, or None where it can."""
    if node.domain:
        return f"operators of {node.domain} are not quantized"
    if node.op_type not in _KNOWN:
        return f"there is no int8 {node.op_type}"
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return "it does not compute float32"
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "its second output is used"
    sources = _activations(node)
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in sources):
        return "it does not compute on float32"
    constants = [constant(value) is not None for value in sources]
    if all(constants) or (any(constants) and node.op_type not in SCALAR_OPERATORS):
        return "it computes on constants"
    if node.op_type in _SCALAR:
        sizes = [array.size for array in map(constant, sources) if array is not None]
        return None if sizes == [1] else "neither of its operands is a single constant"
    if node.op_type in _LAYERS:
        return _layer_obstacle(node)
    if node.op_type == "Clip" and any(
        v is not None and constant(v) is None for v in node.inputs[1:]
    ):
        return "its bounds are computed"
    if node.op_type == "Pad":
        return _pad_obstacle(node)
    return None


def _layer_obstacle(node: ir.Node) -> str | None:
    weight = constant(node.inputs[1])
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(bias_value)
    if weight is None or (bias_value is not None and bias is None):
        return "its weights or bias are computed"
    if weight.dtype != np.float32 or (bias is not None and bias.dtype != np.float32):
        return "its weights or bias are not float32"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return f"its weights have rank {weight.ndim}"
    if node.op_type == "Gemm":
        factors = [node.attributes.get(name) for name in ("alpha", "beta")]
        if any(a is not None and a.as_float() != 1.0 for a in factors) or attribute(
            node, "transA", 0
        ):
            return "it has alpha, beta or transA"
        if bias is not None and bias.size not in (1, weight.shape[_output_axis(node)]):
            return "its bias has a row for each sample"
    return None


def _pad_obstacle(node: ir.Node) -> str | None:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return None
    fill = _pad_value(node)
    if fill is None:
        return "what it pads with is computed"
    source = node.inputs[0]
    assert source is not None
    clamp = get_clamp(source)
    if not clamp.lo <= fill <= clamp.hi:
        return f"it pads with {fill:g}, which its input's range excludes"
    return None


def _pad_value(node: ir.Node) -> float | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    array = constant(value)
    return None if array is None else float(np.asarray(array, np.float64).reshape(-1)[0])


def _activations(node: ir.Node) -> list[ir.Value | None]:
    """Returns the inputs of ``node`` that carry codes."""
    if node.op_type == "Concat":
        return list(node.inputs)
    return list(node.inputs[: 2 if node.op_type in SCALAR_OPERATORS else 1])


def _output_axis(node: ir.Node) -> int:
    """Returns the dimension of the weights with the output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1


class _Ranges:
    """The range of each value, from its sketch and within its clamp."""

    def __init__(self, calibration: Calibration, method: str) -> None:
        self._choose: Callable[[str], Range] = lambda name: choose_range(
            calibration.sketches[name], method
        )
        self._sketches = calibration.sketches

    def of(self, value: ir.Value) -> Range:
        name = str(value.name)
        if name not in self._sketches:
            raise CalibrationError(
                f"tensor '{name}' was not calibrated: the calibration belongs to another model, or to this one "
                "before it was simplified"
            )
        found, clamp = self._choose(name), get_clamp(value)
        return Range(max(found.lo, clamp.lo), min(found.hi, clamp.hi))


class _Grids:
    """Classes of values that share one grid (disjoint sets), each with a range or a fixed grid."""

    def __init__(self) -> None:
        self._parent: dict[ir.Value, ir.Value] = {}
        self._range: dict[ir.Value, Range] = {}
        self._clamp: dict[ir.Value, Clamp] = {}
        self._fixed: dict[ir.Value, ActivationQuantization] = {}

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._parent

    def add(self, value: ir.Value, found: Range) -> None:
        self._parent[value] = value
        self._range[value] = found
        self._clamp[value] = get_clamp(value)

    def fix(self, value: ir.Value, grid: ActivationQuantization) -> None:
        self._fixed[self._root(value)] = grid

    def join(self, a: ir.Value, b: ir.Value) -> None:
        """Gives ``a`` and ``b`` one grid, over both ranges; a fixed grid stays."""
        a, b = self._root(a), self._root(b)
        if a is b:
            return
        self._parent[b] = a
        self._range[a] = _union((self._range[a], self._range.pop(b)))
        mine, other = self._clamp[a], self._clamp.pop(b)
        self._clamp[a] = Clamp(max(mine.lo, other.lo), min(mine.hi, other.hi))
        if b in self._fixed:
            self._fixed[a] = self._fixed.pop(b)

    def can_share(self, values: Iterable[ir.Value]) -> bool:
        """Whether one grid for all ``values`` breaks no clamp and costs none more than a bit."""
        roots = {self._root(value) for value in values}
        fixed = {self._fixed.get(root) for root in roots}
        if fixed != {None}:
            return len(fixed) == 1
        whole = _union(self._range[root] for root in roots)
        narrowest = min(self._range[root].hi - self._range[root].lo for root in roots)
        clamps = [self._clamp[root] for root in roots]
        return whole.hi - whole.lo <= _SHARED_WIDTH * narrowest and all(
            clamp.lo <= whole.lo and whole.hi <= clamp.hi for clamp in clamps
        )

    def grid(self, value: ir.Value | None) -> ActivationQuantization:
        assert value is not None
        root = self._root(value)
        return self._fixed.get(root) or make_grid(self._range[root])

    def assign(self) -> Iterable[tuple[ir.Value, ActivationQuantization]]:
        """Yields every value and its grid."""
        return [(value, self.grid(value)) for value in self._parent]

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parent[value] is not value:
            value = self._parent[value]
        return value


def _share_grids(nodes: list[ir.Node], ranges: _Ranges) -> _Grids:
    grids = _Grids()
    for node in nodes:
        for value in (*_activations(node), node.outputs[0]):
            if value is not None and constant(value) is None and value not in grids:
                grids.add(value, ranges.of(value))
    for node in nodes:
        output = node.outputs[0]
        if node.op_type in _FIXED:
            grids.fix(output, _FIXED[node.op_type])
    for node in nodes:
        if node.op_type in _MOVES:
            source = node.inputs[0]
            assert source is not None
            grids.join(source, node.outputs[0])
    for node in nodes:
        if node.op_type == "Concat":
            sources = [value for value in node.inputs if value is not None]
            if grids.can_share(sources):
                for value in sources:
                    grids.join(node.outputs[0], value)
    return grids


def _union(ranges: Iterable[Range]) -> Range:
    found = list(ranges)
    return Range(min(r.lo for r in found), max(r.hi for r in found))


def make_grid(whole: Range) -> ActivationQuantization:
    """Returns the int8 grid over ``whole``, with 0 exactly on it.

    ``s = (hi - lo) / 255``, ``z = rne(-128 - lo / s)``: what lies beyond an end saturates there, which is a clamp
    to the end after rounding.

    Raises:
        ModelError: The range is too wide for a float32 scale.
    """
    lo, hi = min(0.0, whole.lo), max(0.0, whole.hi)
    width = (hi - lo) / 255
    if width > float(np.finfo(np.float32).max):
        raise ModelError(f"the range [{lo:g}, {hi:g}] is too wide for float32")
    scale = np.float32(max(width, _SMALLEST_SCALE) if width else 1.0)
    zero_point = int(np.clip(np.rint(-128 - lo / float(scale)), -128, 127))
    return ActivationQuantization(scale, zero_point)


def _quantize_weights(
    graph: ir.Graph, node: ir.Node, grids: _Grids, calibration: Calibration
) -> tuple[int, ...]:
    """Hangs the records on the weights and the bias of ``node``; returns the channels that were widened."""
    axis = _output_axis(node)
    grid, output = grids.grid(node.inputs[0]), grids.grid(node.outputs[0])
    weight = _own(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    bias, bias_array = None, None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _own(graph, node, 2, (array.shape[axis],))
        bias_array = cast("npt.NDArray[np.float32]", constant(bias))
    inputs = _input_statistics(node, calibration, array.shape[axis])
    layer = quantize_layer(array, bias_array, grid.scale, axis, inputs)
    with np.errstate(over="ignore"):
        multiplier = layer.weight.scale * grid.scale / output.scale
    if not np.isfinite(multiplier).all():
        raise ModelError(f"node '{node.name}': its weights are too large for its output's range")
    set_quantization(weight, layer.weight)
    if bias is not None:
        set_quantization(bias, layer.bias)
    return layer.widened


def _input_statistics(node: ir.Node, calibration: Calibration, channels: int) -> InputStatistics:
    """Returns the statistics of the input channels of each of ``channels`` output channels of a layer."""
    source = node.inputs[0]
    assert source is not None
    moments = calibration.moments.get(str(source.name))
    if moments is None:
        raise CalibrationError(f"tensor '{source.name}' was not calibrated as the input of a layer")
    groups = attribute(node, "group", 1)
    spread = [
        np.repeat(values.reshape(groups, -1), channels // groups, axis=0)
        for values in (moments.mean(), moments.variance())
    ]
    return InputStatistics(*spread)


def _quantize_constants(graph: ir.Graph, node: ir.Node) -> None:
    """Hangs a grid on the constant operand of a binary ``node``."""
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None:
            whole = Range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
            set_quantization(_own(graph, node, index), make_grid(whole))


def _own(
    graph: ir.Graph, node: ir.Node, index: int, shape: tuple[int, ...] | None = None
) -> ir.Value:
    """Returns the initializer at input ``index``, copied if others use it or it is to have another shape."""
    value = node.inputs[index]
    array = constant(value)
    assert value is not None
    assert array is not None
    if (
        len(value.uses()) == 1
        and not value.is_graph_output()
        and (shape is None or array.shape == shape)
    ):
        return value
    if shape is not None:
        array = np.broadcast_to(array.reshape(-1), shape)
    copy = add_initializer(graph, str(value.name), array)
    node.replace_input_with(index, copy)
    return copy
