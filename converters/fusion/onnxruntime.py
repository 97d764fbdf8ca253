"""What ONNX Runtime makes of a file: its optimized graph, compared with the file node by node."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

import onnx
import onnxruntime

from edgekit.converters.fusion.graph import Graph
from edgekit.converters.fusion.report import BORDER, FusionReport, NodeFusion
from edgekit.targets.errors import ModelError

_INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
    }
)
_INTEGER_PREFIX = "QLinear"
_DYNAMIC_PREFIX = "DynamicQuantize"


def report_onnxruntime(path: str | Path, *, for_arm: bool = False) -> FusionReport:
    """Loads a file in ONNX Runtime, saves the optimized graph, and compares the two.

    The level is "extended": it holds every fusion to integer operators, and unlike "all" it keeps the names and
    layouts that the report goes by.

    Args:
        path: The file.
        for_arm: Whether to fuse as on Arm, where int8 activations are taken everywhere; the switch is a setting of
            the session, so that any machine can tell.

    Raises:
        ModelError: ONNX Runtime cannot load the file.
    """
    path = Path(path)
    source = Graph(onnx.load(path, load_external_data=False).graph)
    optimized = _optimize(path, for_arm)
    nodes = []
    found = _Found(source, Graph(optimized.graph))
    for node in source.nodes:
        if node.op_type in BORDER or not source.is_computed(node):
            continue
        replacement, integer = found.look_up(node)
        reason = "" if integer else _reason(node, source)
        runs_as = "" if replacement is None else replacement.op_type
        nodes.append(NodeFusion(node.name, _plain(node.op_type), runs_as, integer, reason))
    machine = platform.machine()
    if for_arm and machine != "aarch64":
        machine += ", int8 allowed as on Arm"
    return FusionReport(f"onnxruntime {onnxruntime.__version__} on {machine}", tuple(nodes))


def _optimize(path: Path, for_arm: bool) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        optimized_path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimized_path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if for_arm:
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's classes have no common base below Exception
            raise ModelError(f"ONNX Runtime cannot load {path.name}: {error}") from error
        return onnx.load(optimized_path, load_external_data=False)


class _Found:
    """Finds what runs in the place of a node: by its name, else by its values, else by what reads them."""

    def __init__(self, source: Graph, optimized: Graph) -> None:
        self._source = source
        self._optimized = optimized
        self._runs = {node.name: node for node in optimized.nodes if node.name}
        self._codes = _code_names(optimized)

    def look_up(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, bool]:
        """Returns the operator that makes its value, None where that is gone, and whether it works on codes."""
        replacement = self._runs.get(node.name)
        if replacement is None:
            maker = next((m for name in node.output if (m := self._optimized.maker(name))), None)
            if maker is None or maker.op_type in BORDER:
                return None, self._vanished_into_codes(node)
            replacement = maker
        return replacement, self._is_integer(replacement)

    def _vanished_into_codes(self, node: onnx.NodeProto) -> bool:
        """Whether what makes the values of a node that is gone works on codes; what reads them, where they went too."""
        waiting, seen = [node], set()
        while waiting:
            current = waiting.pop(0)
            if current.op_type not in BORDER and (replacement := self._runs.get(current.name)):
                return self._is_integer(replacement)
            for name in current.output:
                maker = self._optimized.maker(name)
                if maker is not None and maker.op_type == "QuantizeLinear":
                    # Codes that are made of floats: a function was unfolded, or a float operator took the node in.
                    return False
                if maker is not None and maker.op_type != "DequantizeLinear":
                    return self._is_integer(maker)
            if id(current) not in seen:
                seen.add(id(current))
                waiting += self._source.readers(current.output)
        return True

    def _is_integer(self, node: onnx.NodeProto) -> bool:
        return _computes_on_codes(node) or (bool(node.input) and node.input[0] in self._codes)


def _computes_on_codes(node: onnx.NodeProto) -> bool:
    return node.op_type in _INTEGER_OPERATORS or node.op_type.startswith(_INTEGER_PREFIX)


def _plain(op_type: str) -> str:
    """Returns the float operator that one on codes stands for."""
    if op_type == "QGemm":
        return "Gemm"
    return op_type.removeprefix(_INTEGER_PREFIX).removeprefix(_DYNAMIC_PREFIX)


def _code_names(graph: Graph) -> set[str]:
    """Returns the values that hold codes; an operator that is not one of arithmetic hands them on."""
    codes: set[str] = set()
    for node in graph.nodes:
        makes_codes = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear")
        if node.op_type == "QGemm":
            makes_codes = len(node.input) > 7 and bool(node.input[7])
        if makes_codes or (
            node.op_type not in BORDER
            and not _computes_on_codes(node)
            and bool(node.input)
            and node.input[0] in codes
        ):
            codes.update(node.output)
    return codes


def _reason(node: onnx.NodeProto, graph: Graph) -> str:
    for name in node.input:
        maker = graph.maker(name)
        if name and name not in graph.constants:
            if maker is None:
                return f"its input {name!r} stays float32"
            if maker.op_type != "DequantizeLinear":
                return f"nothing is quantized between {maker.op_type} {maker.name!r} and it"
    for name in node.output:
        readers = graph.readers([name])
        kinds = {reader.op_type for reader in readers}
        if kinds == {"Clip"}:
            return "a Clip stands between it and its QuantizeLinear"
        if name and kinds != {"QuantizeLinear"}:
            return f"its output {name!r} stays float32"
    return f"ONNX Runtime has no integer {node.op_type} for these types here"
