"""Passes that make a float graph simpler without changing what it computes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from edgekit.converters.passes.bound_masks import BoundMasks
from edgekit.converters.passes.factor_sum import FactorSum
from edgekit.converters.passes.fold_batch_norm import FoldBatchNorm
from edgekit.converters.passes.fold_constants import FoldConstants
from edgekit.converters.passes.fold_pad import FoldPad
from edgekit.converters.passes.fuse_activations import FuseActivations
from edgekit.converters.passes.fuse_layer_norm import FuseLayerNorm
from edgekit.converters.passes.fuse_matmul_add import FuseMatMulAdd
from edgekit.converters.passes.move_softmax_axis import MoveSoftmaxAxis
from edgekit.converters.passes.normalize_gemm import NormalizeGemm
from edgekit.converters.passes.remove_identities import RemoveIdentities
from edgekit.converters.passes.replace_batch_norm import ReplaceBatchNorm
from edgekit.converters.passes.replace_conv_1d import ReplaceConv1D
from edgekit.converters.passes.replace_gather import ReplaceGather
from edgekit.converters.passes.replace_gather_nd import ReplaceGatherND
from edgekit.converters.passes.replace_reduce_mean import ReplaceReduceMean
from edgekit.converters.passes.replace_split import ReplaceSplit
from edgekit.converters.passes.replace_variadic import ReplaceVariadic
from edgekit.converters.passes.resolve_auto_pad import ResolveAutoPad
from edgekit.converters.passes.rewrite import GraphPass, PassReport, Skip
from edgekit.converters.passes.simplify_expand import SimplifyExpand
from edgekit.converters.passes.simplify_reshape import SimplifyReshape
from edgekit.converters.passes.sink_reshapes import SinkReshapes
from edgekit.converters.passes.unwrap_softmax import UnwrapSoftmax
from edgekit.converters.read_onnx import infer_shapes

# The order in which a round applies them: each leaves what the next ones look for.
PASSES: tuple[type[GraphPass], ...] = (
    FoldConstants,
    SimplifyReshape,
    SimplifyExpand,
    RemoveIdentities,
    FuseActivations,
    FuseLayerNorm,
    BoundMasks,
    ReplaceVariadic,
    ReplaceGatherND,
    ReplaceGather,
    ReplaceSplit,
    UnwrapSoftmax,
    MoveSoftmaxAxis,
    ResolveAutoPad,
    ReplaceConv1D,
    SinkReshapes,
    FoldPad,
    FuseMatMulAdd,
    NormalizeGemm,
    FoldBatchNorm,
    ReplaceBatchNorm,
    ReplaceReduceMean,
    FactorSum,
)
_MAX_ROUNDS = 16


@dataclass(frozen=True)
class SimplifyReport:
    """What ``simplify`` did: a report for each pass of each round, the last round having changed nothing."""

    rounds: tuple[tuple[PassReport, ...], ...]

    @property
    def changed(self) -> tuple[str, ...]:
        """Every rewrite that was made, in order."""
        return tuple(line for rules in self.rounds for report in rules for line in report.changed)

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """What the last round still had to leave alone."""
        return tuple(note for report in self.rounds[-1] for note in report.skipped)


def simplify(model: ir.Model) -> SimplifyReport:
    """Applies all of ``PASSES`` to ``model``, in place, until a round changes nothing.

    Raises:
        onnx_ir.passes.PassError: The passes do not come to an end (a defect in a pass).
    """
    rounds: list[tuple[PassReport, ...]] = []
    while len(rounds) < _MAX_ROUNDS:
        reports: list[PassReport] = []
        for graph_pass in PASSES:
            report = graph_pass()(model)
            assert isinstance(report, PassReport)
            reports.append(report)
        common.RemoveUnusedNodesPass()(model)
        rounds.append(tuple(reports))
        if not any(report.modified for report in reports):
            return SimplifyReport(tuple(rounds))
        infer_shapes(model)
    raise ir.passes.PassError(f"simplify did not settle in {_MAX_ROUNDS} rounds")


__all__ = [
    "PASSES",
    "BoundMasks",
    "FactorSum",
    "FoldBatchNorm",
    "FoldConstants",
    "FoldPad",
    "FuseActivations",
    "FuseLayerNorm",
    "FuseMatMulAdd",
    "GraphPass",
    "MoveSoftmaxAxis",
    "NormalizeGemm",
    "PassReport",
    "RemoveIdentities",
    "ReplaceBatchNorm",
    "ReplaceConv1D",
    "ReplaceGather",
    "ReplaceGatherND",
    "ReplaceReduceMean",
    "ReplaceSplit",
    "ReplaceVariadic",
    "ResolveAutoPad",
    "SimplifyExpand",
    "SimplifyReport",
    "SimplifyReshape",
    "SinkReshapes",
    "Skip",
    "UnwrapSoftmax",
    "simplify",
]
