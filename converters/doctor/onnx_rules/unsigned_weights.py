"""Weights in uint8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.qdq import (
    QLINEAR_PRODUCTS,
    WEIGHTED,
    find_nodes,
    is_operator,
    label,
    readers,
    remove_unused,
    weight_of,
)
from edgekit.converters.doctor.rule import EXACT, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import add_initializer, constant, forget_names

_SHIFT = 128


class UnsignedWeights(Rule[OnnxSubject]):
    """Integer instructions multiply by signed weights; ONNX Runtime widens unsigned ones, and TensorRT refuses them.

    An x86 without VNNI is left out: there uint8 weights are how saturation is avoided. Fix: int8 codes, 128 less each,
    and zero points likewise.
    """

    id: ClassVar[str] = "unsigned-weights"
    says: ClassVar[str] = (
        "Weights are uint8, which integer instructions do not take: slower kernels run."
    )
    source: ClassVar[str] = (
        "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#data-type-selection"
    )
    promise: ClassVar[Promise | None] = EXACT

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Finds one fault for all weights."""
        if subject.processor.is_x86 and not subject.processor.has_vnni:
            return []
        nodes = [node for node in subject.graph if _place(node) is not None]
        if not nodes:
            return []
        return [
            Finding(
                self.id,
                tuple(label(node) for node in nodes),
                f"{len(nodes)} layers have uint8 weights",
                "quantize weights to int8 (QuantType.QInt8)",
                fixable=True,
            )
        ]

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Shifts weights and zero points."""
        graph = subject.graph
        forget_names(graph)
        fixed = 0
        for finding in findings:
            changed = False
            for node in find_nodes(graph, finding.nodes):
                place = _place(node)
                if place is None:
                    continue
                holder, codes_at, zero_at = place
                codes = constant(holder.inputs[codes_at])
                zero = constant(holder.inputs[zero_at]) if len(holder.inputs) > zero_at else None
                if zero is None:
                    scale = constant(holder.inputs[1])
                    zero = np.zeros(() if scale is None else scale.shape, np.uint8)
                assert codes is not None
                source = holder.inputs[codes_at]
                base = source.name if source is not None else None
                holder.resize_inputs(max(len(holder.inputs), zero_at + 1))
                for index, array, suffix in (
                    (codes_at, codes, "int8"),
                    (zero_at, zero, "zero_point"),
                ):
                    shifted = (array.astype(np.int16) - _SHIFT).astype(np.int8)
                    holder.replace_input_with(
                        index, add_initializer(graph, f"{base or 'weight'}_{suffix}", shifted)
                    )
                changed = True
            fixed += changed
        remove_unused(graph)
        return fixed


def _place(node: ir.Node) -> tuple[ir.Node, int, int] | None:
    """Returns the node that reads uint8 weights of ``node``, and at which inputs they and their zero point are."""
    if is_operator(node, "MatMulInteger"):
        codes = constant(node.inputs[1])
        zero_is_known = len(node.inputs) < 4 or constant(node.inputs[3]) is not None
        if codes is None or codes.dtype != np.uint8 or not zero_is_known:
            return None
        return node, 1, 3
    if not is_operator(node, *WEIGHTED) and node.op_type not in QLINEAR_PRODUCTS:
        return None
    weight = weight_of(node)
    if weight is None or weight.codes.dtype != np.uint8:
        return None
    if weight.holder is node:
        return node, weight.index, QLINEAR_PRODUCTS[node.op_type][4]
    users = readers(weight.holder.outputs[0])
    if not all(is_operator(user, *WEIGHTED) for user in users):
        return None
    return weight.holder, 0, 2
