"""A file that ONNX Runtime cannot load."""

from __future__ import annotations

import re
from typing import ClassVar

import onnxruntime

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule

_NODE = re.compile(r"name:? ?\(?'?([^')\s]+)'?")


class DoesNotLoad(Rule[OnnxSubject]):
    """A file that the runtime refuses is of no use, whatever else is wrong with it."""

    id: ClassVar[str] = "does-not-load"
    says: ClassVar[str] = (
        "ONNX Runtime here cannot load the file: often an operator or a type without a kernel."
    )
    source: ClassVar[str] = (
        "https://github.com/microsoft/onnxruntime/blob/main/docs/OperatorKernels.md"
    )

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Loads it."""
        problem = subject.load_problem
        if not problem:
            return []
        names = {node.name for node in subject.graph}
        named = [match for match in _NODE.findall(problem) if match in names]
        return [
            Finding(
                self.id,
                tuple(dict.fromkeys(named)),
                f"onnxruntime {onnxruntime.__version__}: {problem}",
                "write the node with operators and types that the runtime has kernels for",
            )
        ]

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Says that there is no run to measure."""
        del subject, finding, bench
        return Cost(basis="it does not run at all")
