"""Nodes between DequantizeLinear and QuantizeLinear that run in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from edgekit.converters.doctor.onnx_subject import OnnxSubject
from edgekit.converters.doctor.processor import ONNX_RUNTIME
from edgekit.converters.doctor.profile_onnx import NodeTime
from edgekit.converters.doctor.qdq import (
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    find_nodes,
    grid_of,
    is_operator,
    label,
    readers,
    remove_unused,
    source_of,
    weight_of,
)
from edgekit.converters.doctor.rule import CLOSER, Bench, Cost, Finding, Promise, Rule
from edgekit.converters.passes.rewrite import forget_names

_BORDER = (QUANTIZE, DEQUANTIZE)


class FloatIsland(Rule[OnnxSubject]):
    """Nodes that ONNX Runtime leaves float inside a quantized graph: codes become floats and codes again around them.

    An island is what hangs together through float values, and through codes that only its nodes write and read. Fix:
    those inner pairs of QuantizeLinear and DequantizeLinear go, since they round and convert for nothing.
    """

    id: ClassVar[str] = "float-island"
    says: ClassVar[str] = (
        "Nodes between DequantizeLinear and QuantizeLinear that the runtime does not fuse: they run in float, "
        "and their neighbours convert."
    )
    source: ClassVar[str] = (
        "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html"
    )
    promise: ClassVar[Promise | None] = CLOSER
    follows: ClassVar[bool] = True

    def check(self, subject: OnnxSubject) -> list[Finding]:
        """Goes by ONNX Runtime's optimized graph on this machine."""
        if subject.processor.engine != ONNX_RUNTIME:
            return []
        if not subject.is_quantized:
            return []
        left = {node for node in subject.graph if label(node) in subject.left_float}
        alike: dict[tuple[str, bool], list[list[ir.Node]]] = {}
        for island in _islands(subject.graph, left):
            if _matters(island):
                kinds = ", ".join(dict.fromkeys(node.op_type for node in island if node in left))
                has_pairs = any(_is_inner(node, left) for node in island)
                alike.setdefault((kinds, has_pairs), []).append(island)
        return [
            self._find(subject, kinds, has_pairs, islands, left)
            for (kinds, has_pairs), islands in alike.items()
        ]

    def _find(
        self,
        subject: OnnxSubject,
        kinds: str,
        has_pairs: bool,
        islands: list[list[ir.Node]],
        left: set[ir.Node],
    ) -> Finding:
        """Returns one finding for islands of the same operators."""
        nodes = [node for island in islands for node in island if node in left]
        pairs = sum(_is_inner(node, left) for island in islands for node in island)
        first = next((node for node in nodes if weight_of(node)), nodes[0])
        often = f"{len(islands)} times " if len(islands) > 1 else ""
        inside = f", {pairs} pairs of Q and DQ inside for nothing" if has_pairs else ""
        return Finding(
            self.id,
            tuple(label(node) for node in nodes),
            f"{often}{kinds} in float inside a quantized graph; '{label(first)}': "
            f"{subject.left_float[label(first)]}{inside}",
            "remove the conversions inside the island"
            if has_pairs
            else "leave its neighbours float as well, or write it with operators that have integer kernels",
            fixable=has_pairs,
        )

    def cost(self, subject: OnnxSubject, finding: Finding, bench: Bench) -> Cost:
        """Measures the fix; without one, what the float nodes inside and the conversions take of a run."""
        if finding.fixable:
            return bench.compare(self, [finding])
        total = sum(node.ms for node in subject.profile)
        if not total:
            return Cost(basis="not measured: it cannot be run")
        spent = sum(node.ms for node in subject.profile if _is_inside(subject, node))
        return Cost(
            spent_ms=(spent, total),
            basis=f"all islands and conversions inside the graph, by ONNX Runtime's profiler, {subject.samples_kind}",
        )

    def fix(self, subject: OnnxSubject, findings: Sequence[Finding]) -> int:
        """Removes the pairs inside islands."""
        graph = subject.graph
        forget_names(graph)
        fixed = 0
        for finding in findings:
            left = set(find_nodes(graph, finding.nodes))
            fixed_here = 0
            for quantizer in tuple(graph):
                if not _is_inner(quantizer, left):
                    continue
                source = quantizer.inputs[0]
                assert source is not None
                for pair in readers(quantizer.outputs[0]):
                    pair.outputs[0].replace_all_uses_with(source)
                fixed_here += 1
            remove_unused(graph)
            fixed += bool(fixed_here)
        return fixed


def _islands(graph: ir.Graph, left: set[ir.Node]) -> list[list[ir.Node]]:
    """Returns the nodes of ``left`` and the Q/DQ pairs among them, in groups that hang together."""
    member = {node for node in graph if node in left or _is_inner(node, left)}
    member |= {pair for node in tuple(member - left) for pair in readers(node.outputs[0])}
    seen: set[ir.Node] = set()
    groups = []
    for start in graph:
        if start not in member or start in seen:
            continue
        group, waiting = set(), [start]
        while waiting:
            node = waiting.pop()
            if node in group:
                continue
            group.add(node)
            near = [value.producer() for value in node.inputs if value is not None]
            near += [reader for value in node.outputs for reader in readers(value)]
            waiting += [other for other in near if other is not None and other in member]
        seen |= group
        groups.append([node for node in graph if node in group])
    return groups


def _is_inner(quantizer: ir.Node, left: set[ir.Node]) -> bool:
    """Returns whether a QuantizeLinear takes from a float node and gives, through its own pairs, to float nodes alone.

    A product with weights in codes is no such node: it would be an integer one if its values were.
    """
    grid = grid_of(quantizer)
    source = quantizer.inputs[0] if is_operator(quantizer, QUANTIZE) else None
    maker = None if source is None else source.producer()
    codes = quantizer.outputs[0]
    if grid is None or maker not in left or codes.is_graph_output() or weight_of(maker):
        return False
    pairs = readers(codes)
    if not pairs:
        return False
    for pair in pairs:
        own = grid_of(pair)
        if not is_operator(pair, DEQUANTIZE) or own is None or not own.equals(grid):
            return False
        users = readers(pair.outputs[0])
        if pair.outputs[0].is_graph_output() or not users:
            return False
        if any(user not in left or weight_of(user) for user in users):
            return False
    return True


def _matters(island: Sequence[ir.Node]) -> bool:
    """Returns whether codes enter, and either codes leave or a product has its weights in codes."""
    nodes = [node for node in island if not is_operator(node, *_BORDER)]
    enters = any(source_of(value) is not None for node in nodes for value in node.inputs)
    leaves = any(
        is_operator(reader, QUANTIZE)
        for node in nodes
        for value in node.outputs
        for reader in readers(value)
    )
    heavy = any(is_operator(node, *WEIGHTED) and weight_of(node) for node in nodes)
    return enters and (leaves or heavy)


def _is_inside(subject: OnnxSubject, node: NodeTime) -> bool:
    """Returns whether a node of the optimized graph computes in float between codes, or converts there.

    What ONNX Runtime unfolded has a name that the file does not know. Conversions of inputs and to outputs are needed.
    """
    graph = subject.graph
    if node.op_type in _BORDER:
        borders = {label(user) for value in graph.inputs for user in readers(value)}
        borders |= {label(maker) for value in graph.outputs if (maker := value.producer())}
        return node.name not in borders
    if node.op_type.startswith(("QLinear", "QGemm", "ConvInteger", "MatMulInteger")):
        return False
    known = {label(other) for other in graph}
    return node.name in subject.left_float or node.name not in known
