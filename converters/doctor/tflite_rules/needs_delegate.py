"""A file that only XNNPACK can run."""

from __future__ import annotations

from typing import ClassVar

from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule
from edgekit.converters.doctor.tflite_subject import TfliteSubject

_FLOAT16 = "FLOAT16"


class NeedsDelegate(Rule[TfliteSubject]):
    """TensorFlow Lite's own kernels do not take float16; where XNNPACK is off or absent the file does not load."""

    id: ClassVar[str] = "needs-delegate"
    says: ClassVar[str] = (
        "The file loads with XNNPACK alone: interpreters without it, and microcontrollers, refuse it."
    )
    source: ClassVar[str] = (
        "https://github.com/google-ai-edge/LiteRT/blob/main/tflite/delegates/xnnpack/README.md"
    )

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Loads it without XNNPACK."""
        if subject.load_problem or not subject.plain_problem:
            return []
        graph = subject.graph
        blamed = [op for op in graph.file.operators if graph.result(op).type == _FLOAT16]
        return [
            Finding(
                self.id,
                tuple(graph.label(op) for op in blamed),
                f"without XNNPACK: {subject.plain_problem}",
                "convert to float32, or to int8, in which every kernel exists",
            )
        ]

    def cost(self, subject: TfliteSubject, finding: Finding, bench: Bench) -> Cost:
        """Says that there is no run to measure."""
        del subject, finding, bench
        return Cost(basis="without XNNPACK it does not run at all")
