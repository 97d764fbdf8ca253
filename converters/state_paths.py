"""Finds what only carries the state of recurrent nodes: it stays float32 from the model's input to its output."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.quantizable import ARRANGES, RECURRENT

_CARRIERS = (ARRANGES - {"Resize"}) | {"Concat", "Split"}


def find_state_paths(graph: ir.Graph, is_float: Callable[[ir.Node], bool]) -> set[ir.Node]:
    """Returns the nodes that only move elements and carry a state.

    Those are connected nodes with a recurrent node among their neighbours, and none that computes on codes: the
    others are inputs and outputs of the graph, and nodes that compute in float32. As codes a state would lose some of
    itself at each call, and nothing would be gained.

    Args:
        graph: In which they are looked for.
        is_float: Whether a node that is no such carrier computes in float32.
    """
    groups: dict[ir.Node, set[ir.Node]] = {}
    for node in graph:
        if node.op_type not in _CARRIERS or node.domain:
            continue
        group = {node}
        for maker in _makers(node):
            group |= groups.get(maker, set())
        groups.update(dict.fromkeys(group, group))
    found: set[ir.Node] = set()
    for group in {id(group): group for group in groups.values()}.values():
        around = {maker for node in group for maker in _makers(node)}
        around |= {use.node for node in group for value in node.outputs for use in value.uses()}
        around -= group
        if all(is_float(node) for node in around) and any(
            node.op_type in RECURRENT and not node.domain for node in around
        ):
            found |= group
    return found


def _makers(node: ir.Node) -> list[ir.Node]:
    """Returns the nodes that make what ``node`` moves."""
    values = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    makers = [value.producer() for value in values if value is not None and constant(value) is None]
    return [maker for maker in makers if maker is not None]
