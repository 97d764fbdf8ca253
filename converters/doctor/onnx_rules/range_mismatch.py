"""A grid that does not fit the values it is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject, Range
from edgekit.converters.doctor.qdq import (
    MOVES,
    activation_quantizers,
    find_nodes,
    grid_of,
    is_operator,
    label,
    remove_unused,
)
from edgekit.converters.doctor.regrid import can_regrid, make_grid, regrid
from edgekit.converters.doctor.rule import CLOSER, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import forget_names

# A grid of so many times the reach of its values wastes three of eight bits.
_WIDER = 8
# So much of an input is clipped by calibrations that drop outliers.
_CLIPPED = 0.01


class RangeMismatch(Rule[OnnxSubject]):
    """The file was calibrated on other data than it meets: inputs of another scale, or samples that were not alike.

    Looked for with calibration samples only, on the float network. Inputs that are clipped count; values inside do
    not, since saturation also stands for a Relu or a Clip. Fix: the grid that holds what the samples show.
    """

    id: ClassVar[str] = "range-mismatch"
    says: ClassVar[str] = (
        "The samples use less than an eighth of a grid, or an input passes its ends: calibrated on other data."
    )
    source: ClassVar[str] = "https://github.com/microsoft/onnxruntime-inference-examples/issues/319"
    promise: ClassVar[Promise | None] = CLOSER

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Compares grids with what the samples reach."""
        if not subject.samples_are_real:
            return []
        found = []
        for quantizer, reach in _reaches(subject):
            grid = grid_of(quantizer)
            assert grid is not None
            low, high = grid.limits
            least, most = min(reach[0], 0.0), max(reach[1], 0.0)
            name = quantizer.inputs[0].name if quantizer.inputs[0] is not None else None
            share = subject.clipped.get(str(name), 0.0)
            if share > _CLIPPED:
                what = f"{100 * share:.0f} % of '{name}' lie outside [{low:.4g}, {high:.4g}]"
            elif 0 < _WIDER * (most - least) < high - low:
                what = f"'{name}' reaches [{least:.4g}, {most:.4g}] of the grid's [{low:.4g}, {high:.4g}]"
            else:
                continue
            found.append(
                Finding(
                    self.id,
                    (label(quantizer),),
                    f"{what}, over {subject.samples_kind}",
                    "calibrate with data like what the network meets, prepared in the same way",
                    fixable=can_regrid(quantizer),
                )
            )
        return found

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Gives each value the grid of its samples."""
        graph = subject.graph
        forget_names(graph)
        reaches = {label(quantizer): reach for quantizer, reach in _reaches(subject)}
        fixed = 0
        for finding in findings:
            for quantizer in find_nodes(graph, finding.nodes):
                grid = grid_of(quantizer)
                if grid is None or label(quantizer) not in reaches or not can_regrid(quantizer):
                    continue
                regrid(graph, quantizer, make_grid(reaches[label(quantizer)], grid))
                fixed += 1
        remove_unused(graph)
        return fixed


def _reaches(subject: OnnxSubject) -> Iterator[tuple[ir.Node, Range]]:
    """Yields each QuantizeLinear of one scale with what its values reach; not of values that were only moved."""
    for quantizer in activation_quantizers(subject.graph):
        grid, value = grid_of(quantizer), quantizer.inputs[0]
        if grid is None or not grid.is_single or value is None:
            continue
        if is_operator(value.producer(), *MOVES, "Concat"):
            continue
        reach = subject.ranges.get(str(value.name))
        if reach is not None:
            yield quantizer, reach
