"""Values whose shapes the file does not give and nobody can infer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.doctor.run_onnx import run_plainly
from edgekit.converters.doctor.subject import Sample
from edgekit.targets.errors import ModelError


class MissingShapes(Rule[OnnxSubject]):
    """Without the rank of a value, quantizers, engines and memory planners leave what comes after it alone.

    Fix, where all inputs have fixed sizes: shapes as two runs on different inputs show them, if both agree.
    """

    id: ClassVar[str] = "missing-shapes"
    says: ClassVar[str] = (
        "Shapes get lost at a value: the file does not give its rank, and ONNX's inference cannot find it."
    )
    source: ClassVar[str] = (
        "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing"
    )
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Goes by what inference could not find."""
        if not subject.lacking:
            return []
        shown = ", ".join(f"'{name}'" for name in subject.lacking[:3])
        more = f" and {len(subject.lacking) - 3} more" if len(subject.lacking) > 3 else ""
        return [
            Finding(
                self.id,
                subject.lacking,
                f"no shape for {shown}{more}",
                "export with fixed shapes, or run shape inference before quantizing (quant_pre_process)",
                fixable=bool(_observe(subject)),
            )
        ]

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Writes what runs showed."""
        shapes = _observe(subject)
        for node in subject.graph:
            for value in node.outputs:
                if value.shape is None and value.name in shapes:
                    value.shape = ir.Shape(shapes[value.name])
        return len(findings) if shapes else 0


def _observe(subject: OnnxSubject) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that are the same for different inputs; none where the inputs' own sizes are open."""
    inputs = [value for value in subject.graph.inputs if not value.is_initializer()]
    fixed = all(
        value.shape is not None and all(isinstance(size, int) for size in value.shape)
        for value in inputs
    )
    if not fixed or not subject.samples:
        return {}
    first = subject.samples[0]
    shapeless = [
        str(value.name)
        for node in subject.graph
        for value in node.outputs
        if value.name and value.shape is None and value.dtype is not None
    ]
    if not shapeless:
        return {}
    try:
        answers = run_plainly(subject.model, [first, _other(first)], shapeless)
    except ModelError:
        return {}
    shapes = {}
    for name in answers[0]:
        a, b = (np.shape(answer[name]) for answer in answers)
        if a == b:
            shapes[name] = a
    return shapes


def _other(sample: Sample) -> Sample:
    """Returns inputs that differ from ``sample`` everywhere they can without leaving its range."""
    return {name: np.flip(array) for name, array in sample.items()}
