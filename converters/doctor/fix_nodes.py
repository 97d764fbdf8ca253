"""Mends the nodes of findings in an ONNX graph, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from edgekit.converters.doctor.qdq import find_nodes, remove_unused
from edgekit.converters.doctor.rule import Finding
from edgekit.converters.passes.rewrite import forget_names


def fix_nodes(graph: ir.Graph, findings: Sequence[Finding], fix: Callable[[ir.Node], bool]) -> int:
    """Returns how many nodes of ``findings`` were mended; removes what nothing reads any more.

    Args:
        graph: Is changed.
        findings: Those that can be fixed.
        fix: Mends a node, and returns whether it did.
    """
    forget_names(graph)
    fixed = sum(fix(node) for finding in findings for node in find_nodes(graph, finding.nodes))
    remove_unused(graph)
    return fixed
