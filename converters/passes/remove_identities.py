"""RemoveIdentities: takes out nodes that hand their input on unchanged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, attribute, bypass, constant, skip

# By operator, the operand that leaves the other as it is.
_NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}
# Ends from which on a Slice takes all there is of an open dimension: the least that exporters write (tf2onnx).
_ENDLESS = 10**9


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
        ``Reshape(x), Flatten(x), Expand(x) -> x`` where the shape stays the same;
        ``Slice(x) -> x`` where the shape stays the same and no step is negative, or all begins and ends are those of x;
        ``Mul(x, 1), Div(x, 1), Add(x, 0), Sub(x, 0) -> x``, 1 and 0 single constants, x of their type and no smaller
        rank; the operands of Mul and Add in any order.
    """

    ops = frozenset(
        {
            *("Identity", "Dropout", "Cast", "Transpose", "Concat", "Pad", "Clip"),
            *("Reshape", "Flatten", "Expand", "Slice"),
            *_NEUTRAL,
        }
    )

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Removes ``node`` where it does nothing."""
        source = node.inputs[0]
        if node.op_type in ("Mul", "Add") and constant(source) is not None:
            source = node.inputs[1]
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
        case "Mul" | "Div" | "Add" | "Sub":
            other = node.inputs[1 if node.inputs[0] is source else 0]
            return _is_neutral(source, constant(other), _NEUTRAL[node.op_type])
        case "Slice":
            steps = constant(node.inputs[4]) if len(node.inputs) > 4 else None
            forward = len(node.inputs) < 5 or (
                steps is not None and bool((steps.astype(np.int64) > 0).all())
            )
            return forward and (_keeps_shape(node, source) or _takes_all(node, source))
        case "Clip":
            return all(value is None for value in node.inputs[1:])
        case _:
            return _keeps_shape(node, source)


def _takes_all(node: ir.Node, source: ir.Value) -> bool:
    """Returns whether a Slice, none of whose steps is negative, begins at 0 and ends at the end in every dimension."""
    starts, ends = (constant(value) for value in node.inputs[1:3])
    axes, steps = (
        constant(node.inputs[place]) if len(node.inputs) > place else None for place in (3, 4)
    )
    if starts is None or ends is None or starts.any() or source.shape is None:
        return False
    if steps is not None and (steps != 1).any():
        return False
    if axes is None and len(node.inputs) > 3 and node.inputs[3] is not None:
        return False
    places = range(ends.size) if axes is None else axes.tolist()
    sizes = [source.shape[place] for place in places]
    return all(
        end >= (size if isinstance(size, int) else _ENDLESS)
        for end, size in zip(ends.tolist(), sizes, strict=True)
    )


def _keeps_shape(node: ir.Node, source: ir.Value) -> bool:
    before, after = source.shape, node.outputs[0].shape
    return (
        before is not None
        and after is not None
        and list(before) == list(after)
        and not before.has_unknown_dim()
    )


def _is_neutral(source: ir.Value, other: npt.NDArray[np.generic] | None, neutral: float) -> bool:
    """Returns whether ``other`` is ``neutral`` and broadcasts to the shape of ``source``."""
    if other is None or other.size != 1 or source.shape is None or constant(source) is not None:
        return False
    return other.ndim <= source.shape.rank() and bool((other == neutral).all())
