"""Chooses which forms a deployment holds: ranges, layers in float32, and kernels, by answers and by speed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.choosing.choose_rounding import ChosenRounding, round_chosen
from edgekit.choosing.closest import Candidate, Reference, build_closest, compare
from edgekit.choosing.goal import Goal
from edgekit.choosing.held_out import HeldOut
from edgekit.choosing.precision import (
    FLOAT,
    INT8,
    MIXED,
    Contest,
    choose_precision,
    slow_down,
    time_again,
)
from edgekit.choosing.restore import Restoration, describe_gain
from edgekit.choosing.tuning import Tuning, measure_layouts
from edgekit.converters.calibrate import METHODS, Calibration
from edgekit.converters.noise import CUT_OFF
from edgekit.costs.cost_model import CostModel
from edgekit.data import Samples
from edgekit.forms import NATIVE, ONNX, Forms, Recipe, apply_tuning, build_forms
from edgekit.open_sizes import bind_shapes
from edgekit.progress import Progress


def choose_held_out(
    graph: ir.Model,
    learned: Calibration,
    held: HeldOut | None,
    samples: Samples,
    ranges: str,
    precision: str,
    rounding: str,
    rounded: ChosenRounding,
    reference: Reference,
    goal: Goal,
    folder: Path,
    tell: Progress,
) -> tuple[Candidate, Contest | None, ChosenRounding]:
    """Returns what `choose_forms` chooses on samples of which half are held out, made anew by all of them.

    What was tried is kept where the new one has a quarter more noise on these samples, though it has seen all of them.
    Where there are too few samples, or the caller's measure has samples of its own, forms are chosen by all.

    Args:
        graph: The float model, simplified.
        learned: What calibration learned of it by all samples.
        held: The same by half of some of them.
        samples: All of them.
        ranges: How ranges are chosen.
        precision: Of the layers.
        rounding: What weights may be rounded by.
        rounded: What was chosen of it.
        reference: What float answers on samples that ``learned`` may have seen.
        goal: What is asked of the answers.
        folder: Where forms are tried.
        tell: Is told how far it is.
    """
    if held is None or goal.has_samples:
        best, contest = choose_forms(
            graph, learned, ranges, precision, rounded.recipe, reference, goal, folder, tell
        )
        return best, contest, rounded
    half, trial = folder / "half", rounded.trial
    half.mkdir(parents=True)
    chosen, contest = choose_forms(
        graph,
        held.calibration,
        ranges,
        precision,
        trial,
        held.reference,
        goal,
        half,
        tell,
    )

    def build(recipe: Recipe, calibration: Calibration, name: str) -> Forms:
        return build_forms(
            graph,
            calibration,
            chosen.forms.ranges,
            recipe,
            folder / name,
            None if contest is None else contest.keep_float,
            () if contest is None else contest.dynamic_layers,
        )

    rounded = round_chosen(
        rounding,
        rounded,
        graph,
        learned,
        samples,
        held,
        chosen,
        lambda recipe: compare(build(recipe, held.calibration, "rounded"), held.reference),
        folder / "rounding",
        tell,
    )
    whole = compare(build(rounded.recipe, learned, "whole"), reference)
    # Ranges of more samples are mostly better, and looked at by these; where they are not, that is an outlier.
    kept = chosen.forms
    if rounded.trial is not trial:
        kept = build(rounded.trial, held.calibration, "tried")
    tried = compare(kept, reference)
    clearly = tried.distance < CUT_OFF * whole.distance
    return (tried if clearly else whole), contest, rounded


def choose_forms(
    graph: ir.Model,
    learned: Calibration,
    ranges: str,
    precision: str,
    recipe: Recipe,
    reference: Reference,
    goal: Goal,
    folder: Path,
    tell: Progress,
) -> tuple[Candidate, Contest | None]:
    """Returns the forms whose answers and speed are best, and how the precision of each layer was chosen."""
    real = recipe.is_real
    methods = tuple(METHODS) if ranges == "auto" and not real else (ranges,)
    best = build_closest(graph, learned, methods, recipe, reference, folder, tell, goal.is_met)
    restoration = Restoration(graph, learned, recipe, reference, folder, ranges, tell)
    contest = None
    native = NATIVE in recipe.formats
    if precision == "auto" and recipe.chooses_layers and (native or not goal.is_met(best)):
        tell("comparing int8 with float32", 0, 1)
        profile = recipe.profile
        timed = native and profile.isa == "auto"
        contest = choose_precision(
            bind_shapes(graph, reference.samples),
            learned,
            best.forms.ranges,
            isa=recipe.isa,
            batch=recipe.batch,
            threads=recipe.threads,
            model=None if timed else CostModel.of_profile(profile, recipe.isa),
            folder=folder,
            for_speed=native,
            may_be_dynamic=recipe.holds_dynamic or recipe.formats != (ONNX,),
            formats=recipe.layer_formats,
        )
        tell("comparing int8 with float32", 1, 1)
    if not goal.is_met(best):
        if contest is not None and recipe.holds_dynamic:
            cure = restoration.take_dynamic(best, contest, goal.is_met)
            if cure is not None:
                return cure[0], _time_again(cure[1], cure[0], recipe, folder)
        # Noise of distributions says little of their answers: it would choose by chance among many values.
        if ranges == "auto" and not real and best.plain_noise > 0:
            best = restoration.improve_ranges(best)
    if contest is None:
        return best, None
    best = _apply(contest, restoration, best)
    return _restore(restoration, best, contest, goal, recipe, folder)


def tune_forms(best: Candidate, recipe: Recipe, folder: Path) -> tuple[Candidate, Tuning]:
    """Returns ``best`` with the kernels that were measured to be fastest, and what was measured."""
    assert best.forms.program is not None
    tuning = measure_layouts(
        best.forms.program,
        isa=recipe.isa,
        threads=recipe.threads,
        cache_bytes=recipe.cache_bytes,
        folder=folder,
    )
    return replace(best, forms=apply_tuning(best.forms, recipe, tuning, folder)), tuning


def _apply(contest: Contest, restoration: Restoration, best: Candidate) -> Candidate:
    """Returns the like of ``best`` with the layers in float32 that are faster so."""
    return restoration.build(best, contest, contest.chosen) if contest.keep_float else best


def _time_again(contest: Contest, best: Candidate, recipe: Recipe, folder: Path) -> Contest:
    """Returns ``contest`` with the times of whole networks, where they were measured."""
    if contest.how != "measured" or best.forms.plan is None:
        return contest
    return time_again(contest, best.forms.plan, threads=recipe.threads, folder=folder)


def _restore(
    restoration: Restoration,
    best: Candidate,
    contest: Contest,
    goal: Goal,
    recipe: Recipe,
    folder: Path,
) -> tuple[Candidate, Contest]:
    """Returns forms that meet the goal, with some layers or all in float32 where they must be and can be."""
    if contest.costs is None or goal.is_met(best):
        return best, contest
    better, decided = _leave_float(
        restoration,
        best,
        contest,
        goal.is_met,
        lambda slowdown: goal.is_worth(slowdown, best),
        recipe,
        folder,
    )
    if better is best and best.changed is not None and not goal.has_samples:
        better, decided = _settle(restoration, best, contest, goal, recipe, folder)
    if better is best and not goal.is_sound(best):
        sound, decided = _leave_float(
            restoration, best, contest, goal.is_sound, lambda _: True, recipe, folder
        )
        return sound, decided
    return better, decided


def _settle(
    restoration: Restoration,
    best: Candidate,
    contest: Contest,
    goal: Goal,
    recipe: Recipe,
    folder: Path,
) -> tuple[Candidate, Contest]:
    """Returns forms with the float32 layers whose answers are worth most for their time, or ``best``."""
    better, decided = restoration.settle(best, contest, goal.weigh)
    if better is best:
        return best, contest
    decided, slowdown = _time(restoration, best, better, contest, decided, recipe, folder)
    if goal.weigh(better, slowdown) < goal.weigh(best, 1.0):
        return better, describe_gain(best, better, decided)
    return best, contest


def _time(
    restoration: Restoration,
    best: Candidate,
    better: Candidate,
    contest: Contest,
    decided: Contest,
    recipe: Recipe,
    folder: Path,
) -> tuple[Contest, float]:
    """Returns ``decided`` with the times of whole networks, and how many times as long as ``best`` its forms take."""
    if decided.how == "measured" and better.forms.plan is not None:
        decided = _time_again(decided, better, recipe, folder)
    else:
        decided = restoration.time_engine(best, better, decided)
    times = decided.milliseconds
    slowdown = times[decided.chosen] / times[INT8] if times else slow_down(contest, decided)
    return decided, slowdown


def _leave_float(
    restoration: Restoration,
    best: Candidate,
    contest: Contest,
    is_good: Callable[[Candidate], bool],
    is_worth: Callable[[float], bool],
    recipe: Recipe,
    folder: Path,
) -> tuple[Candidate, Contest]:
    """Returns forms with float32 layers that are good, or ``best`` and a note of what they would take."""
    better, decided = restoration.leave_float(best, contest, is_good, is_worth)
    if better is best:
        note = "float32 layers would take more than a tenth longer, by the layers' own times"
        return best, replace(contest, note=note)
    better, decided = restoration.choose_again((better, decided), is_good)
    decided, slowdown = _time(restoration, best, better, contest, decided, recipe, folder)
    times = decided.milliseconds
    if decided.chosen == MIXED and times.get(FLOAT, math.inf) < times.get(MIXED, 0.0):
        better, decided = restoration.leave_all_float(best, decided)
    if is_worth(slowdown):
        return better, describe_gain(best, better, decided)
    note = (
        f"float32 layers for {better.snr_db:.1f} dB would take {100 * (slowdown - 1):.0f} % longer"
    )
    return best, replace(contest, note=note)
