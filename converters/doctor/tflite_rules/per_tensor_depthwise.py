"""A depthwise convolution whose channels share one weight scale."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgekit.converters.doctor.few_codes import FEW_CODES, count_few, rounding_cost
from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule
from edgekit.converters.doctor.tflite_graph import TfliteGraph
from edgekit.converters.doctor.tflite_subject import TfliteSubject
from edgekit.converters.read_tflite.records import Operator


class TflitePerTensorDepthwise(Rule[TfliteSubject]):
    """The channels of a depthwise convolution differ widely in size; with one scale the small ones get few codes."""

    id: ClassVar[str] = "per-tensor-depthwise"
    says: ClassVar[str] = (
        "A depthwise convolution has one weight scale for all channels, and some channels use few codes."
    )
    source: ClassVar[str] = "https://arxiv.org/abs/1806.08342"

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Counts the codes that each channel uses."""
        graph = subject.graph
        found = []
        for op in graph.file.operators:
            rows = _rows(graph, op)
            if rows is None:
                continue
            few = count_few(rows)
            if few.size:
                found.append(
                    Finding(
                        self.id,
                        (graph.label(op),),
                        f"{few.size} of {len(rows)} channels of '{graph.label(op)}' use fewer than {FEW_CODES} of 127 "
                        f"codes, the worst {int(few.min())}",
                        "quantize again with a scale for each channel",
                    )
                )
        return found

    def cost(self, subject: TfliteSubject, finding: Finding, bench: Bench) -> Cost:
        """Says what rounding does to the worst channel's weights."""
        del bench
        for op in subject.graph.find(finding.nodes):
            rows = _rows(subject.graph, op)
            if rows is not None:
                return rounding_cost(rows)
        return Cost(basis="not measured")


def _rows(
    graph: TfliteGraph, op: Operator
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]] | None:
    """Returns the codes less the zero point, a row for each channel, of a depthwise layer with one weight scale."""
    weight = graph.operand(op, 1) if op.code == "DEPTHWISE_CONV_2D" else None
    if weight is None or weight.data is None or weight.grid is None or weight.grid.scale.size != 1:
        return None
    if weight.type not in ("INT8", "UINT8") or weight.data.ndim != 4 or weight.shape[-1] < 2:
        return None
    codes = np.moveaxis(weight.data, -1, 0).astype(np.int64) - int(weight.grid.zero_point[0])
    return codes.reshape(weight.shape[-1], -1)
