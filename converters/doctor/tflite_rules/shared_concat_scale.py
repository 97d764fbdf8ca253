"""One scale for a concatenation whose parts differ widely in size."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator, Tensor

# A part that spans fewer codes than this has lost four of its eight bits.
_FEW_CODES = 16
_WIDER = 8
# Where all values have one code they may differ by less than a step.
_ONE_CODE = 0.5


class TfliteSharedConcatScale(Rule[TfliteSubject]):
    """CONCATENATION takes codes of one scale: the large part sets it, and the small one is left with a few codes."""

    id: ClassVar[str] = "shared-concat-scale"
    says: ClassVar[str] = (
        "One scale for a concatenation whose parts differ widely: the small part is left with a few codes."
    )
    source: ClassVar[str] = "https://github.com/ultralytics/ultralytics/issues/1683"

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Counts the codes that each part spans."""
        graph = subject.graph
        found = []
        for op in graph.file.operators:
            spans = _spans(subject, op)
            if not spans:
                continue
            name = min(spans, key=lambda name: spans[name][0])
            least, how = spans[name]
            largest = max(span for span, _ in spans.values())
            if least >= _FEW_CODES or largest < _WIDER * max(least, 1):
                continue
            found.append(
                Finding(
                    self.id,
                    (graph.label(op),),
                    f"'{name}' spans {least:.1f} of 255 codes of CONCATENATION '{graph.label(op)}' ({how}), the "
                    f"largest part {largest:.0f}",
                    "give the small part an output of its own, or scale the large one before joining (boxes over the "
                    "picture's size)",
                )
            )
        return found

    def cost(self, subject: TfliteSubject, finding: Finding, bench: Bench) -> Cost:
        """Returns the reach of the smallest part over a step, with the common scale and with its own."""
        del bench
        for op in subject.graph.find(finding.nodes):
            spans = _spans(subject, op).values()
            if spans:
                least, how = min(spans)
                least = max(least, _ONE_CODE)
                return Cost(
                    db=(float(20 * np.log10(least)), float(20 * np.log10(255))),
                    basis=f"reach of the smallest part over a step, {how}",
                )
        return Cost(basis="not measured")


def _spans(subject: TfliteSubject, op: Operator) -> dict[str, tuple[float, str]]:
    """Returns how many codes of the common scale each part spans, and how that is known."""
    graph = subject.graph
    if op.code != "CONCATENATION":
        return {}
    grid = graph.result(op).grid
    if grid is None or grid.scale.size != 1 or graph.result(op).type not in ("INT8", "UINT8"):
        return {}
    spans: dict[str, tuple[float, str]] = {}
    for index in op.inputs:
        part = graph.tensor(index)
        if part.grid is None or part.data is not None:
            continue
        before = _before(subject, part)
        if subject.samples_are_real and part.index in subject.seen:
            low, high = subject.seen[part.index]
            span, how = (
                (high - low) * float(part.grid.scale[0] / grid.scale[0]),
                f"over {subject.samples_kind}",
            )
        elif before is not None and before.grid is not None:
            span, how = 255 * float(before.grid.scale[0] / grid.scale[0]), "by its own scale"
        else:
            continue
        spans[part.name or f"tensor {part.index}"] = (span, how)
    return spans


def _before(subject: TfliteSubject, part: Tensor) -> Tensor | None:
    """Returns the codes that ``part`` was rounded from where a QUANTIZE brought them to the common scale."""
    maker = subject.graph.maker(part)
    if maker is None or maker.code != "QUANTIZE":
        return part
    source = subject.graph.operand(maker, 0)
    return source if source is not None and source.grid is not None else None
