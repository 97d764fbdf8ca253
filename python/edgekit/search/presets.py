"""What `deploy(quantize=)` gives to all layers, as plans that a search begins with: it is beaten by none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgekit.converters.can_hold import can_hold, make_int4, make_parts
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import Part
from edgekit.search.space import FLOAT32, Choice

_INT8 = NumberFormat.INT8


def list_presets(graph: ir.Graph, parts: Sequence[Part]) -> dict[str, Choice]:
    """Returns plans by their names; of formats that no part can have, or that nobody asked for, there is none.

    Args:
        graph: Of the float model.
        parts: Of it, with the formats that are asked for.
    """
    given = {
        NumberFormat.INT12_WEIGHTS: make_parts(graph, NumberFormat.INT12_WEIGHTS),
        NumberFormat.INT12: make_parts(graph, NumberFormat.INT12),
        NumberFormat.INT16: _make_wide(graph),
        NumberFormat.INT4: make_int4(graph),
    }
    found = {}
    for format, nodes in given.items():
        chosen = {part.name: _choose(part, nodes) for part in parts}
        if format in chosen.values():
            found[f"all {format.value}"] = Choice.of(chosen)
    return found


def _make_wide(graph: ir.Graph) -> dict[str, NumberFormat]:
    """Returns 16x8 for each layer that can have it, and float32 for what reads its numbers, by name."""
    wide = NumberFormat.INT16
    return {
        node.name or "": wide if can_hold(node, wide) is None else FLOAT32
        for node in graph
        if can_hold(node, _INT8) is None
    }


def _choose(part: Part, nodes: Mapping[str, NumberFormat]) -> NumberFormat:
    """Returns the format that the first of a part's nodes is given, int8 where none is."""
    told = next((nodes[name] for name in part.nodes if name in nodes), _INT8)
    if told in (*part.formats, FLOAT32):
        return told
    return _INT8 if _INT8 in part.formats else FLOAT32
