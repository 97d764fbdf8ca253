"""ConvInteger in types that ONNX Runtime may have no kernel for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.fix_nodes import fix_nodes
from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.qdq import is_operator, label
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import add_initializer, constant

_SHIFT = 128


class ConvInteger(Rule[OnnxSubject]):
    """`quantize_dynamic` with int8 weights writes a ConvInteger that older ONNX Runtimes cannot load at all.

    Fix: uint8 weights and a zero point of 128 more: the numbers are the same, and every version has the kernel.
    """

    id: ClassVar[str] = "conv-integer"
    says: ClassVar[str] = (
        "ConvInteger with int8 weights: ONNX Runtime 1.23 and older has the uint8 kernel alone and refuses the file."
    )
    source: ClassVar[str] = "https://github.com/microsoft/onnxruntime/issues/15888"
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Looks at the type of each ConvInteger's weights."""
        return [
            Finding(
                self.id,
                (label(node),),
                f"ConvInteger '{label(node)}' has int8 weights: ONNX Runtime 1.20.1, 1.22.1 and 1.23.2 have no kernel "
                "for them, 1.31.1 has",
                "quantize weights to uint8 (QuantType.QUInt8) or, faster, quantize statically",
                fixable=True,
            )
            for node in subject.graph
            if _has_int8_weight(node)
        ]

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Shifts weights and zero points."""
        graph = subject.graph
        return fix_nodes(graph, findings, lambda node: _shift(graph, node))


def _shift(graph: ir.Graph, node: ir.Node) -> bool:
    """Gives a node uint8 weights that stand for the same; returns whether it had others."""
    if not _has_int8_weight(node):
        return False
    codes = constant(node.inputs[1])
    zero = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    assert codes is not None
    zero = np.zeros((), np.int8) if zero is None else zero
    base = node.inputs[1].name if node.inputs[1] is not None else node.name
    node.resize_inputs(4)
    for index, array, suffix in ((1, codes, "uint8"), (3, zero, "zero_point")):
        shifted = (array.astype(np.int16) + _SHIFT).astype(np.uint8)
        node.replace_input_with(index, add_initializer(graph, f"{base}_{suffix}", shifted))
    return True


def _has_int8_weight(node: ir.Node) -> bool:
    codes = constant(node.inputs[1]) if is_operator(node, "ConvInteger") else None
    zero_is_known = (
        len(node.inputs) < 4 or node.inputs[3] is None or constant(node.inputs[3]) is not None
    )
    return codes is not None and codes.dtype == np.int8 and zero_is_known
