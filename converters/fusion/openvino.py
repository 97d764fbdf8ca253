"""What OpenVINO's CPU plugin makes of a file: the precision in which its compiled graph executes each node."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx

from edgekit.converters.fusion import openvino_layers
from edgekit.converters.fusion.graph import Graph
from edgekit.converters.fusion.report import BORDER, FusionReport, NodeFusion
from edgekit.targets.errors import ModelError, ToolError

_INTEGER_PRECISIONS = frozenset({"i8", "u8"})


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
    printed = _list_layers(path)
    layers = _by_node(printed["layers"], {node.name for node in graph.nodes})
    nodes = []
    for node in graph.nodes:
        if node.op_type in BORDER or not graph.is_computed(node):
            continue
        kind, precision = _find(node, graph, layers)
        integer = precision in _INTEGER_PRECISIONS or not precision
        reason = "" if integer else f"OpenVINO executes {kind} in {precision}"
        nodes.append(NodeFusion(node.name, node.op_type, kind, integer, reason))
    return FusionReport(f"openvino {printed['version']} on {platform.machine()}", tuple(nodes))


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


def _list_layers(path: Path) -> dict[str, Any]:
    """Returns what ``openvino_layers`` prints, from a process of its own: some files bring OpenVINO down."""
    program = [sys.executable, "-m", openvino_layers.__name__, str(path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode == openvino_layers.NOT_INSTALLED:
        raise ToolError("OpenVINO is not installed: pip install openvino")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise ModelError(f"OpenVINO cannot compile {path.name}: it was ended by {name}")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(f"OpenVINO cannot compile {path.name}: {why}")
    layers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return layers


def _by_node(layers: list[dict[str, Any]], names: set[str]) -> dict[str, tuple[str, str]]:
    """Returns the kind of layer and the precision that execute each of the nodes ``names``, where a layer names it."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        for original in layer["nodes"]:
            # The frontend and the passes for low precision add suffixes to a node's name.
            name = original
            while name and name not in names:
                name = name.rpartition("/")[0]
            if name:
                found.setdefault(name, (layer["kind"], layer["precision"]))
    return found
