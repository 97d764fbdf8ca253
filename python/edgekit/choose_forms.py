"""Chooses which forms a deployment holds: ranges, layers in float32, and kernels, by answers and by speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.closest import Candidate, Reference, build_closest
from edgekit.converters.calibrate import METHODS, Calibration
from edgekit.cost_model import CostModel
from edgekit.forms import NATIVE, ONNX, Recipe, apply_tuning
from edgekit.goal import Goal
from edgekit.open_sizes import bind_shapes
from edgekit.precision import FLOAT, INT8, MIXED, Contest, choose_precision, slow_down, time_again
from edgekit.progress import Progress
from edgekit.restore import Restoration, describe_gain
from edgekit.tuning import Tuning, measure_layouts


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
        if ranges == "auto" and not real:
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
        restoration, best, contest, goal.is_met, goal.is_worth, recipe, folder
    )
    if better is best and not goal.is_sound(best):
        sound, decided = _leave_float(
            restoration, best, contest, goal.is_sound, lambda _: True, recipe, folder
        )
        return sound, decided
    return better, decided


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
    if decided.how == "measured" and better.forms.plan is not None:
        decided = _time_again(decided, better, recipe, folder)
        times = decided.milliseconds
        slowdown = times[decided.chosen] / times[INT8]
        if decided.chosen == MIXED and times[FLOAT] < times[MIXED]:
            better, decided = restoration.leave_all_float(best, decided)
    else:
        decided = restoration.time_engine(best, better, decided)
        times = decided.milliseconds
        slowdown = times[decided.chosen] / times[INT8] if times else slow_down(contest, decided)
    if is_worth(slowdown):
        return better, describe_gain(best, better, decided)
    note = (
        f"float32 layers for {better.snr_db:.1f} dB would take {100 * (slowdown - 1):.0f} % longer"
    )
    return best, replace(contest, note=note)
