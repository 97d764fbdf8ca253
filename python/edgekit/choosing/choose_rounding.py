"""Chooses what weights are rounded by: the moments of their inputs, or the Hessian, where that answers closer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.closest import Candidate, compare
from edgekit.choosing.held_out import HeldOut
from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.compensate import Hessians
from edgekit.converters.hessians import count_products, gather_hessians
from edgekit.data import Sample, Samples
from edgekit.forms import Recipe, build_forms
from edgekit.progress import Progress
from edgekit.sizes import is_of
from edgekit.targets.errors import EdgekitError

AUTO, MOMENTS, HESSIAN = "auto", "moments", "hessian"
ROUNDINGS = (AUTO, MOMENTS, HESSIAN)
# Floats, but for weights that are int4 in the file.
INT4_STYLE = "ort-int4"
# Samples that Hessians are gathered from, spread evenly over all.
_GATHERED = 256
# Answers that are closer than this hardly gain by better weights: what is left is the rounding of activations.
_CLOSE_DB = 20.0
# What the Hessian has to be better by, on samples that took no part.
_WORTH_DB = 0.1
# Products up to which Hessians are gathered wherever they may help: about a second of two cores.
_CHEAP = 1 << 34


@dataclass(frozen=True)
class ChosenRounding:
    """What weights are rounded by.

    Attributes:
        recipe: With the Hessians, where they are used.
        trial: With those of the samples that are seen while forms are chosen.
        note: What was measured, for the report; None where nothing was.
    """

    recipe: Recipe
    trial: Recipe
    note: str | None = None


def choose_rounding(
    rounding: str,
    graph: ir.Model,
    learned: Calibration,
    ranges: str,
    recipe: Recipe,
    samples: Samples,
    held: HeldOut | None,
    promised: bool,
    folder: Path,
    tell: Progress,
) -> ChosenRounding:
    """Returns ``recipe`` with Hessians of the layers' inputs, where these are asked for or worth it.

    "auto" rounds by both where answers leave something to gain, layers have int4 weights, or a drop was promised: the
    Hessians come from the samples that are seen, the answers to those that are held out are compared. If theirs are
    better, the others are added.

    Args:
        rounding: One of `ROUNDINGS`.
        graph: The float model, simplified.
        learned: What calibration learned of it.
        ranges: How ranges are chosen; what is compared here takes the first way where it is "auto".
        recipe: What is built.
        samples: To gather from; those of the graph's own size are taken.
        held: Samples that are held out; None where there are too few to compare answers.
        promised: Whether answers are promised.
        folder: Where Hessians and forms are tried.
        tell: Is told how far it is.

    Raises:
        EdgekitError: Hessians are asked for, and no sample has the graph's size.
    """
    blocks = recipe.is_real and recipe.onnx_style == INT4_STYLE
    if rounding == MOMENTS or recipe.quantize != "int8" or (recipe.is_real and not blocks):
        return ChosenRounding(recipe, recipe)
    chosen = _choose_places(graph, samples)

    def gather(places: Sequence[int]) -> Hessians:
        return _gather(graph, [samples[place] for place in places], learned, folder, tell)

    if rounding == HESSIAN and not chosen:
        raise EdgekitError("rounding='hessian' needs calibration samples of the first size")
    if held is None:
        if rounding == AUTO:
            return ChosenRounding(recipe, recipe)
        only = replace(recipe, hessians=gather(chosen))
        return ChosenRounding(only, only)
    note, half = None, None
    if rounding == AUTO:
        four = blocks or any(
            each.weight_bits == 4 or each.has_parts for each in recipe.layer_formats.values()
        )
        half, note = _try(
            graph, learned, ranges, recipe, held, gather, promised or four, folder, tell
        )
        if half is None:
            return ChosenRounding(recipe, recipe, note)
    half = half or gather(held.places)
    rest = [place for place in chosen if place not in set(held.places)]
    whole = half.merge(gather(rest)) if rest else half
    return ChosenRounding(replace(recipe, hessians=whole), replace(recipe, hessians=half), note)


def round_chosen(
    rounding: str,
    rounded: ChosenRounding,
    graph: ir.Model,
    learned: Calibration,
    samples: Samples,
    held: HeldOut,
    chosen: Candidate,
    build: Callable[[Recipe], Candidate],
    folder: Path,
    tell: Progress,
) -> ChosenRounding:
    """Returns ``rounded`` with Hessians, where these help the forms that were chosen and are cheap to gather.

    Where all layers in int8 answer too badly, nothing is to be seen of their weights' rounding: it is asked once more
    when the noisiest are float32.

    Args:
        rounding: One of `ROUNDINGS`.
        rounded: What `choose_rounding` chose.
        graph: The float model, simplified.
        learned: What calibration learned of it.
        samples: To gather from.
        held: Samples that are held out.
        chosen: Forms made with the trial's recipe.
        build: Makes forms of the same layers and ranges by another recipe.
        folder: Where Hessians are kept.
        tell: Is told how far it is.
    """
    recipe = rounded.recipe
    if rounding != AUTO or recipe.hessians is not None or not recipe.chooses_layers:
        return rounded
    places = _choose_places(graph, samples)
    if len(places) * count_products(graph) > _CHEAP:
        return rounded
    seen = [place for place in held.places if place in set(places)]
    half = _gather(graph, [samples[place] for place in seen], learned, folder, tell)
    candidate = build(replace(recipe, hessians=half))
    before, after = (compare(each.forms, held.apart) for each in (chosen, candidate))
    said = f"{after.snr_db:.1f} dB, and {before.snr_db:.1f} without, on samples that took no part"
    if after.distance >= 10 ** (-_WORTH_DB / 10) * before.distance:
        note = f"weights are not rounded by the Hessian of their inputs: {said}"
        return replace(rounded, note=note)
    rest = [samples[place] for place in places if place not in set(seen)]
    whole = half.merge(_gather(graph, rest, learned, folder, tell)) if rest else half
    return ChosenRounding(
        replace(recipe, hessians=whole),
        replace(recipe, hessians=half),
        f"weights are rounded by the Hessian of their inputs: {said}",
    )


def _choose_places(graph: ir.Model, samples: Samples) -> list[int]:
    """Returns where the samples are that Hessians are gathered from."""
    fitting = [place for place, sample in enumerate(samples) if is_of(graph, sample)]
    count = min(len(fitting), _GATHERED)
    return [fitting[index * len(fitting) // count] for index in range(count)]


def _try(
    graph: ir.Model,
    learned: Calibration,
    ranges: str,
    recipe: Recipe,
    held: HeldOut,
    gather: Callable[[Sequence[int]], Hessians],
    always: bool,
    folder: Path,
    tell: Progress,
) -> tuple[Hessians | None, str | None]:
    """Returns the Hessians of what is seen, where they help what is held out, and what was measured.

    Args:
        graph: The float model, simplified.
        learned: What calibration learned of it.
        ranges: How ranges are chosen.
        recipe: What is built.
        held: Samples that are held out.
        gather: Returns the Hessians of samples, by their places.
        always: Whether this is measured also where answers are close enough.
        folder: Where forms are tried.
        tell: Is told how far it is.
    """
    method = next(iter(METHODS)) if ranges == AUTO else ranges
    choice = RangeChoice(method, symmetric=recipe.symmetric, narrow_weights=recipe.narrow_weights)

    def build(each: Recipe, name: str) -> Candidate:
        forms = build_forms(graph, learned, choice, each, folder / name)
        return compare(forms, held.apart)

    tell("choosing the rounding", 0, 2)
    before = build(recipe, "moments")
    if before.snr_db >= _CLOSE_DB and not always:
        return None, None
    half = gather(held.places)
    tell("choosing the rounding", 1, 2)
    after = build(replace(recipe, hessians=half), "hessian")
    tell("choosing the rounding", 2, 2)
    said = f"{after.snr_db:.1f} dB, and {before.snr_db:.1f} without, on samples that took no part"
    if after.snr_db < before.snr_db + _WORTH_DB:
        return None, f"weights are not rounded by the Hessian of their inputs: {said}"
    return half, f"weights are rounded by the Hessian of their inputs: {said}"


def _gather(
    graph: ir.Model, samples: Sequence[Sample], learned: Calibration, folder: Path, tell: Progress
) -> Hessians:
    def count(done: int, total: int | None) -> None:
        tell("gathering Hessians", done, total or done)

    return gather_hessians(graph, samples, learned, folder / "hessians", progress=count)
