"""Activations in int8 on an x86."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from edgekit.converters.doctor.int8_codes import find_int8_groups, store_as_uint8
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.processor import ONNX_RUNTIME
from edgekit.converters.doctor.qdq import find_nodes, label
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule


class Int8Activations(Rule[OnnxSubject]):
    """x86 multiplies unsigned activations by signed weights; with int8 activations ONNX Runtime takes slower kernels.

    Fix: uint8 codes, 128 more each, and zero points likewise: the numbers that they mean are the same. Codes that leave
    or enter the file stay int8, with all that hangs together with them.
    """

    id: ClassVar[str] = "int8-activations"
    says: ClassVar[str] = (
        "Activations are int8, but the file is for an x86, whose instructions want uint8 there."
    )
    source: ClassVar[str] = (
        "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#data-type-selection"
    )
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Finds one fault for all values that can be stored otherwise, and one for those that cannot."""
        if subject.processor.engine != ONNX_RUNTIME:
            return []
        if not subject.processor.is_x86:
            return []
        fixable: list[str] = []
        fixed: list[str] = []
        for group in find_int8_groups(subject.graph):
            names = [label(node) for node in group.makers]
            (fixed if group.blocked else fixable).extend(names)
        found = []
        for names, can in ((fixable, True), (fixed, False)):
            if not names:
                continue
            rest = (
                ""
                if can
                else "; their codes enter or leave the file, or an operator reads them as they are"
            )
            found.append(
                Finding(
                    self.id,
                    tuple(names),
                    f"{len(names)} values are held in int8 codes{rest}",
                    "store them as uint8 (QuantType.QUInt8), with int8 weights",
                    fixable=can,
                )
            )
        return found

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Shifts the codes."""
        wanted = {node for finding in findings for node in find_nodes(subject.graph, finding.nodes)}
        return len(findings) if store_as_uint8(subject.graph, wanted) else 0
