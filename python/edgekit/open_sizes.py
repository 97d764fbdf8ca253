"""Sizes that a model leaves open, taken from samples and from the batch."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgekit.converters.fix_shapes import fix_shapes, open_inputs
from edgekit.converters.passes import (
    FoldConstants,
    ReplaceGatherND,
    SimplifyExpand,
    SimplifyReshape,
    simplify,
)
from edgekit.converters.read_onnx import bind_batch
from edgekit.data import Sample, Samples


def bind_shapes(graph: ir.Model, samples: Sequence[Sample]) -> ir.Model:
    """Returns ``graph``, or where it leaves dimensions open its like for inputs of the first sample's sizes."""
    if not open_inputs(graph):
        return graph
    bound = graph.clone()
    take_shapes(bound, samples)
    # Sizes that the graph computes with have to be known, the first one too.
    if any(node.op_type in ("Shape", "Size") for node in bound.graph):
        bind_batch(bound, 1)
    # These leave every value its name, by which it was calibrated.
    for fold in (FoldConstants, ReplaceGatherND, SimplifyReshape, SimplifyExpand):
        fold()(bound)
    return bound


def take_shapes(graph: ir.Model, samples: Samples | Sequence[Sample]) -> None:
    """Gives open dimensions besides the first the sizes that the samples have."""
    names = [str(value.name) for value in open_inputs(graph)]
    if names:
        sample = samples[0]
        fix_shapes(graph, {name: (None, *sample[name].shape[1:]) for name in names})


def take_batch(graph: ir.Model, batch: int) -> None:
    """Gives the open first dimension its size where the graph computes with it, as masks of places do."""
    # Of a state, say, the first dimension is something else, and known.
    wanted: dict[str, tuple[int | None, ...]] = {
        str(value.name): (batch, *(None for _ in value.shape[1:]))
        for value in graph.graph.inputs
        if value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int)
    }
    if wanted and any(node.op_type in ("Shape", "Size") for node in graph.graph):
        fix_shapes(graph, wanted)
        simplify(graph)
