"""What zeros in a layer alone do: the weights that make up for them, and the answers with these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate.observe import Sample, make_session
from edgekit.converters.noise import relative_noise
from edgekit.converters.prune.channels.repair import put_weights
from edgekit.converters.prune.channels.rows import find_rows
from edgekit.converters.prune.sparsity.layers import Matrix
from edgekit.converters.prune.sparsity.solve_layer import fit_kept

Doubles = npt.NDArray[np.float64]
Change = tuple[Doubles, Doubles]
# Samples that a change is tried on.
_SAMPLES = 24


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a layer reads, in the order of kernels.

    Attributes:
        covariance: Positive definite, ``[k, k]``.
        mean: ``[k]``.
    """

    covariance: Doubles
    mean: Doubles


def compensate(matrix: Matrix, inputs: Inputs, kept: npt.NDArray[np.bool_]) -> Change:
    """Returns the weights within a mask, and the bias, whose results come closest to a layer's own.

    Args:
        matrix: The layer.
        inputs: What it reads.
        kept: ``[n, k]``, true where a weight stays.

    Returns:
        Both as `LayerRows` has them.
    """
    weights = matrix.read()
    found = fit_kept(weights, inputs.covariance, kept).weights
    bias: Doubles = matrix.layer.bias + (weights - found) @ inputs.mean
    return matrix.restore(found), bias


def measure_changes(
    model: ir.Model,
    layers: Sequence[Matrix],
    changes: Mapping[str, Change],
    samples: Collection[Sample],
) -> dict[str, float]:
    """Returns the noise of the answers where one node has other weights and bias, by its name, relative to their power.

    Args:
        model: A float graph.
        layers: Of it.
        changes: By the names of nodes, what `compensate` returned.
        samples: Some of them are used.
    """
    used = list(islice(samples, _SAMPLES))

    def answer(graph: ir.Model) -> list[dict[str, npt.NDArray[np.generic]]]:
        session = make_session(graph, [])
        names = [str(value.name) for value in graph.graph.outputs]
        return [dict(zip(names, session.run(names, dict(x)), strict=True)) for x in used]

    wanted = answer(model)
    noises = {}
    for layer in layers:
        if layer.name in changes:
            changed = model.clone()
            (node,) = [node for node in changed.graph if node.name == layer.name]
            copy = find_rows(node)
            assert copy is not None
            put_weights(changed.graph, copy, *changes[layer.name])
            noises[layer.name] = relative_noise(wanted, answer(changed))
    return noises
