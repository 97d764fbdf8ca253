"""Says which number formats a node can have, and takes those that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import onnx_ir as ir

from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.rewrite import attribute, constant
from edgekit.converters.quantizable import (
    can_be_dynamic,
    has_recurrent_codes,
    is_depthwise,
    is_layer,
    obstacle,
)
from edgekit.converters.regions import find_regions
from edgekit.targets.errors import ModelError

# Formats whose rows get codes at run time.
_DYNAMIC = (NumberFormat.INT8_ROWS, NumberFormat.INT8_TENSOR, NumberFormat.INT4_ROWS)
# Why a node has the format that it has.
ASKED = "it was asked for"


@dataclass(frozen=True)
class AskedFormats:
    """What ``formats`` of `quantize` come to.

    Attributes:
        keep_float: Names of nodes whose activations stay float32, and why.
        dynamic: Those of them whose rows get int8 codes at run time.
        static: Names of nodes whose activations have codes on grids that calibration chose.
        int4: Names of nodes whose weights are int4.
        whole: Those of ``dynamic`` whose rows share one scale.
        float16: Names of nodes whose weights are stored as float16.
        wide: Names of nodes that are 16x8.
        parts: Names of nodes whose codes come in parts: whether their weights do so too.
    """

    keep_float: dict[str, str] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()
    static: frozenset[str] = frozenset()
    int4: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    float16: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    parts: dict[str, bool] = field(default_factory=dict)


def can_hold(node: ir.Node, format: NumberFormat) -> str | None:
    """Returns why ``node`` of a simplified float graph cannot be computed in ``format``, or None where it can.

    A recurrent node is INT8 where its weights have codes: its states stay float32.
    """
    match format:
        case NumberFormat.FLOAT32:
            return None
        case NumberFormat.INT8:
            return _int8_obstacle(node)
        case NumberFormat.INT8_ROWS:
            if can_be_dynamic(node):
                return None
            return _int8_obstacle(node) or "only fully connected layers multiply rows of codes"
        case NumberFormat.INT8_TENSOR:
            if can_be_dynamic(node):
                return None
            return _int8_obstacle(node) or "only fully connected layers multiply codes made so"
        case NumberFormat.INT16:
            return _wide_obstacle(node)
        case NumberFormat.INT12 | NumberFormat.INT12_WEIGHTS:
            return _parts_obstacle(node)
        case NumberFormat.FLOAT16:
            return _float16_obstacle(node)
        case NumberFormat.INT4:
            if is_layer(node):
                return obstacle(node)
            return "only layers with weights have some of int4"
        case NumberFormat.INT4_ROWS | NumberFormat.INT4_FLOAT:
            if can_be_dynamic(node):
                return None
            return _int8_obstacle(node) or f"only fully connected layers are {format.value}"


def read_formats(graph: ir.Graph, formats: Mapping[str, NumberFormat]) -> AskedFormats:
    """Returns what ``formats``, by the names of nodes, say.

    Raises:
        ModelError: There is no such node, or it cannot have the format.
    """
    if not formats:
        return AskedFormats()
    nodes = {node.name or "": node for node in graph}
    keep_float: dict[str, str] = {}
    dynamic, static = set[str](), set[str]()
    for name, format in formats.items():
        if name not in nodes:
            _refuse_name(name, format, nodes)
        reason = can_hold(nodes[name], format)
        if reason is not None:
            kind = nodes[name].op_type
            raise ModelError(f"node '{name}' ({kind}) cannot be {format.value}: {reason}")
        if format.is_static and format is not NumberFormat.INT16:
            static.add(name)
        else:
            keep_float[name] = ASKED
            if format in _DYNAMIC:
                dynamic.add(name)
    int4 = frozenset(name for name, format in formats.items() if format.weight_bits == 4)
    whole, float16, wide = (
        frozenset(name for name, format in formats.items() if format is each)
        for each in (NumberFormat.INT8_TENSOR, NumberFormat.FLOAT16, NumberFormat.INT16)
    )
    parts = {
        name: format is NumberFormat.INT12_WEIGHTS
        for name, format in formats.items()
        if format.has_parts and is_layer(nodes[name])
    }
    return AskedFormats(
        keep_float, frozenset(dynamic), frozenset(static), int4, whole, float16, wide, parts
    )


def make_int4(graph: ir.Graph) -> dict[str, NumberFormat]:
    """Returns int4 for each node of a simplified float graph that can have it, by name.

    Depthwise convolutions are left out: their weights are few, and nine of them make up for no error of each other
    (3 dB of EfficientNet-Lite0's answers for 3 % of its weights).
    """
    int4 = NumberFormat.INT4
    return {
        node.name or "": int4
        for node in graph
        if can_hold(node, int4) is None and not is_depthwise(node)
    }


def make_parts(
    graph: ir.Graph, format: NumberFormat = NumberFormat.INT12_WEIGHTS
) -> dict[str, NumberFormat]:
    """Returns 12x12 or 12x8 for each dense layer and sum of a simplified float graph that can have it, by name.

    Depthwise convolutions stay int8. Layers that read an input of the model, and depthwise ones right behind them, are
    float32, which takes them less time: they have few channels, and their noise passes through all others.
    """
    found: dict[str, NumberFormat] = {}
    for node in graph:
        name = node.name or ""
        source = node.inputs[0] if node.inputs else None
        if is_layer(node) and source is not None and _is_first(node, source):
            found[name] = NumberFormat.FLOAT32
        elif can_hold(node, format) is None and not is_depthwise(node):
            found[name] = format
    return found


def _is_first(node: ir.Node, source: ir.Value) -> bool:
    """Returns whether a layer reads an input of the model, or is depthwise and reads such a layer."""
    if source.is_graph_input():
        return True
    maker = source.producer()
    if maker is not None and maker.op_type in ("Clip", "Relu"):
        before = maker.inputs[0]
        maker = None if before is None else before.producer()
    if maker is None or not is_depthwise(node) or not is_layer(maker):
        return False
    given = maker.inputs[0]
    return given is not None and given.is_graph_input()


def parse_format(text: str) -> tuple[str, NumberFormat]:
    """Reads ``NODE=FORMAT``; the node's name may hold '='.

    Raises:
        ModelError: The text is something else.

    >>> parse_format("/conv1/Conv=float32")
    ('/conv1/Conv', <NumberFormat.FLOAT32: 'float32'>)
    """
    node, separator, name = text.rpartition("=")
    if not separator or not node:
        raise ModelError(f"'{text}' is no format of a node: write NODE=FORMAT")
    return node, name_format(name)


def name_format(name: str) -> NumberFormat:
    """Returns the format of that name.

    Raises:
        ModelError: There is none.
    """
    try:
        return NumberFormat(name)
    except ValueError:
        known = ", ".join(format.value for format in NumberFormat)
        raise ModelError(
            f"there is no number format '{name}'; this version knows: {known}"
        ) from None


def name_formats(formats: Mapping[str, NumberFormat | str] | None) -> dict[str, NumberFormat]:
    """Returns ``formats`` by the names of nodes, none of them told by its own name.

    Raises:
        ModelError: It is no mapping of names to formats.
    """
    if formats is None:
        return {}
    if not isinstance(formats, Mapping):
        raise ModelError(f"formats must be a dict by the names of nodes, not {formats!r}")
    return {
        name: given if isinstance(given, NumberFormat) else name_format(str(given))
        for name, given in formats.items()
    }


def _int8_obstacle(node: ir.Node) -> str | None:
    reason = obstacle(node)
    if reason is None or has_recurrent_codes(node):
        return None
    assert node.graph is not None
    regions = find_regions(node.graph)
    return None if any(node in region.nodes for region in regions.values()) else reason


def _float16_obstacle(node: ir.Node) -> str | None:
    if not is_layer(node) or node.op_type == "ConvTranspose":
        return "only convolutions and fully connected layers store their weights as float16"
    reason = obstacle(node)
    weight = constant(node.inputs[1])
    if reason is None and weight is not None:
        largest = float(np.abs(weight).max(initial=0.0))
        if largest > float(np.finfo(np.float16).max):
            return f"it has a weight of {largest:g}, which float16 cannot hold"
    return reason


def _wide_obstacle(node: ir.Node) -> str | None:
    if not is_layer(node) or node.op_type == "ConvTranspose":
        return "only convolutions and fully connected layers multiply codes of 16 bits"
    weight = node.inputs[1]
    groups = attribute(node, "group", 1)
    if groups != 1 and weight is not None and weight.shape is not None:
        count, depth = weight.shape[:2]
        if count != groups or depth != 1:
            return f"it has {groups} groups of more than a channel"
    return obstacle(node)


def _parts_obstacle(node: ir.Node) -> str | None:
    """Returns why a node has no codes in parts; a sum of what such layers write has none, but is not rounded either."""
    if node.op_type == "Add":
        return obstacle(node)
    if not is_layer(node) or node.op_type == "ConvTranspose":
        return "only convolutions, fully connected layers and sums take codes in parts"
    weight = node.inputs[1]
    groups = attribute(node, "group", 1)
    if groups != 1 and weight is not None and weight.shape is not None:
        count, depth = weight.shape[:2]
        dilations = node.attributes.get("dilations")
        if count != groups or depth != 1:
            return f"it has {groups} groups of more than a channel"
        if dilations is not None and any(step != 1 for step in dilations.as_ints()):
            return "a depthwise convolution with dilations takes no codes in parts"
    return obstacle(node)


def _refuse_name(name: str, format: NumberFormat, nodes: Collection[str]) -> NoReturn:
    some = ", ".join(f"'{each}'" for each in list(nodes)[:4])
    raise ModelError(
        f"there is no node '{name}' to be {format.value}: after simplifying the network has {some}"
        + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")
    )
