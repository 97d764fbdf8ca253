"""Refuses models of impossible sizes before anything is computed with them."""

from __future__ import annotations

import math
import os

import onnx_ir as ir

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.window import LARGEST
from edgekit.targets.errors import ModelError


def check_sizes(model: ir.Model) -> None:
    """Checks that every tensor of known shape fits this machine's memory as float32, and that no Pad is absurd.

    Args:
        model: Simplified, shapes inferred. What is open counts as one.

    Raises:
        ModelError: A tensor or a padding is too large; names the node.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for value in model.graph.inputs:
        _check_value(value, f"input '{value.name}'", memory)
    for node in model.graph:
        where = f"operator {node.op_type} (node '{node.name}')"
        if node.op_type == "Pad":
            _check_pads(node, where)
        for value in node.outputs:
            _check_value(value, f"{where}: its output '{value.name}'", memory)


def _check_value(value: ir.Value, where: str, memory: int) -> None:
    if value.shape is None:
        return
    size = 4 * math.prod(dim for dim in value.shape if isinstance(dim, int))
    if size > memory:
        raise ModelError(
            f"{where} has the shape {list(value.shape)}: {size / 1e9:.3g} GB, more than the {memory / 1e9:.3g} GB of "
            "memory that this machine has"
        )


def _check_pads(node: ir.Node, where: str) -> None:
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if pads is not None and pads.size and int(pads.max()) > LARGEST:
        raise ModelError(
            f"{where} pads by {int(pads.max())} elements; edgekit takes up to {LARGEST} on a side"
        )
