"""Weights in uint8."""

from __future__ import annotations

from typing import ClassVar

from edgekit.converters.doctor.rule import Finding, Rule
from edgekit.converters.doctor.tflite_subject import TfliteSubject

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


class TfliteUnsignedWeights(Rule[TfliteSubject]):
    """The quantization of before 2019: one asymmetric scale for all weights of a layer."""

    id: ClassVar[str] = "unsigned-weights"
    says: ClassVar[str] = (
        "Weights are uint8 with one scale, the old form: less accurate, and newer delegates refuse it."
    )
    source: ClassVar[str] = "https://ai.google.dev/edge/litert/models/quantization_spec"

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Finds one fault for all weights."""
        graph = subject.graph
        layers = [
            op
            for op in graph.file.operators
            if op.code in _WEIGHTED
            and (weight := graph.operand(op, 1)) is not None
            and weight.type == "UINT8"
            and weight.data is not None
        ]
        if not layers:
            return []
        return [
            Finding(
                self.id,
                tuple(graph.label(op) for op in layers),
                f"{len(layers)} layers have uint8 weights",
                "quantize the float model again, to int8 with a scale for each channel",
            )
        ]
