"""A depthwise convolution whose channels share one weight scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.doctor.few_codes import FEW_CODES, count_few, rounding_cost
from edgekit.converters.doctor.fix_nodes import fix_nodes
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    Grid,
    find_nodes,
    grid_of,
    is_depthwise,
    is_operator,
    label,
    set_grid,
    weight_of,
)
from edgekit.converters.doctor.regrid import scale_bias
from edgekit.converters.doctor.rule import CLOSER, Bench, Cost, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import constant


class PerTensorDepthwise(Rule[OnnxSubject]):
    """The channels of a depthwise convolution differ widely in size; with one scale the small ones get few codes.

    Fix, where the file still holds the float weights: a scale for each channel. Otherwise what is lost is lost.
    """

    id: ClassVar[str] = "per-tensor-depthwise"
    says: ClassVar[str] = (
        "A depthwise convolution has one weight scale for all channels, and some channels use few codes."
    )
    source: ClassVar[str] = "https://arxiv.org/abs/1806.08342"
    promise: ClassVar[Promise | None] = CLOSER

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Counts the codes that each channel uses."""
        found = []
        for node in subject.graph:
            codes, grid, fixable = _read(node)
            if codes is None or grid is None or not grid.is_single or not is_depthwise(node, codes):
                continue
            few = count_few(_rows(codes, grid))
            if few.size:
                found.append(
                    Finding(
                        self.id,
                        (label(node),),
                        f"{few.size} of {len(codes)} channels of {node.op_type} '{label(node)}' use fewer than "
                        f"{FEW_CODES} of 127 codes, the worst {int(few.min())}",
                        "quantize again with a scale for each channel (per_channel=True)",
                        fixable=fixable,
                    )
                )
        return found

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Measures, or says what rounding does to the worst channel's weights."""
        if finding.fixable:
            return bench.compare(self, [finding])
        for node in find_nodes(subject.graph, finding.nodes):
            codes, grid, _ = _read(node)
            if codes is not None and grid is not None:
                return rounding_cost(_rows(codes, grid))
        return Cost(basis="not measured")

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Gives each channel its own scale."""
        graph = subject.graph
        return fix_nodes(graph, findings, lambda node: _give_scales(graph, node))


def _give_scales(graph: ir.Graph, node: ir.Node) -> bool:
    """Gives each channel of a layer's weights its own scale; returns whether the file has the floats that it takes."""
    quantizer = _weight_quantizer(node)
    real = None if quantizer is None else constant(quantizer.inputs[0])
    old = grid_of(quantizer)
    holder = None if node.inputs[1] is None else node.inputs[1].producer()
    if quantizer is None or real is None or old is None or holder is None:
        return False
    peak = np.abs(real).reshape(len(real), -1).max(axis=1)
    scale = np.where(peak > 0, peak / 127, old.scale.reshape(-1)[0]).astype(np.float32)
    grid = Grid(scale, np.full(scale.shape, _middle(old), old.dtype), 0)
    for side in (quantizer, holder):
        set_grid(graph, side, grid)
        side.attributes["axis"] = ir.AttrInt64("axis", 0)
    scale_bias(graph, node, scale.astype(np.float64) / float(old.scale.reshape(-1)[0]))
    return True


def _read(node: ir.Node) -> tuple[npt.NDArray[np.generic] | None, Grid | None, bool]:
    """Returns codes and grid of a weight, and whether its float values are in the file as well."""
    weight = weight_of(node)
    if weight is not None:
        return weight.codes, weight.grid, False
    quantizer = _weight_quantizer(node)
    grid = grid_of(quantizer)
    real = None if quantizer is None else constant(quantizer.inputs[0])
    if grid is None or real is None or not grid.is_single:
        return None, None, False
    info = np.iinfo(grid.dtype)
    zero = float(grid.zero_point.reshape(-1)[0])
    codes = np.rint(real / grid.scale.reshape(-1)[0]) + zero
    return np.clip(codes, info.min, info.max).astype(grid.dtype), grid, True


def _weight_quantizer(node: ir.Node) -> ir.Node | None:
    """Returns the QuantizeLinear of float weights in front of the DequantizeLinear that a Conv reads."""
    if not is_operator(node, "Conv") or node.inputs[1] is None:
        return None
    holder = node.inputs[1].producer()
    if not is_operator(holder, DEQUANTIZE) or holder is None or holder.inputs[0] is None:
        return None
    quantizer = holder.inputs[0].producer()
    alone = len(holder.inputs[0].uses()) == 1 and len(holder.outputs[0].uses()) == 1
    if not is_operator(quantizer, QUANTIZE) or quantizer is None or not alone:
        return None
    return None if constant(quantizer.inputs[0]) is None else quantizer


def _middle(grid: Grid) -> int:
    return 0 if grid.dtype == np.int8 else 128


def _rows(codes: npt.NDArray[np.generic], grid: Grid) -> npt.NDArray[np.int64]:
    """Returns the codes less the zero point, a row for each channel."""
    zero = int(grid.zero_point.reshape(-1)[0])
    return codes.astype(np.int64).reshape(len(codes), -1) - zero
