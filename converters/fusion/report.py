"""What an engine made of a file: which nodes run on codes, and which stay float and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

BORDER = frozenset({"QuantizeLinear", "DequantizeLinear"})
# What every engine should compute on codes: the operators that take the time, and those that join and shrink.
FUSIBLE = frozenset(
    {"Add", "AveragePool", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool"}
)


@dataclass(frozen=True)
class NodeFusion:
    """What became of a node.

    Attributes:
        name: The node of the source model.
        op_type: Its operator.
        runs_as: The operator that the engine runs in its place, or '' where the node went into another one.
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
    """What an engine made of a file.

    Attributes:
        runtime: The engine's version and the processor that it optimized for.
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

    @property
    def share(self) -> float:
        """How many of the nodes run on codes, in [0, 1]; 1 where there are none."""
        return len(self.fused) / len(self.nodes) if self.nodes else 1.0

    def count(self, op_types: frozenset[str] = FUSIBLE) -> dict[str, tuple[int, int]]:
        """Returns, by operator, how many nodes run on codes and how many there are."""
        there = Counter(node.op_type for node in self.nodes if node.op_type in op_types)
        fused = Counter(node.op_type for node in self.fused)
        return {kind: (fused[kind], total) for kind, total in sorted(there.items())}
