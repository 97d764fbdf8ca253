"""Reports what ONNX Runtime makes of a QDQ file: which nodes run on codes, and which stay float and why."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from edgekit.targets.errors import ModelError

_INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm"}
)
_INTEGER_PREFIX = "QLinear"
_BORDER = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class NodeFusion:
    """What became of a node.

    Attributes:
        name: The node of the source model.
        op_type: Its operator.
        runs_as: The operator that ONNX Runtime runs in its place, or '' where the node went into another one.
        integer: Whether it computes on codes, or moves them.
        reason: Why it stays float; '' where it does not.
    """

    name: str
    op_type: str
    runs_as: str
    integer: bool
    reason: str


@dataclass(frozen=True)
class FusionReport:
    """What ONNX Runtime made of a QDQ file.

    Attributes:
        runtime: The runtime's version and the processor that it optimized for.
        nodes: In the file's order, without QuantizeLinear and DequantizeLinear.
    """

    runtime: str
    nodes: tuple[NodeFusion, ...]

    @property
    def fused(self) -> tuple[NodeFusion, ...]:
        """The nodes that run on codes."""
        return tuple(node for node in self.nodes if node.integer)

    @property
    def left_float(self) -> tuple[NodeFusion, ...]:
        """The nodes that stay float."""
        return tuple(node for node in self.nodes if not node.integer)


def report_fusion(path: str | Path) -> FusionReport:
    """Loads a QDQ file in ONNX Runtime, saves the optimized graph, and compares the two node by node.

    The level is "extended": it holds every fusion to integer operators, and unlike "all" it keeps the names and
    layouts that the report goes by.

    Raises:
        ModelError: ONNX Runtime cannot load the file.
    """
    path = Path(path)
    source = onnx.load(path, load_external_data=False)
    with tempfile.TemporaryDirectory() as folder:
        optimized_path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimized_path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's classes have no common base below Exception
            raise ModelError(f"ONNX Runtime cannot load {path.name}: {error}") from error
        optimized = onnx.load(optimized_path, load_external_data=False)
    runs = {node.name: node for node in optimized.graph.node}
    codes = _code_names(optimized.graph)
    producers = {name: node for node in source.graph.node for name in node.output}
    consumers = _consumers(source.graph.node)
    constants = {tensor.name for tensor in source.graph.initializer}
    nodes = []
    for node in source.graph.node:
        if node.op_type in _BORDER:
            continue
        replacement = runs.get(node.name)
        integer = replacement is None or _is_integer(replacement, codes)
        nodes.append(
            NodeFusion(
                node.name,
                node.op_type,
                "" if replacement is None else replacement.op_type,
                integer,
                "" if integer else _reason(node, producers, consumers, constants),
            )
        )
    runtime = f"onnxruntime {onnxruntime.__version__} on {platform.machine()}"
    return FusionReport(runtime, tuple(nodes))


def _is_integer(node: onnx.NodeProto, codes: set[str]) -> bool:
    return _computes_on_codes(node) or (bool(node.input) and node.input[0] in codes)


def _computes_on_codes(node: onnx.NodeProto) -> bool:
    return node.op_type in _INTEGER_OPERATORS or node.op_type.startswith(_INTEGER_PREFIX)


def _code_names(graph: onnx.GraphProto) -> set[str]:
    """Returns the values that hold codes; an operator that is not one of arithmetic hands them on."""
    codes: set[str] = set()
    for node in graph.node:
        makes_codes = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear")
        if node.op_type == "QGemm":
            makes_codes = len(node.input) > 7 and bool(node.input[7])
        if makes_codes or (
            node.op_type not in _BORDER
            and not _computes_on_codes(node)
            and bool(node.input)
            and node.input[0] in codes
        ):
            codes.update(node.output)
    return codes


def _consumers(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return consumers


def _reason(
    node: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    consumers: Mapping[str, list[onnx.NodeProto]],
    constants: set[str],
) -> str:
    for name in node.input:
        producer = producers.get(name)
        if (
            name
            and name not in constants
            and (producer is None or producer.op_type != "DequantizeLinear")
        ):
            return f"its input {name!r} stays float32"
    for name in node.output:
        readers = {reader.op_type for reader in consumers.get(name, [])}
        if readers == {"Clip"}:
            return "a Clip stands between it and its QuantizeLinear"
        if name and readers != {"QuantizeLinear"}:
            return f"its output {name!r} stays float32"
    return f"ONNX Runtime has no integer {node.op_type} for these types here"
