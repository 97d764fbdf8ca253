"""Runs a graph over samples up to what is asked for, and takes rows of layers from what comes by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes import common

from edgekit.converters.calibrate.observe import Sample, check_sample, make_session
from edgekit.converters.prune.channels.rows import Doubles, LayerRows, Places
from edgekit.targets.errors import ModelError

# What a sample's places are drawn by.
_SEED = 20
# Elements of a layer's rows.
_ELEMENTS = 1 << 24

Results = dict[str, npt.NDArray[np.generic]]


def run(
    model: ir.Model, samples: Collection[Sample], names: Sequence[str]
) -> Iterator[tuple[int, Results]]:
    """Yields, for each sample, its place and the values of some names, which may be inputs; nothing more is computed.

    Raises:
        CalibrationError: A sample does not fit the model.
        ModelError: ONNX Runtime cannot run it.
    """
    part = model.clone()
    made = {value.name: value for node in part.graph for value in node.outputs}
    wanted = [name for name in dict.fromkeys(names) if name in made]
    session = None
    if wanted:
        part.graph.outputs.clear()
        part.graph.outputs.extend(made[name] for name in wanted)
        common.RemoveUnusedNodesPass()(part)
        session = make_session(part, [])
    for index, sample in enumerate(samples):
        check_sample(model, sample, index)
        found = [] if session is None else run_one(session, wanted, sample)
        yield index, {**sample, **dict(zip(wanted, found, strict=True))}


def run_one(
    session: ort.InferenceSession, names: Sequence[str], sample: Sample
) -> list[npt.NDArray[np.float32]]:
    """Returns what a session makes of one sample.

    Raises:
        ModelError: ONNX Runtime cannot run it.
    """
    try:
        found: list[npt.NDArray[np.float32]] = session.run(list(names), dict(sample))
    except Exception as error:
        # ONNX Runtime's own exceptions have no public base class below Exception.
        first = str(error).splitlines()[0]
        raise ModelError(f"ONNX Runtime cannot run the float model: {first}") from error
    return found


def draw(layer: LayerRows, shape: tuple[int, ...], count: int, index: int) -> Places:
    """Returns the places of a layer's result that are looked at in a sample: the same whenever they are asked for."""
    random = np.random.default_rng([_SEED, index])
    return layer.draw(shape, count, random)


def count_places(layer: LayerRows, samples: int, most: int) -> int:
    """Returns how many places are taken of each sample: in all, ``most``, or 8 for each weight of an output.

    Of deep layers and those with many groups there are fewer, so that all of their rows fit into memory.
    """
    depth = layer.patches.depth
    whole = min(max(most, 8 * depth), max(_ELEMENTS // (layer.patches.groups * depth), 2 * depth))
    return max(1, -(-whole // max(samples, 1)))


def gather_rows(
    model: ir.Model, layers: Sequence[LayerRows], samples: Collection[Sample], most: int
) -> Iterator[tuple[LayerRows, Doubles, Doubles]]:
    """Yields rows of layers, ``[n, groups, depth]``, and what they give, ``[n, groups, outputs]``, sample by sample."""
    names = [name for layer in layers for name in (layer.source, layer.result)]
    for index, values in run(model, samples, names):
        for layer in layers:
            result = values[layer.result]
            places = draw(layer, result.shape, count_places(layer, len(samples), most), index)
            rows = layer.take_inputs(values[layer.source], result.shape, places)
            yield layer, rows, layer.take_outputs(result, places)
