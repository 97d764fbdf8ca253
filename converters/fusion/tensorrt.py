"""What TensorRT may make of a file, by NVIDIA's rules: which nodes stand between pairs as they have to."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgekit.converters.fusion.graph import Graph
from edgekit.converters.fusion.report import BORDER, FusionReport, NodeFusion
from edgekit.converters.fusion.tensorrt_rules import check_rules
from edgekit.converters.quantizable import BINARY, LAYERS, MOVES
from edgekit.converters.write_onnx.reader_pairs import READERS
from edgekit.targets.errors import ModelError

# Pairs move across these: "TensorRT Processing of Q/DQ Networks" in the same guide.
_COMMUTING = MOVES | {"Concat"}
_ACTIVATIONS = frozenset({"Clip", "Relu"})


def report_tensorrt(path: str | Path) -> FusionReport:
    """Checks the rules on a file and tells for each node whether it may run on codes. No engine is built.

    Raises:
        ModelError: The file cannot be read, or breaks a rule.
    """
    path = Path(path)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's and the checker's classes share no base
        raise ModelError(f"{path.name} cannot be read: {error}") from error
    findings = check_rules(model)
    if findings:
        raise ModelError(f"{path.name} breaks a rule of TensorRT: {findings[0]}")
    graph = Graph(model.graph)
    on_codes = _find_integer(graph)
    nodes = []
    for node in graph.nodes:
        if node.op_type in BORDER:
            continue
        integer = node.name in on_codes
        reason = "" if integer else _reason(node, graph)
        nodes.append(
            NodeFusion(node.name, node.op_type, node.op_type if integer else "", integer, reason)
        )
    return FusionReport("TensorRT by its rules, no engine was built", tuple(nodes))


def _find_integer(graph: Graph) -> set[str]:
    """Returns the names of the nodes that may run on codes."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.op_type in READERS and all(
            _reads_codes(name, graph, found) for name in _data(node)
        ):
            if not _wants_codes_behind(node, graph) or _leaves_as_codes(node, graph):
                found.add(node.name)
        elif node.op_type in _ACTIVATIONS:
            maker = graph.maker(node.input[0])
            if maker is not None and maker.name in found:
                found.add(node.name)
    moved = (node for node in graph.nodes if node.op_type in _COMMUTING)
    return found | {node.name for node in moved if _moves_codes(node, graph)}


def _data(node: onnx.NodeProto) -> list[str]:
    return list(node.input)[: 2 if node.op_type in LAYERS | BINARY else 1]


def _reads_codes(name: str, graph: Graph, found: set[str]) -> bool:
    """Whether ``name`` is quantized, or a layer on codes makes it that computes the sum as well."""
    maker = graph.maker(name)
    if maker is None:
        return False
    return maker.op_type == "DequantizeLinear" or (maker.op_type in LAYERS and maker.name in found)


def _wants_codes_behind(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether the node's output must be codes where its inputs are, as of layers without weights.

    A sum that goes into the layer before it is part of that. From "Q/DQ Layer-Placement Recommendations" in the guide.
    """
    makers = [graph.maker(name) for name in _data(node)]
    return node.op_type not in LAYERS and not any(
        maker is not None and maker.op_type in LAYERS for maker in makers
    )


def _leaves_as_codes(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether all that reads the node quantizes it, maybe behind what only moves elements."""
    readers = graph.readers(node.output)
    return bool(readers) and all(
        reader.op_type == "QuantizeLinear"
        or (reader.op_type in _COMMUTING and _leaves_as_codes(reader, graph))
        for reader in readers
    )


def _moves_codes(node: onnx.NodeProto, graph: Graph) -> bool:
    behind = graph.maker(node.input[0])
    return _leaves_as_codes(node, graph) or (
        behind is not None and behind.op_type == "DequantizeLinear"
    )


def _reason(node: onnx.NodeProto, graph: Graph) -> str:
    if node.op_type in _COMMUTING:
        return "what reads it is not quantized"
    if node.op_type not in READERS:
        return f"TensorRT computes {node.op_type} in floats"
    floats = [name for name in _data(node) if not _reads_codes(name, graph, set())]
    if not floats:
        return "what reads it is not quantized, and an operator without weights has codes on both sides or on none"
    return f"its input {floats[0]!r} is not quantized"
