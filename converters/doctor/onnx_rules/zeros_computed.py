"""Pruned weights that are multiplied all the same."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.qdq import (
    QLINEAR_PRODUCTS,
    WEIGHTED,
    channels_last_axis,
    is_depthwise,
    is_operator,
    label,
    weight_of,
)
from edgekit.converters.doctor.rule import Bench, Cost, Finding, Rule
from edgekit.converters.passes.rewrite import constant

_LEAST_ELEMENTS = 1024
_LEAST_SHARE = 0.5


class ZerosComputed(Rule[OnnxSubject]):
    """Pruning sets weights to zero; dense kernels multiply by them, so that nothing gets faster or smaller."""

    id: ClassVar[str] = "zeros-computed"
    says: ClassVar[str] = (
        "More than half of a layer's weights are zero: pruned, but computed with all the same."
    )
    source: ClassVar[str] = "https://github.com/tensorflow/model-optimization/issues/611"

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Counts zeros, and output channels that hold nothing else."""
        found = []
        for node in subject.graph:
            zeros = _zeros(node)
            if zeros is None or zeros.size < _LEAST_ELEMENTS or zeros.mean() <= _LEAST_SHARE:
                continue
            rows = np.moveaxis(zeros, channels_last_axis(node), 0).reshape(
                zeros.shape[channels_last_axis(node)], -1
            )
            empty = int(rows.all(axis=1).sum())
            whole = f", {empty} of {len(rows)} output channels whole" if empty else ""
            found.append(
                Finding(
                    self.id,
                    (label(node),),
                    f"{100 * zeros.mean():.0f} % of the weights of {node.op_type} '{label(node)}' are zero{whole}",
                    "remove whole channels, which makes the layer smaller; single zeros need a sparse runtime",
                )
            )
        return found

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Says what part of the layer's work it is."""
        del subject, bench
        return Cost(basis=f"{finding.message.partition(' of')[0]} of the layer's products, counted")


def _zeros(node: ir.Node) -> npt.NDArray[np.bool_] | None:
    """Returns where the weights of a product are zero."""
    if not is_operator(node, *WEIGHTED) and node.op_type not in QLINEAR_PRODUCTS:
        return None
    weight = weight_of(node)
    if weight is not None:
        if is_depthwise(node, weight.codes) or weight.codes.ndim < 2:
            return None
        if weight.grid.is_single:
            zero = weight.grid.zero_point.reshape(-1)[0]
        else:
            shape = [1] * weight.codes.ndim
            shape[weight.grid.axis] = -1
            zero = weight.grid.zero_point.reshape(shape)
        return np.asarray(weight.codes == zero)
    array = (
        constant(node.inputs[1]) if len(node.inputs) > 1 and is_operator(node, *WEIGHTED) else None
    )
    if array is None or array.ndim < 2 or is_depthwise(node, array):
        return None
    return np.asarray(array == 0)
