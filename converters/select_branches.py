"""Replaces an If whose condition the values decide by both of its sides and a choice; says of others what to do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.converters.branches import drop_node, give_result, move_branch
from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, constant, skip

# Operators whose subgraphs run when the network does.
CONTROL = frozenset({"If", "Loop", "Scan"})
_SIDES = ("then_branch", "else_branch")
_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
# What their outputs hold follows from the shape of what they read, not from its elements.
_OF_SHAPES = frozenset({"Shape", "Size"})


class SelectIf(GraphPass):
    """Computes both sides of an If and takes the elements of one.

    Rules:
        ``If(c, then, else) -> Where(c, then, else)``, where values decide, both sides give tensors of the same types
        and shapes, and neither draws random numbers.
    """

    ops = frozenset({"If"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Moves the nodes of both branches out of ``node``, which goes."""
        reason = find_obstacle(node)
        if reason:
            return skip(node, reason)
        sides = [move_branch(graph, node, node.attributes[side].as_graph()) for side in _SIDES]
        condition = node.inputs[0]
        assert condition is not None
        scalar = self._flatten(graph, node, condition)
        for value, then, other in zip(node.outputs, *sides, strict=True):
            chosen = ir.node(
                "Where", [scalar, then, other], name=f"{node.name}:{value.name}:chosen"
            )
            result = chosen.outputs[0]
            result.name, result.type, result.shape = f"{value.name}:chosen", then.type, then.shape
            graph.insert_before(node, chosen)
            give_result(graph, node, value, result)
        drop_node(graph, node)
        return "both sides are computed, and one is taken"

    def _flatten(self, graph: ir.Graph, node: ir.Node, condition: ir.Value) -> ir.Value:
        """Returns the condition without dimensions, so that it broadcasts to whatever is chosen."""
        if condition.shape is not None and condition.shape.rank() == 0:
            return condition
        shape = add_initializer(graph, f"{node.name}:scalar", np.zeros(0, np.int64))
        flat = ir.node("Reshape", [condition, shape], name=f"{node.name}:condition")
        flat.outputs[0].type, flat.outputs[0].shape = condition.type, ir.Shape([])
        flat.outputs[0].name = f"{node.name}:condition"
        graph.insert_before(node, flat)
        return flat.outputs[0]


def find_obstacle(node: ir.Node) -> str:
    """Returns why both sides of an If can't be computed and one taken, "" if they can."""
    condition = node.inputs[0]
    if condition is None or constant(condition) is not None:
        return "its condition is known"
    if not find_deciding_inputs(condition):
        return "its condition depends on shapes that are open"
    branches = [node.attributes[side].as_graph() for side in _SIDES]
    for branch in branches:
        for member in branch.all_nodes():
            if member.op_type in _RANDOM:
                return (
                    f"its side has '{member.name}' ({member.op_type}), which draws random numbers"
                )
    for then, other in zip(*(branch.outputs for branch in branches), strict=True):
        if then.dtype is None or other.dtype is None or then.type != other.type:
            return f"its sides give '{then.name}' and '{other.name}' of different types"
        if then.shape is None or then.shape != other.shape or None in _sizes(then.shape):
            return (
                f"its sides give '{then.name}' of shape {_describe(then.shape)} and '{other.name}' of shape "
                f"{_describe(other.shape)}"
            )
    return ""


def find_deciding_inputs(condition: ir.Value) -> list[str]:
    """Returns names of the graph's inputs on whose elements ``condition`` depends."""
    found: dict[str, None] = {}
    waiting, seen = [condition], {condition}
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value.is_graph_input():
            found[str(value.name)] = None
        if node is None or node.op_type in _OF_SHAPES:
            continue
        for source in node.inputs:
            if source is not None and source not in seen:
                seen.add(source)
                waiting.append(source)
    return list(found)


def explain_control(node: ir.Node) -> str:
    """Returns why a node with subgraphs is still there, and what can be done about it."""
    first = node.inputs[0] if node.inputs else None
    if node.op_type != "If" or first is None:
        return "its subgraph runs as often as is decided when the network runs: export the model with the loop unrolled"
    if not (deciding := find_deciding_inputs(first)):
        return "its condition depends on the shape of an input: give all shapes, such as shapes={'x': (1, 3, 224, 224)}"
    names = ", ".join(f"'{name}'" for name in deciding)
    obstacle = find_obstacle(node)
    reason = f", and {obstacle}" if obstacle else ""
    return (
        f"what it computes is decided when the network runs, by {names}{reason}: where an input that decides is "
        "always the same, bind it with constants={'name': value}; otherwise export the model with sides that give "
        "equal shapes"
    )


def _sizes(shape: ir.Shape) -> list[int | str | None]:
    return [dim if isinstance(dim, int) else dim.value for dim in shape]


def _describe(shape: ir.Shape | None) -> str:
    return "unknown" if shape is None else str(_sizes(shape))
