"""Hangs the records of each number format on the weights of a node, and on the node itself."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate import (
    Calibration,
    Range,
    RangeChoice,
)
from edgekit.converters.compensate import Hessians
from edgekit.converters.grids import Grids, make_grid
from edgekit.converters.layer_rounding import LayerRounding
from edgekit.converters.passes.rewrite import (
    add_initializer,
    attribute,
    constant,
)
from edgekit.converters.quantizable import is_depthwise, output_axis
from edgekit.converters.quantization import (
    RowQuantization,
    WideSteps,
    make_wide,
    set_quantization,
    store_float16,
)
from edgekit.converters.quantize.int4 import quantize_int4
from edgekit.converters.quantize.settle_scales import settle_scales
from edgekit.converters.quantize.weights import (
    PAIR_LIMIT,
    LayerQuantization,
    quantize_layer,
)
from edgekit.converters.round_weights import InputStatistics
from edgekit.converters.value_ranges import range_of
from edgekit.converters.wide_program import MOST_WIDE
from edgekit.targets.errors import CalibrationError, ModelError


def quantize_weights(
    graph: ir.Graph,
    node: ir.Node,
    grids: Grids,
    calibration: Calibration,
    narrow: bool,
    hessians: Hessians | None,
    group: int | None,
    *,
    fits_scales: bool = False,
) -> LayerQuantization:
    """Hangs the records on the weights and the bias of ``node``, and returns them; int4 where there is a ``group``.

    With ``fits_scales`` channels of few inputs get the scales that the Hessian loses least with (docs/solver.md).
    """
    axis = output_axis(node)
    grid, output = grids.grid(node.inputs[0]), grids.grid(node.outputs[0])
    weight = own_constant(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    bias, bias_array = None, None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = own_constant(graph, node, 2, (array.shape[axis],))
        bias_array = cast("npt.NDArray[np.float32]", constant(bias))
    inputs = read_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    if group is not None:
        layer = quantize_int4(
            array,
            bias_array,
            grid.scale,
            axis,
            inputs,
            rounding,
            group=group,
            fit=rounding.fit_int4,
        )
    else:
        layer = quantize_layer(
            array,
            bias_array,
            grid.scale,
            axis,
            inputs,
            rounding,
            pair_limit=PAIR_LIMIT if narrow else None,
            fit=rounding.fit_scales if fits_scales else None,
        )
        if not is_depthwise(node):
            layer = settle_scales(layer, grid, output)
    with np.errstate(over="ignore"):
        multiplier = layer.weight.scale * grid.scale / output.scale
    if not np.isfinite(multiplier).all():
        raise ModelError(f"node '{node.name}': its weights are too large for its output's range")
    set_quantization(weight, layer.weight)
    if bias is not None:
        set_quantization(bias, layer.bias)
    return layer


def quantize_alone(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    group: int | None = None,
) -> None:
    """Hangs the record on the weights of ``node``, whose bias stays float32; int4 where there is a ``group``."""
    axis = output_axis(node)
    weight = own_constant(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    inputs = read_statistics(node, calibration, array)
    rounding = LayerRounding(node, calibration, hessians)
    one = np.float32(1)
    if group is None:
        layer = quantize_layer(array, None, one, axis, inputs, rounding)
    else:
        layer = quantize_int4(
            array, None, one, axis, inputs, rounding, group=group, fit=rounding.fit_int4
        )
    set_quantization(weight, layer.weight)


def quantize_wide(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    hessians: Hessians | None,
    choice: RangeChoice,
) -> None:
    """Hangs the record on the weights of ``node``, and on itself the scales of its input and its output."""
    quantize_alone(graph, node, calibration, hessians)
    source = node.inputs[0]
    assert source is not None
    steps = [
        _wide_step(range_of(value, calibration, choice)) for value in (source, *node.outputs[:1])
    ]
    make_wide(node, WideSteps(*steps))


def _wide_step(seen: Range) -> np.float32:
    """Returns the scale of int16 codes around 0 whose largest stands for the end that is farther from 0."""
    reach = max(-float(seen.lo), float(seen.hi))
    smallest = float(np.finfo(np.float32).tiny)
    return np.float32(max(reach / MOST_WIDE, smallest) if reach > 0 else 1.0)


def round_to_float16(graph: ir.Graph, node: ir.Node) -> None:
    """Rounds the weights of ``node`` to float16, to nearest even; they are float32 with fewer digits."""
    weight = own_constant(graph, node, 1)
    array = cast("npt.NDArray[np.float32]", constant(weight))
    weight.const_value = ir.Tensor(array.astype(np.float16).astype(np.float32), name=weight.name)
    store_float16(node)


def quantize_recurrent(
    graph: ir.Graph,
    node: ir.Node,
    calibration: Calibration,
    narrow: bool,
    hessians: Hessians | None,
) -> tuple[int, ...]:
    """Hangs the records on W and R of ``node``; returns the rows of either whose scale had to grow to be narrow.

    Only of the inputs that W multiplies it is known what they are like.
    """
    source = node.inputs[0]
    seen = calibration.moments.get(str(source.name)) if source is not None else None
    narrowed: set[int] = set()
    for index in (1, 2):
        weight = own_constant(graph, node, index)
        array = cast("npt.NDArray[np.float32]", constant(weight))
        directions, rows, depth = array.shape
        mean, variance = np.zeros(depth), np.ones(depth)
        if index == 1 and seen is not None and seen.axis == -1:
            mean, variance = seen.mean(), seen.variance()
        count = directions * rows
        inputs = InputStatistics(*(np.tile(values, (count, 1)) for values in (mean, variance)))
        layer = quantize_layer(
            array.reshape(count, depth),
            None,
            np.float32(1),
            0,
            inputs,
            LayerRounding(node, calibration, hessians if index == 1 else None),
            pair_limit=PAIR_LIMIT if narrow else None,
        )
        narrowed.update(layer.narrowed)
        record = RowQuantization(
            layer.weight.codes.astype(np.int8).reshape(array.shape),
            layer.weight.scale.reshape(directions, rows),
        )
        set_quantization(weight, record)
    return tuple(sorted(narrowed))


def read_statistics(
    node: ir.Node, calibration: Calibration, weight: npt.NDArray[np.float32]
) -> InputStatistics:
    """Returns the statistics of the input channels of each output channel of a layer."""
    source = node.inputs[0]
    assert source is not None
    moments = calibration.moments.get(str(source.name))
    if moments is None:
        raise CalibrationError(f"tensor '{source.name}' was not calibrated as the input of a layer")
    groups = attribute(node, "group", 1)
    channels, inner = np.moveaxis(weight, output_axis(node), 0).shape[:2]
    mean, variance = moments.mean(), moments.variance()
    if mean.size != groups * inner:  # Layers read it along another dimension too.
        mean, variance = np.zeros(groups * inner), np.ones(groups * inner)
    spread = [
        np.repeat(values.reshape(groups, -1), channels // groups, axis=0)
        for values in (mean, variance)
    ]
    return InputStatistics(*spread)


def quantize_constants(graph: ir.Graph, node: ir.Node, symmetric: bool) -> None:
    """Hangs a grid on the constant operand of a binary ``node``."""
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is not None:
            whole = Range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
            grid = make_grid(whole, symmetric=symmetric)
            set_quantization(own_constant(graph, node, index), grid)


def own_constant(
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
