"""What OpenVINO's CPU plugin makes of a file: the precision in which its compiled graph executes each node."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import onnx

from edgekit.converters.fusion.graph import Graph
from edgekit.converters.fusion.report import BORDER, FusionReport, NodeFusion
from edgekit.targets.errors import ModelError, ToolError

_INTEGER_PRECISIONS = frozenset({"i8", "u8"})
# Layers that hold values and do nothing.
_STILL = frozenset({"Const", "Input", "Output"})


def report_openvino(path: str | Path) -> FusionReport:
    """Compiles a file for the CPU and reads its runtime model.

    A node is found by its name among the original names of a layer; one that no layer names was folded into what
    reads it.

    Raises:
        ModelError: OpenVINO cannot read or compile the file.
        ToolError: OpenVINO is not installed.
    """
    path = Path(path)
    graph = Graph(onnx.load(path, load_external_data=False).graph)
    layers = _list_layers(path, {node.name for node in graph.nodes})
    nodes = []
    for node in graph.nodes:
        if node.op_type in BORDER:
            continue
        kind, precision = _find(node, graph, layers)
        integer = precision in _INTEGER_PRECISIONS or not precision
        reason = "" if integer else f"OpenVINO executes {kind} in {precision}"
        nodes.append(NodeFusion(node.name, node.op_type, kind, integer, reason))
    return FusionReport(f"openvino {_version()} on {platform.machine()}", tuple(nodes))


def _find(
    node: onnx.NodeProto, graph: Graph, layers: dict[str, tuple[str, str]]
) -> tuple[str, str]:
    """Returns kind and precision of the layer that executes ``node``, '' and that of a reader where it was folded."""
    if node.name in layers:
        return layers[node.name]
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if current.name in layers:
            return "", layers[current.name][1]
        waiting += graph.readers(current.output)
    return "", ""


def _list_layers(path: Path, names: set[str]) -> dict[str, tuple[str, str]]:
    """Returns the kind of layer and the precision that execute each of the nodes ``names``, where a layer names it."""
    try:
        import openvino
    except ImportError as error:
        raise ToolError("OpenVINO is not installed: pip install openvino") from error
    try:
        settings = {"PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot compile {path.name}: {error}") from error
    layers: dict[str, tuple[str, str]] = {}
    for layer in compiled.get_runtime_model().get_ordered_ops():
        kind, precision = _read(layer, "layerType"), _read(layer, "runtimePrecision")
        if kind in _STILL:
            continue
        for original in _read(layer, "originalLayersNames").split(","):
            # The frontend and the passes for low precision add suffixes to a node's name.
            name = original
            while name and name not in names:
                name = name.rpartition("/")[0]
            if name:
                layers.setdefault(name, (kind, precision))
    return layers


def _read(layer: Any, key: str) -> str:
    value = layer.get_rt_info()[key]
    return str(value.astype(str) if hasattr(value, "astype") else value)


def _version() -> str:
    import openvino

    return str(openvino.__version__).partition("-")[0]
