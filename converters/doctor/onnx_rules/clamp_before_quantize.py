"""A Relu or Clip that stands between a layer and its QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.fix_nodes import fix_nodes
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.processor import ONNX_RUNTIME
from edgekit.converters.doctor.qdq import (
    QUANTIZE,
    Grid,
    activation_quantizers,
    grid_of,
    is_operator,
    label,
    readers,
)
from edgekit.converters.doctor.regrid import can_regrid, regrid
from edgekit.converters.doctor.rule import CLOSER, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import bypass, constant


class ClampBeforeQuantize(Rule[OnnxSubject]):
    """The grid reaches beyond the clamp, so ONNX Runtime keeps the clamp and computes the layer before it in float.

    Fix, where the clamp ends at 0: the grid begins there, so that saturation is the clamp; its steps become finer. The
    int32 biases that depend on the scale are rounded anew.
    """

    id: ClassVar[str] = "clamp-before-quantize"
    says: ClassVar[str] = (
        "A Relu or Clip stands between a layer and a QuantizeLinear whose range reaches beyond it: the layer runs in "
        "float."
    )
    source: ClassVar[str] = (
        "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/optimizer/qdq_transformer/clip_quantizelinear.cc"
    )
    promise: ClassVar[Promise | None] = CLOSER

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Looks at what is before each QuantizeLinear."""
        if subject.processor.engine != ONNX_RUNTIME:
            return []
        found = []
        for quantizer in activation_quantizers(subject.graph):
            clamp = _clamp_before(quantizer)
            if clamp is None:
                continue
            (low, high), grid = _limits(clamp), grid_of(quantizer)
            assert grid is not None
            least, most = grid.limits
            if low <= least and high >= most:
                continue
            layer = clamp.inputs[0].producer() if clamp.inputs[0] is not None else None
            better = _clamped_grid(grid, low, high)
            found.append(
                Finding(
                    self.id,
                    (label(clamp),),
                    f"{clamp.op_type} '{label(clamp)}' keeps [{low:g}, {high:g}], but its QuantizeLinear holds "
                    f"[{least:.4g}, {most:.4g}]: {label(layer) if layer else 'what is before'} is not fused",
                    "let the range end where the clamp does, so that saturation does its work",
                    fixable=better is not None and can_regrid(quantizer),
                )
            )
        return found

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Narrows grids and removes clamps."""
        graph = subject.graph

        def fix(clamp: ir.Node) -> bool:
            quantizer = readers(clamp.outputs[0])[0]
            grid, source = grid_of(quantizer), clamp.inputs[0]
            better = None if grid is None else _clamped_grid(grid, *_limits(clamp))
            if better is None or source is None:
                return False
            regrid(graph, quantizer, better)
            return bypass(graph, clamp, source)

        return fix_nodes(graph, findings, fix)


def _clamp_before(quantizer: ir.Node) -> ir.Node | None:
    """Returns the Relu or Clip that only ``quantizer``, which has one scale, reads."""
    value, grid = quantizer.inputs[0], grid_of(quantizer)
    clamp = None if value is None else value.producer()
    if (
        value is None
        or grid is None
        or not grid.is_single
        or not is_operator(clamp, "Relu", "Clip")
    ):
        return None
    if value.is_graph_output() or len(readers(value)) != 1 or clamp is None:
        return None
    source = clamp.inputs[0]
    layer = None if source is None else source.producer()
    if layer is None or is_operator(layer, "DequantizeLinear", QUANTIZE):
        return None
    constants = [constant(bound) for bound in clamp.inputs[1:] if bound is not None]
    return None if any(array is None or array.size != 1 for array in constants) else clamp


def _limits(clamp: ir.Node) -> tuple[float, float]:
    """Returns the least and the largest number that ``clamp`` lets through."""
    if clamp.op_type == "Relu":
        return 0.0, np.inf
    bounds = [-np.inf, np.inf]
    for index, name in enumerate(("min", "max")):
        written = clamp.attributes.get_float(name, None)
        if written is not None:
            bounds[index] = written
        value = clamp.inputs[index + 1] if len(clamp.inputs) > index + 1 else None
        array = constant(value)
        if array is not None:
            bounds[index] = float(array.reshape(-1)[0])
    return bounds[0], bounds[1]


def _clamped_grid(grid: Grid, low: float, high: float) -> Grid | None:
    """Returns the grid that ends where the clamp does, or None where there is none that holds 0 as an end."""
    least, most = grid.limits
    low, high = max(low, least), min(high, most)
    info = np.iinfo(grid.dtype)
    if low == 0 and high > 0:
        scale, zero = high, info.min
    elif high == 0 and low < 0:
        scale, zero = -low, info.max
    else:
        return None
    single = np.array(scale / (info.max - info.min), np.float32).reshape(grid.scale.shape)
    if not single.all():
        return None
    return Grid(single, np.array(zero, grid.dtype).reshape(grid.scale.shape), grid.axis)
