"""RemoveIdentities: takes out nodes that hand their input on unchanged."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, attribute, bypass, constant, skip


class RemoveIdentities(GraphPass):
    """Takes out nodes that hand their input on unchanged.

    Rules:
        ``Identity(x) -> x``;
        ``Dropout(x) -> x`` in inference (no training_mode, or false), its mask unused;
        ``Cast(x) -> x`` to the type that x has;
        ``Transpose(x) -> x`` with the identity permutation;
        ``Concat(x) -> x`` of one input;
        ``Pad(x) -> x`` by nothing;
        ``Clip(x) -> x`` without bounds;
        ``Reshape(x), Flatten(x) -> x`` where the shape stays the same.
    """

    ops = frozenset(
        {"Identity", "Dropout", "Cast", "Transpose", "Concat", "Pad", "Clip", "Reshape", "Flatten"}
    )

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Removes ``node`` where it does nothing."""
        source = node.inputs[0]
        if source is None or not _does_nothing(node, source):
            return None
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return skip(node, "its second output is used")
        if not bypass(graph, node, source):
            return skip(
                node, "it joins an input, a constant or another output to the model's output"
            )
        return "removed, since it changes nothing"


def _does_nothing(node: ir.Node, source: ir.Value) -> bool:
    match node.op_type:
        case "Identity":
            return True
        case "Dropout":
            mode = node.inputs[2] if len(node.inputs) > 2 else None
            training = constant(mode)
            return mode is None or (training is not None and not training.any())
        case "Cast":
            return source.dtype is not None and attribute(node, "to", 0) == source.dtype.value
        case "Transpose":
            permutation = node.attributes.get("perm")
            if permutation is None:
                return False
            return list(permutation.as_ints()) == list(range(len(permutation.as_ints())))
        case "Concat":
            return len(node.inputs) == 1
        case "Pad":
            pads = constant(node.inputs[1])
            return pads is not None and not pads.any()
        case "Clip":
            return all(value is None for value in node.inputs[1:])
        case _:
            before, after = source.shape, node.outputs[0].shape
            return (
                before is not None
                and after is not None
                and list(before) == list(after)
                and not before.has_unknown_dim()
            )
