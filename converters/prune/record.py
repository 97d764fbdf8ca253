"""The record on a node that says that zeros of its weights are meant, so that whoever rounds these leaves them 0.

It is among the node's metadata (``metadata_props``), which copies of a graph and ONNX files keep. A pass that puts
another node in the place of one with weights hands its metadata on.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.pattern import Pattern, Unstructured, parse_pattern
from edgekit.converters.quantizable import LAYERS, RECURRENT
from edgekit.targets.errors import EdgekitError, ModelError

_KEY = "edgekit.pruned"
# Weights that training left alone are hardly ever exactly 0: where so many are, somebody pruned them.
_MEANT = 0.3


def mark_pruned(node: ir.Node, pattern: Pattern) -> None:
    """Says that weights of ``node`` that are 0 were pruned in this pattern, and stay 0."""
    node.metadata_props[_KEY] = str(pattern)


def pruned_pattern(node: ir.Node) -> Pattern | None:
    """Returns the pattern that the weights of ``node`` were pruned in, None where they were not.

    Raises:
        ModelError: The record is none of edgekit's.
    """
    text = node.metadata_props.get(_KEY)
    if text is None:
        return None
    try:
        return parse_pattern(text)
    except EdgekitError as error:
        raise ModelError(f"node '{node.name}': {error}") from error


def is_pruned(node: ir.Node) -> bool:
    """Returns whether zeros of the weights of ``node`` are meant."""
    return pruned_pattern(node) is not None


def mark_zeros(model: ir.Model) -> list[str]:
    """Marks layers without a record of whose weights at least 30 % are exactly 0: somebody else pruned them.

    Returns:
        The names of their nodes.
    """
    found = []
    for node in model.graph:
        if node.domain or node.op_type not in LAYERS | RECURRENT or is_pruned(node):
            continue
        weight = constant(node.inputs[1])
        if weight is None or weight.dtype != np.float32 or not weight.size:
            continue
        if np.count_nonzero(weight) <= (1 - _MEANT) * weight.size:
            mark_pruned(node, Unstructured())
            found.append(node.name or "")
    return found
