"""Takes the branches of an If out of it."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import new_name


def move_branch(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> tuple[ir.Value, ...]:
    """Moves constants and nodes of ``branch`` before ``node``, renamed where names are taken.

    Returns:
        What the branch gives.
    """
    for value in tuple(branch.initializers.values()):
        name = str(value.name)
        branch.initializers.pop(name)
        value.name = new_name(graph, name) if name in graph.initializers else name
        graph.register_initializer(value)
    taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
    taken |= {value.name for other in graph for value in other.outputs}
    for member in tuple(branch):
        for value in member.outputs:
            if value.name in taken:
                value.name = new_name(graph, f"{node.name}:{value.name}")
    for member in tuple(branch):
        branch.remove(member)
        graph.insert_before(node, member)
    results = tuple(branch.outputs)
    for result in results:
        branch.outputs.remove(result)
    return results


def drop_node(graph: ir.Graph, node: ir.Node) -> None:
    """Removes an If whose outputs nothing uses, and ends the uses that nodes of its branches have of values outside."""
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            for member in attribute.as_graph().all_nodes():
                for index in range(len(member.inputs)):
                    member.replace_input_with(index, None)
    graph.remove(node, safe=True)


def give_result(graph: ir.Graph, node: ir.Node, value: ir.Value, result: ir.Value) -> None:
    """Lets ``result`` of a branch be what ``value`` was; an output of the graph keeps its name."""
    if not value.is_graph_output():
        value.replace_all_uses_with(result)
        return
    name = value.name
    copy = ir.node("Identity", [result], name=f"{node.name}:{name}")
    copy.outputs[0].type, copy.outputs[0].shape = value.type, value.shape
    graph.insert_before(node, copy)
    value.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
    value.name, copy.outputs[0].name = None, name
