"""Weights that are inputs of the graph as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule

# From here on initializers need not be inputs.
_LEAST_IR_VERSION = 4


class WeightsAsInputs(Rule[OnnxSubject]):
    """A caller could override such a weight, so nothing is folded into it or fused with it.

    Fix: they are no inputs any more.
    """

    id: ClassVar[str] = "weights-as-inputs"
    says: ClassVar[str] = (
        "Initializers are listed as inputs: they are no constants then, and fusion with them is off."
    )
    source: ClassVar[str] = (
        "https://github.com/microsoft/onnxruntime/blob/main/tools/python/remove_initializer_from_input.py"
    )
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Finds one fault for all of them."""
        names = [str(value.name) for value in subject.graph.inputs if value.is_initializer()]
        if not names:
            return []
        return [
            Finding(
                self.id,
                tuple(names),
                f"{len(names)} initializers are graph inputs as well",
                "export with keep_initializers_as_inputs=False",
                fixable=True,
            )
        ]

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Takes them out of the inputs."""
        names = {name for finding in findings for name in finding.nodes}
        inputs = subject.graph.inputs
        for value in tuple(inputs):
            if value.name in names and value.is_initializer():
                inputs.remove(value)
        subject.model.ir_version = max(subject.model.ir_version or 0, _LEAST_IR_VERSION)
        return len(findings)
