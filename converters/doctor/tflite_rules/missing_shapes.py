"""Tensors of open size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.doctor.tflite_subject import TfliteSubject


class TfliteMissingShapes(Rule[TfliteSubject]):
    """Delegates take no tensor whose size may change besides the first, and memory cannot be planned.

    Fix: the sizes that are written beside the open ones become the only ones; other inputs are refused from then on.
    """

    id: ClassVar[str] = "missing-shapes"
    says: ClassVar[str] = "Inputs have open sizes besides the batch: delegates refuse such graphs."
    source: ClassVar[str] = "https://ai.google.dev/edge/litert/performance/delegates"
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: TfliteSubject) -> list[Finding]:
        """Looks at the inputs' signatures."""
        graph = subject.graph
        inputs = [
            (name, graph.tensor(index))
            for name, index in graph.file.inputs
            if None in graph.tensor(index).signature[1:]
        ]
        if not inputs:
            return []
        shown = ", ".join(
            f"'{name}' [{', '.join('?' if n is None else str(n) for n in tensor.signature)}]"
            for name, tensor in inputs
        )
        # Where all sizes but one are 1 nobody has chosen them: they stand for "open".
        chosen = all(
            size > 1 or known is not None
            for _, tensor in inputs
            for size, known in zip(tensor.shape[1:], tensor.signature[1:], strict=True)
        )
        return [
            Finding(
                self.id,
                tuple(name for name, _ in inputs),
                f"open sizes: {shown}",
                "convert with fixed input sizes",
                fixable=chosen,
            )
        ]

    def fix(self, subject: TfliteSubject, findings: Sequence[Finding]) -> int:
        """Keeps the sizes that are there."""
        with subject.change() as model:
            for tensor in model.subgraphs[0].tensors:
                signature = tensor.shapeSignature
                if signature is not None and (np.asarray(signature)[1:] < 0).any():
                    tensor.shapeSignature = None
        return len(findings)
