"""One scale for a concatenation whose parts differ widely in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject, Range
from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    activation_quantizers,
    find_nodes,
    grid_of,
    is_operator,
    label,
    readers,
    remove_unused,
    source_of,
)
from edgekit.converters.doctor.regrid import can_regrid, make_grid, regrid
from edgekit.converters.doctor.rule import CLOSER, Bench, Cost, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import forget_names

# A part that spans fewer codes than this has lost four of its eight bits.
_FEW_CODES = 16
# ... if another part spans so many times more.
_WIDER = 8


@dataclass(frozen=True)
class _Part:
    """An operand of a concatenation: how far its values reach, and whether samples say so or its own grid."""

    value: ir.Value
    reach: Range
    is_measured: bool


class SharedConcatScale(Rule[OnnxSubject]):
    """The large part sets the scale, and the small one is left with a few codes: boxes beside scores in a detector.

    Fix, where what is joined leaves the file as floats: the concatenation is done in float, each part with its own
    scale. A part that was already rounded to the common scale gets the range that calibration samples show; with
    random inputs that is left alone.
    """

    id: ClassVar[str] = "shared-concat-scale"
    says: ClassVar[str] = (
        "One scale for a concatenation whose parts differ widely: the small part is left with a few codes."
    )
    source: ClassVar[str] = "https://github.com/ultralytics/ultralytics/issues/1683"
    promise: ClassVar[Promise | None] = CLOSER

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Compares the reach of each part with the steps of the common grid."""
        found = []
        for quantizer in activation_quantizers(subject.graph):
            concat, grid = _joined(quantizer), grid_of(quantizer)
            if concat is None or grid is None:
                continue
            parts = _parts(subject, concat)
            step = float(grid.scale.reshape(-1)[0])
            spans = {part.value.name: (part.reach[1] - part.reach[0]) / step for part in parts}
            small = [part for part in parts if 0 < spans[part.value.name] < _FEW_CODES]
            if not small or max(spans.values()) < _WIDER * min(filter(None, spans.values())):
                continue
            part = min(small, key=lambda item: spans[item.value.name])
            kind = f"over {subject.samples_kind}" if part.is_measured else "by its own scale"
            found.append(
                Finding(
                    self.id,
                    (label(concat),),
                    f"'{part.value.name}' spans {spans[part.value.name]:.1f} of 255 codes of Concat "
                    f"'{label(concat)}' ({kind}), the largest part {max(spans.values()):.0f}",
                    "quantize the parts apart: join them in float at the end, or leave the small part out",
                    fixable=_can_fix(subject, quantizer, small),
                )
            )
        return found

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Returns the signal over rounding of the smallest part, on the common grid and on its own."""
        worst: tuple[float, float] | None = None
        basis = ""
        for concat in find_nodes(subject.graph, finding.nodes):
            quantizer = _quantizer_of(concat)
            grid = grid_of(quantizer)
            if grid is None:
                continue
            for part in _parts(subject, concat):
                low, high = min(part.reach[0], 0.0), max(part.reach[1], 0.0)
                if high <= low:
                    continue
                common = 20 * np.log10((high - low) / float(grid.scale.reshape(-1)[0]))
                own = 20 * np.log10(255)
                if worst is None or common < worst[0]:
                    worst = (float(common), float(own))
                    kind = subject.samples_kind if part.is_measured else "the part's own scale"
                    basis = f"reach of '{part.value.name}' over a step, by {kind}"
        if not finding.fixable:
            return Cost(db=worst, basis=basis)
        return Cost(ms=bench.compare(self, [finding]).ms, db=worst, basis=f"{basis}; time measured")

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Removes the common grid, and gives parts their own."""
        graph = subject.graph
        forget_names(graph)
        fixed = 0
        for finding in findings:
            for concat in find_nodes(graph, finding.nodes):
                quantizer = _quantizer_of(concat)
                grid = grid_of(quantizer)
                if quantizer is None or grid is None:
                    continue
                for part in _parts(subject, concat):
                    own = _quantizer_behind(part.value)
                    before = grid_of(own)
                    if (
                        own is not None
                        and before is not None
                        and part.is_measured
                        and subject.samples_are_real
                    ):
                        better = make_grid(part.reach, before)
                        if can_regrid(own) and better.scale < before.scale:
                            regrid(graph, own, better)
                joined = concat.outputs[0]
                for pair in readers(quantizer.outputs[0]):
                    result = pair.outputs[0]
                    is_output, taken = result.is_graph_output(), result.name
                    result.replace_all_uses_with(joined, replace_graph_outputs=True)
                    if is_output:
                        result.name, joined.name = None, taken
                remove_unused(graph)
                fixed += 1
        return fixed


def _joined(quantizer: ir.Node) -> ir.Node | None:
    value, grid = quantizer.inputs[0], grid_of(quantizer)
    concat = None if value is None else value.producer()
    if value is None or not is_operator(concat, "Concat") or grid is None or not grid.is_single:
        return None
    return concat


def _quantizer_of(concat: ir.Node) -> ir.Node | None:
    return next(
        (
            node
            for node in readers(concat.outputs[0])
            if is_operator(node, QUANTIZE) and _joined(node)
        ),
        None,
    )


def _parts(subject: OnnxSubject, concat: ir.Node) -> list[_Part]:
    """Returns the operands whose reach is known: by calibration samples or, without, by their own grids."""
    parts = []
    for value in concat.inputs:
        if value is None or not value.name:
            continue
        own = grid_of(source_of(value))
        reach = own.limits if own is not None and own.is_single else None
        seen = subject.ranges.get(value.name)
        measured = seen is not None and (reach is None or subject.samples_are_real)
        if measured and seen is not None:
            reach = seen
        if reach is not None:
            parts.append(_Part(value, reach, measured))
    return parts


def _quantizer_behind(value: ir.Value) -> ir.Node | None:
    pair = source_of(value)
    codes = None if pair is None else pair.inputs[0]
    maker = None if codes is None else codes.producer()
    return maker if is_operator(maker, QUANTIZE) else None


def _can_fix(subject: OnnxSubject, quantizer: ir.Node, small: Sequence[_Part]) -> bool:
    """Returns whether only floats come of the concatenation, and the small parts can have grids of their own."""
    source = quantizer.inputs[0]
    if (
        source is None
        or source.is_graph_output()
        or len(readers(source)) != 1
        or not can_regrid(quantizer)
    ):
        return False
    pairs = readers(quantizer.outputs[0])
    if sum(pair.outputs[0].is_graph_output() for pair in pairs) > 1:
        return False
    for pair in pairs:
        users = readers(pair.outputs[0])
        if not all(
            is_operator(user, DEQUANTIZE) or label(user) in subject.left_float for user in users
        ):
            return False
    return subject.samples_are_real or not any(part.is_measured for part in small)
