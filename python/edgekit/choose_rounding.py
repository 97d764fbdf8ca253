"""Chooses what weights are rounded by: the moments of their inputs, or the Hessian, where that answers closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgekit.closest import Candidate, Reference, compare
from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.compensate import Hessians
from edgekit.converters.hessians import gather_hessians
from edgekit.data import Sample, Samples
from edgekit.forms import Recipe, build_forms
from edgekit.progress import Progress
from edgekit.targets.errors import EdgekitError

AUTO, MOMENTS, HESSIAN = "auto", "moments", "hessian"
ROUNDINGS = (AUTO, MOMENTS, HESSIAN)
# Floats, but for weights that are int4 in the file.
INT4_STYLE = "ort-int4"
# Samples that Hessians are gathered from, spread evenly over all.
_GATHERED = 256
# Samples that can be held out with something left to learn from.
_FEWEST = 8
# Answers that are closer than this hardly gain by better weights: what is left is the rounding of activations.
_CLOSE_DB = 20.0
# What the Hessian has to be better by, on samples that took no part.
_WORTH_DB = 0.1


@dataclass(frozen=True)
class ChosenRounding:
    """What weights are rounded by.

    Attributes:
        recipe: With the Hessians, where they are used.
        note: What was measured, for the report; None where nothing was.
    """

    recipe: Recipe
    note: str | None = None


def choose_rounding(
    rounding: str,
    graph: ir.Model,
    learned: Calibration,
    ranges: str,
    recipe: Recipe,
    samples: Samples,
    reference: Reference,
    promised: bool,
    folder: Path,
    tell: Progress,
) -> ChosenRounding:
    """Returns ``recipe`` with Hessians of the layers' inputs, where these are asked for or worth it.

    "auto" rounds by both where answers leave something to gain, layers have int4 weights, or a drop was promised: the
    Hessians come from one half of the samples, the answers to the other half are compared. If theirs are better, the
    other half is added.

    Args:
        rounding: One of `ROUNDINGS`.
        graph: The float model, simplified.
        learned: What calibration learned of it.
        ranges: How ranges are chosen; what is compared here takes the first way where it is "auto".
        recipe: What is built.
        samples: To gather from; those of the graph's own size are taken.
        reference: What float answers.
        promised: Whether answers are promised.
        folder: Where Hessians and forms are tried.
        tell: Is told how far it is.

    Raises:
        EdgekitError: Hessians are asked for, and no sample has the graph's size.
    """
    blocks = recipe.is_real and recipe.onnx_style == INT4_STYLE
    if rounding == MOMENTS or recipe.quantize != "int8" or (recipe.is_real and not blocks):
        return ChosenRounding(recipe)
    fitting = [sample for sample in samples if _fits(graph, sample)]
    count = min(len(fitting), _GATHERED)
    chosen = [fitting[index * len(fitting) // count] for index in range(count)]
    if rounding == HESSIAN:
        if not chosen:
            raise EdgekitError("rounding='hessian' needs calibration samples of the first size")
        return ChosenRounding(
            replace(recipe, hessians=_gather(graph, chosen, learned, folder, tell))
        )
    kept = [index for index, sample in enumerate(reference.samples) if _fits(graph, sample)]
    if len(kept) < _FEWEST:
        return ChosenRounding(recipe)
    method = next(iter(METHODS)) if ranges == AUTO else ranges
    choice = RangeChoice(method, symmetric=recipe.symmetric, narrow_weights=recipe.narrow_weights)
    apart = _take(reference, kept[1::2])

    def build(each: Recipe, name: str) -> Candidate:
        return compare(build_forms(graph, learned, choice, each, folder / name), apart)

    tell("choosing the rounding", 0, 2)
    before = build(recipe, "moments")
    four = blocks or any(each.weight_bits == 4 for each in recipe.layer_formats.values())
    if before.snr_db >= _CLOSE_DB and not promised and not four:
        return ChosenRounding(recipe)
    seen = _take(reference, kept[0::2]).samples
    half = _gather(graph, seen, learned, folder, tell)
    tell("choosing the rounding", 1, 2)
    after = build(replace(recipe, hessians=half), "hessian")
    tell("choosing the rounding", 2, 2)
    said = f"{after.snr_db:.1f} dB, and {before.snr_db:.1f} without, on samples that took no part"
    if after.snr_db < before.snr_db + _WORTH_DB:
        return ChosenRounding(
            recipe, f"weights are not rounded by the Hessian of their inputs: {said}"
        )
    known = {id(sample) for sample in seen}
    rest = [sample for sample in chosen if id(sample) not in known]
    whole = half.merge(_gather(graph, rest, learned, folder, tell)) if rest else half
    return ChosenRounding(
        replace(recipe, hessians=whole),
        f"weights are rounded by the Hessian of their inputs: {said}",
    )


def _gather(
    graph: ir.Model, samples: Sequence[Sample], learned: Calibration, folder: Path, tell: Progress
) -> Hessians:
    def count(done: int, total: int | None) -> None:
        tell("gathering Hessians", done, total or done)

    return gather_hessians(graph, samples, learned, folder / "hessians", progress=count)


def _take(reference: Reference, places: Sequence[int]) -> Reference:
    return Reference(
        [reference.samples[place] for place in places],
        [reference.outputs[place] for place in places],
    )


def _fits(graph: ir.Model, sample: Sample) -> bool:
    """Returns whether a sample has the sizes that the graph's inputs have, but for the first, the batch."""
    for value in graph.graph.inputs:
        shape = value.shape
        array = sample.get(str(value.name))
        if shape is None or array is None:
            continue
        pairs = zip(list(shape)[1:], array.shape[1:], strict=False)
        if len(shape) != array.ndim or any(isinstance(a, int) and a != b for a, b in pairs):
            return False
    return True
