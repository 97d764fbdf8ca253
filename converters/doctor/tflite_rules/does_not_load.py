"""A file that LiteRT cannot load."""

from __future__ import annotations

from typing import ClassVar

from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule
from edgekit.converters.doctor.tflite_subject import TfliteSubject


class TfliteDoesNotLoad(Rule[TfliteSubject]):
    """Custom operators and those of TensorFlow (Flex) need kernels that the interpreter does not have by itself."""

    id: ClassVar[str] = "does-not-load"
    says: ClassVar[str] = (
        "LiteRT here cannot load the file: often a custom operator or one of TensorFlow (Flex)."
    )
    source: ClassVar[str] = "https://ai.google.dev/edge/litert/models/ops_select"

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Loads it."""
        problem = subject.load_problem
        if not problem:
            return []
        graph = subject.graph
        custom = [op for op in graph.file.operators if op.code.startswith("CUSTOM")]
        return [
            Finding(
                self.id,
                tuple(graph.label(op) for op in custom),
                problem,
                "convert with built-in operators alone, or register kernels for these",
            )
        ]

    def cost(self, subject: TfliteSubject, finding: Finding, bench: Bench) -> Cost:
        """Says that there is no run to measure."""
        del subject, finding, bench
        return Cost(basis="it does not run at all")
