"""BoundMasks: makes what a Softmax's mask adds a number that codes and sums can hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgekit.converters.passes.rewrite import GraphPass, Skip, add_initializer, constant

# exp(-10000 + d) is 0 in float32 wherever what is masked exceeds the rest by less than d = 9800.
MASKED = np.float32(-1e4)
_MOVES = frozenset({"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


class BoundMasks(GraphPass):
    """Makes what a Softmax's mask adds a number that codes and sums can hold, -10000 instead of -inf or -3.4e38.

    Exporters mask places with the smallest number there is; a grid over that holds nothing else. A row whose places
    are all masked gets the shares that it would have without a mask.

    Rules, k < -10000:
        ``Softmax(Add(x, k)) -> Softmax(Add(x, -10000))``, k anywhere in a constant;
        ``Where(c, a, k) -> Where(c, a, -10000)``, the same, the result only being added to what a Softmax takes;
        ``Mul(x, k) -> Mul(x, -10000)``, the same, x being truth values as numbers, or ``1 - x`` of such.
    """

    ops = frozenset({"Add", "Mul", "Where"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> str | Skip | None:
        """Replaces the constants of ``node``."""
        places = (1, 2) if node.op_type == "Where" else (0, 1)
        low = [place for place in places if _is_low(node.inputs[place])]
        result = node.outputs[0]
        masks = feeds_softmax(result) if node.op_type == "Add" else masked_sums(result)
        if not low or not masks:
            return None
        if node.op_type == "Mul" and not _is_truth(node.inputs[1 - low[0]]):
            return None
        for place in low:
            array = constant(node.inputs[place])
            assert array is not None
            name = f"{result.name}_bound"
            bounded = np.maximum(array.astype(np.float32), MASKED)
            node.replace_input_with(place, add_initializer(graph, name, bounded))
        return f"masks with {MASKED:g}"


def feeds_softmax(value: ir.Value) -> bool:
    """Returns whether nothing but Softmax reads ``value``, as it is or moved."""
    return _reads(value, lambda node: node.op_type == "Softmax")


def masked_sums(value: ir.Value) -> list[ir.Value]:
    """Returns what ``value`` is added to for Softmax to take, summed; empty where anything else reads it."""
    sums: list[ir.Value] = []

    def masks(node: ir.Node) -> bool:
        sums.append(node.outputs[0])
        return node.op_type == "Add" and feeds_softmax(node.outputs[0])

    return sums if _reads(value, masks) else []


def _reads(value: ir.Value, wanted: Callable[[ir.Node], bool]) -> bool:
    uses = value.uses()
    if value.is_graph_output() or not uses:
        return False
    return all(
        _reads(use.node.outputs[0], wanted)
        if use.node.op_type in _MOVES and use.idx == 0
        else wanted(use.node)
        for use in uses
    )


def _is_low(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32 and bool((array < MASKED).any())


def _is_truth(value: ir.Value | None) -> bool:
    """Returns whether ``value`` is truth values as numbers, or 1 less such."""
    node = None if value is None else value.producer()
    if node is None:
        return False
    if node.op_type in _MOVES:
        return _is_truth(node.inputs[0])
    if node.op_type == "Sub":
        one = constant(node.inputs[0])
        return one is not None and bool((one == 1).all()) and _is_truth(node.inputs[1])
    source = node.inputs[0]
    return (
        node.op_type == "Cast"
        and source is not None
        and source.dtype in (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64)
    )
