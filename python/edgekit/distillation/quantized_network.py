"""A float network that computes with the numbers that its quantized form has, and whose weights can be trained.

It walks the graph of `quantize`: a value with a record is what its codes stand for, a layer's weights and bias are
those of their codes. So the codes of every value are those of the reference (docs/arithmetic.md), but for sums of
floats that fall on the other side of the middle between two codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names
from edgekit.converters.quantizable import LAYERS, RECURRENT, output_axis
from edgekit.converters.quantization import (
    ActivationQuantization,
    RowQuantization,
    WeightQuantization,
    get_quantization,
    get_wide_steps,
    has_float16_weights,
    has_whole_scale,
    is_dynamic,
    set_quantization,
    stays_float,
)
from edgekit.converters.wide_program import MOST_WIDE
from edgekit.data import Sample
from edgekit.distillation.fake_quantize import (
    clamp_to_grid,
    least_scale,
    round_rows,
    round_through,
    round_to_grid,
    round_weights,
    round_wide,
)
from edgekit.distillation.network import GraphNetwork
from edgekit.distillation.operators import Call
from edgekit.distillation.operators.recurrent import run_recurrent
from edgekit.distillation.settings import Settings

# Makes the quantized graph of a float graph, given samples to calibrate with.
Quantize = Callable[[ir.Model, Sequence[Sample]], ir.Model]

# How far inside a code's bounds a weight begins whose code is not the nearest.
_INSIDE = 0.49
_INT8, _INT4 = (-127, 127), (-8, 7)
# Bits of a bias at most, and of one of a channel without weights: `quantize_weights`.
_BIAS_LIMIT, _LONE_BIAS = float(1 << 30), float(1 << 20)
_SMALLEST = float(np.finfo(np.float32).tiny) * 2


class QuantizedNetwork(GraphNetwork):
    """Answers as the quantized graph does, and trains the float weights behind its codes.

    Args:
        model: The float graph, simplified; it is not changed.
        quantize: Makes its quantized graph; is called again when ranges are learned anew.
        samples: To calibrate with, now and when ranges are learned anew.
        settings: Whether scales of weights are learned.
    """

    def __init__(
        self, model: ir.Model, quantize: Quantize, samples: Sequence[Sample], settings: Settings
    ) -> None:
        self._quantize = quantize
        self._samples = samples
        self.float_model = model.clone()
        own_weights(self.float_model.graph)
        super().__init__(quantize(self.float_model, samples))
        self._learned = settings.scales == "learned"
        self._scales: dict[str, torch.nn.Parameter] = {}
        self._codes: dict[ir.Value, Tensor] = {}
        self._readers = _find_readers(self.nodes)
        self._begin_at_codes()
        if self._learned:
            for name in self._readers:
                record = self._record(name)
                if isinstance(record, WeightQuantization):
                    scale = torch.nn.Parameter(torch.from_numpy(record.scale.copy()))
                    self._scales[name] = scale
                    self.register_parameter(f"s{len(self._scales)}", scale)

    def forward(self, inputs: Mapping[str, Tensor], wanted: Any = ()) -> dict[str, Tensor]:
        """As `GraphNetwork.forward`."""
        self._codes.clear()
        found = super().forward(inputs, wanted)
        self._codes.clear()
        return found

    def read(
        self, node: ir.Node, index: int, value: ir.Value, known: Mapping[ir.Value, Tensor]
    ) -> Tensor:
        """What a node reads: codes' numbers where it computes on codes, else what was made."""
        if value not in known:
            return self._constant(node, index, value)
        record = get_quantization(value)
        if not isinstance(record, ActivationQuantization) or stays_float(node):
            return known[value]
        maker = value.producer()
        if maker is not None and not stays_float(maker):
            return known[value]
        if value not in self._codes:
            self._codes[value] = self._to_grid(known[value], record)
        return self._codes[value]

    def leave(self, node: ir.Node, value: ir.Value, result: Tensor) -> Tensor:
        """What others read of a node's output: codes' numbers where it computes on codes."""
        record = get_quantization(value)
        if isinstance(record, ActivationQuantization) and not stays_float(node):
            return self._to_grid(result, record)
        return result

    def _to_grid(self, x: Tensor, record: ActivationQuantization) -> Tensor:
        if self.rounding:
            return round_to_grid(x, record)
        return clamp_to_grid(x, record)

    def call(self, call: Call) -> tuple[Tensor | None, ...]:
        """The outputs of a node, by the rules of its number format."""
        node = call.node
        if not stays_float(node):
            return super().call(Call(node, call.inputs, exact_codes=True))
        if not self.rounding:
            return super().call(call)
        steps = get_wide_steps(node)
        if steps is not None:
            given = [round_wide(call[0], float(steps.input), MOST_WIDE), *call.inputs[1:]]
            (y,) = super().call(Call(node, given))
            assert y is not None
            return (round_wide(y, float(steps.output), MOST_WIDE),)
        if is_dynamic(node):
            rows = round_rows(call[0], whole=has_whole_scale(node))
            return super().call(Call(node, [rows, *call.inputs[1:]]))
        if node.op_type in RECURRENT and self._has_rows(node):
            return run_recurrent(call, lambda rows, weights: round_rows(rows) @ weights.T)
        return super().call(call)

    def further(self) -> list[torch.nn.Parameter]:
        """The scales of weights, where they are learned."""
        return list(self._scales.values())

    def snapshot(self) -> dict[str, Any]:
        """As `GraphNetwork.snapshot`, with scales and grids."""
        scales = {name: scale.detach().clone() for name, scale in self._scales.items()}
        return {**super().snapshot(), ":scales": scales, ":grids": self._list_grids()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Takes what `snapshot` gave."""
        super().restore(snapshot)
        with torch.no_grad():
            for name, scale in self._scales.items():
                scale.copy_(snapshot[":scales"][name])
        self._set_grids(snapshot[":grids"])

    def renew(self) -> None:
        """Calibrates the float graph with the weights as they are now, and takes the ranges."""
        self.take(self._quantize(self.float_graph(), self._samples))

    def float_graph(self) -> ir.Model:
        """As `GraphNetwork.float_graph`: not the one with codes."""
        self.store(self.float_model)
        return self.float_model

    def take(self, model: ir.Model) -> None:
        """Takes the ranges of another quantized graph of the same float graph; scales of int4 weights stay."""
        for name in self._readers:
            record = self._record(name)
            if isinstance(record, WeightQuantization) and record.bits == 4:
                set_quantization(model.graph.initializers[name], record)
        self.model = model
        self.nodes = list(model.graph)
        self._last_use = self._find_last_uses()
        self._readers = _find_readers(self.nodes)

    def scale_of(self, name: str) -> Tensor:
        """Returns the scale of each weight of an int8 or int4 layer, in a shape that broadcasts to the weights."""
        record, node = self._record(name), self._readers[name]
        weight = self.weight(name)
        if isinstance(record, RowQuantization):
            return _least_row_scale(weight)
        assert isinstance(record, WeightQuantization)
        if name in self._scales:
            scale = self._scales[name].clamp_min(_SMALLEST)
            # Each gradient is a sum over all weights of a channel (Esser et al., 3.1).
            scale = _scale_gradient(
                scale, (weight.numel() / scale.numel() * record_range(record)[1]) ** -0.5
            )
        elif record.bits == 8 and not record.group:
            scale = least_scale(weight, record.axis, _INT8[1])
            scale = torch.maximum(scale, self._least_scale(node, scale))
        else:
            scale = torch.from_numpy(record.scale)
        return spread(scale, record, weight)

    def _least_scale(self, node: ir.Node, scale: Tensor) -> Tensor:
        """Returns what the bias of a layer needs of the scale of its weights (`quantize_weights`)."""
        step = self.input_step(node)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        least = torch.full_like(scale, max(_SMALLEST / step, _SMALLEST))
        if bias is None or stays_float(node) or str(bias.name) not in self.trained:
            return torch.where(scale == 0, torch.ones_like(scale), least)
        size = self.weight(str(bias.name)).detach().abs().double()
        lone = torch.where(size > 0, size / (step * _LONE_BIAS), torch.ones_like(size))
        wanted = torch.where(scale == 0, lone, size / (step * _BIAS_LIMIT))
        return torch.maximum(wanted.float(), least)

    def input_step(self, node: ir.Node) -> float:
        """Returns the scale of the input of a layer, 1 where it has none."""
        source = node.inputs[0]
        record = None if source is None else get_quantization(source)
        is_code = isinstance(record, ActivationQuantization) and not stays_float(node)
        return (
            float(record.scale) if is_code and isinstance(record, ActivationQuantization) else 1.0
        )

    def _constant(self, node: ir.Node, index: int, value: ir.Value) -> Tensor:
        name = str(value.name)
        record = get_quantization(value)
        if name not in self.trained:
            tensor = self.constant_tensor(name)
            is_code = isinstance(record, ActivationQuantization) and not stays_float(node)
            if is_code and isinstance(record, ActivationQuantization):
                return self._to_grid(tensor, record)
            return tensor
        weight = self.constant_tensor(name)
        if not self.rounding:
            return weight
        if node.op_type in LAYERS and index == 2 and isinstance(record, WeightQuantization):
            first = node.inputs[1]
            assert first is not None
            axis = output_axis(node)
            scale = self.scale_of(str(first.name)).detach()
            by_channel = scale.movedim(axis, 0).reshape(scale.shape[axis], -1)[:, 0]
            step = torch.tensor(self.input_step(node), dtype=torch.float32) * by_channel
            return round_through(weight / step) * step
        if isinstance(record, RowQuantization):
            return round_weights(weight, self.scale_of(name), *_INT8)
        if isinstance(record, WeightQuantization):
            return round_weights(weight, self.scale_of(name), *record_range(record))
        if index == 1 and has_float16_weights(node):
            return weight + (weight.half().float() - weight).detach()
        return weight

    def _record(self, name: str) -> object:
        return get_quantization(self.model.graph.initializers[name])

    def _has_rows(self, node: ir.Node) -> bool:
        return any(
            value is not None and isinstance(get_quantization(value), RowQuantization)
            for value in node.inputs
        )

    def _begin_at_codes(self) -> None:
        """Moves weights whose code is not the nearest just far enough, so that training begins at the graph's codes."""
        with torch.no_grad():
            for name, node in self._readers.items():
                record = self._record(name)
                if not isinstance(record, WeightQuantization) or node.inputs[1] is None:
                    continue
                if str(node.inputs[1].name) != name:
                    continue
                scale = torch.from_numpy(np.ascontiguousarray(record.spread_scale()))
                codes = torch.from_numpy(record.codes.astype(np.float32))
                weight = self.weight(name)
                low, high = record_range(record)
                # Beyond the ends of the codes a weight may be as far as it likes.
                least = torch.where(codes > low, (codes - _INSIDE) * scale, -torch.inf)
                most = torch.where(codes < high, (codes + _INSIDE) * scale, torch.inf)
                inside = torch.minimum(torch.maximum(weight, least), most)
                # A zero that is meant is 0.
                weight.copy_(torch.where(weight == 0, weight, inside))

    def _list_grids(self) -> dict[str, list[float]]:
        found = {}
        for value in _all_values(self.model.graph):
            record = get_quantization(value)
            if isinstance(record, ActivationQuantization):
                ends = [float(record.zero_point), float(record.lo), float(record.hi)]
                found[str(value.name)] = [float(record.scale), *ends]
        return found

    def _set_grids(self, grids: Mapping[str, Sequence[float]]) -> None:
        for value in _all_values(self.model.graph):
            if str(value.name) in grids:
                scale, *ends = grids[str(value.name)]
                zero_point, lo, hi = (int(end) for end in ends)
                record = ActivationQuantization(np.float32(scale), zero_point, lo, hi)
                set_quantization(value, record)


def record_range(record: WeightQuantization) -> tuple[int, int]:
    """Returns the smallest and the largest code of a layer's weights."""
    return _INT4 if record.bits == 4 else _INT8


def spread(scale: Tensor, record: WeightQuantization, weight: Tensor) -> Tensor:
    """Returns scales by channel, or by group and channel, in a shape that broadcasts to the weights."""
    if record.group:
        depth = weight.shape[1 - record.axis]
        by_row = scale.repeat_interleave(record.group, dim=0)[:depth]
        return by_row if record.axis == 1 else by_row.T
    if scale.numel() == 1:
        return scale.reshape([1] * weight.ndim)
    return scale.reshape([-1 if axis == record.axis else 1 for axis in range(weight.ndim)])


def own_weights(graph: ir.Graph) -> None:
    """Gives each layer weights and a bias of its own, a bias with an element for each output channel, in place."""
    forget_names(graph)
    for node in graph:
        if node.op_type not in LAYERS | RECURRENT or node.domain:
            continue
        for index in (1, 2):
            value = node.inputs[index] if index < len(node.inputs) else None
            array = constant(value)
            if value is None or array is None:
                continue
            if node.op_type in LAYERS and index == 2:
                weight = constant(node.inputs[1])
                if weight is not None:
                    count = weight.shape[output_axis(node)]
                    if array.size == 1 and array.shape != (count,):
                        array = np.broadcast_to(array.reshape(-1), (count,))
                    elif array.size == count:
                        array = array.reshape(count)
            if len(value.uses()) > 1 or value.is_graph_output() or array.shape != value.shape:
                node.replace_input_with(index, add_initializer(graph, str(value.name), array))
                if not value.uses() and not value.is_graph_output():
                    del graph.initializers[str(value.name)]
    forget_names(graph)


def _find_readers(nodes: Sequence[ir.Node]) -> dict[str, ir.Node]:
    """Returns the layer that multiplies with each constant that has codes, by name."""
    found = {}
    for node in nodes:
        if node.op_type not in LAYERS | RECURRENT:
            continue
        for value in node.inputs[1 : 3 if node.op_type in RECURRENT else 2]:
            record = None if value is None else get_quantization(value)
            if value is not None and isinstance(record, (WeightQuantization, RowQuantization)):
                found[str(value.name)] = node
    return found


def _least_row_scale(weight: Tensor) -> Tensor:
    with torch.no_grad():
        rows = weight.reshape(-1, weight.shape[-1])
        scale = least_scale(rows, 0, _INT8[1])
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        return scale.reshape(*weight.shape[:-1], 1)


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    return x * factor + (x - x * factor).detach()


def _all_values(graph: ir.Graph) -> list[ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]
