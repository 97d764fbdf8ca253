"""Finds the plan of a deployment that has promises to keep: walks, tries, and chooses."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.choosing.closest import Candidate
from edgekit.choosing.goal import Goal
from edgekit.choosing.precision import FLOAT, INT8, MIXED, Contest
from edgekit.converters.calibrate import METHODS, RangeChoice
from edgekit.converters.noise import CUT_OFF
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.sensitivity import CHANGES, Part, list_parts
from edgekit.converters.turned_answers import Turned
from edgekit.open_sizes import bind_shapes
from edgekit.progress import Progress
from edgekit.promise import DropPromise
from edgekit.search.estimate import Costs, PartTimes, make_costs
from edgekit.search.front import Front, Point, keep_front
from edgekit.search.presets import list_presets
from edgekit.search.promises import Promises, choose_point, tell_undecided
from edgekit.search.space import Choice, group_parts, spell
from edgekit.search.study import Study, import_optuna
from edgekit.search.walk import walk
from edgekit.search.workshop import Workshop, with_time
from edgekit.sensitivity import Sensitivity, measure_sensitivity
from edgekit.sensitivity.cache import digest_subject
from edgekit.targets.errors import CalibrationError, EdgekitError, ModelError

# Plans of the walk that are built, and of a study's front.
_MOST = 10
# Those between the chosen one and the next, where figures are compared as they are.
_NEARER = 5
_MOST_GROUPS = 24
# In which plans are timed: many, where one's time has to be bounded with confidence.
_FEW_ROUNDS, _ROUNDS = 11, 31
_DEFAULT = "as by default"
# Formats that save time; others save bytes, or are slower than these and no closer.
_FAST = tuple(
    format
    for format in CHANGES
    if format.weight_bits != 4 and format not in (NumberFormat.INT16, NumberFormat.FLOAT16)
)
# What plans of the walk leave of the answers, in dB: less noise is as good as none, more is of no use. Of shares of
# answers that is a sixth to a thousandth.
_LEAST_DB, _MOST_DB = 15.0, 60.0


@dataclass(frozen=True)
class Effort:
    """How long a search looks.

    Attributes:
        trials: Plans that a study tries; 0 for the walk alone.
        study: Its storage: a journal file, a database's URL, or None to keep nothing.
        seed: Of its sampler.
    """

    trials: int = 0
    study: str | Path | None = None
    seed: int = 0

    def __bool__(self) -> bool:
        return self.trials > 0


def check_effort(trials: int, study: str | Path | None) -> Effort:
    """Checks what `deploy` was told of a study.

    Raises:
        EdgekitError: ``trials`` is no whole number, or there is a storage and nothing to try.
        ToolError: There are trials, and Optuna is missing: said before anything is measured.
    """
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 0:
        raise EdgekitError(f"trials must be a whole number of at least 0, not {trials!r}")
    if study is not None and not isinstance(study, (str, os.PathLike)):
        raise EdgekitError(f"study must be a file or a database's URL, not {study!r}")
    if study is not None and not trials:
        raise EdgekitError("study keeps trials: say how many, such as trials=50")
    if trials:
        import_optuna()
    return Effort(trials, study)


@dataclass(frozen=True)
class Found:
    """What a search chose.

    Attributes:
        candidate: The forms.
        contest: Which layers are float32, for the report.
        front: All plans that none is better than.
        promise: Of ``max_drop``, as it was tested; None where no confidence can be stated.
        turned: The share of answers that may be others, where that is what ``max_drop`` bounds: of the same plan, made
            without the samples that judge it.
    """

    candidate: Candidate
    contest: Contest | None
    front: Front
    promise: DropPromise | None
    turned: Turned | None = None


@dataclass(frozen=True)
class _Walked:
    """Plans that may be built.

    Attributes:
        choices: Those that are, by their names.
        costs: Of parts, None where there are none.
        more: All plans of the walk.
    """

    choices: dict[str, Choice]
    costs: Costs | None = None
    more: tuple[Choice, ...] = ()


def find_plan(
    workshop: Workshop,
    best: Candidate,
    contest: Contest | None,
    promises: Promises,
    goal: Goal,
    effort: Effort,
) -> Found:
    """Returns the fastest and smallest plan that keeps ``promises``.

    Plans are made from calibration samples alone, before the caller's measure is asked: what `deploy` takes by default,
    all in int8, all in float32, presets, the walk's along the sensitivities, and those of a study. Where there is no
    measure and answers are counted, they are made and judged by samples that are held out, and what is chosen is made
    anew by all.

    Args:
        workshop: Builds plans.
        best: What `deploy` takes by default.
        contest: Its layers.
        promises: What has to be kept.
        goal: Measures what is lost.
        effort: How long to look.

    Raises:
        PromiseError: No plan keeps all.
        ToolError: A study is asked for, and Optuna is missing.
    """
    recipe, ranges, tell = workshop.recipe, best.forms.ranges, workshop.tell
    goal.check_answers(best)
    apart = goal.counts_answers
    default = workshop.build_again(best, contest) if apart else best
    built: dict[str, Candidate] = {_DEFAULT: default}
    points = [workshop.describe(_DEFAULT, None, default)]
    for_bytes = _wants_bytes(promises, effort)
    formats = CHANGES if for_bytes else _FAST
    times_of_parts = _time_parts(workshop, ranges, formats)
    sensitivity = _sense(workshop, ranges, formats, times_of_parts, for_bytes=for_bytes)
    parts = () if sensitivity is None else sensitivity.parts
    walked = _list_choices(workshop, sensitivity, times_of_parts, for_bytes=for_bytes)
    choices = walked.choices

    def add(name: str, choice: Choice) -> None:
        candidate = workshop.build(parts, choice, ranges, apart=apart)
        built[name] = candidate
        points.append(workshop.describe(name, choice, candidate))

    def add_all(choices: Mapping[str, Choice]) -> None:
        for index, (name, choice) in enumerate(choices.items()):
            tell("building plans", index, len(choices))
            try:
                add(name, choice)
            except ModelError:
                # A form cannot hold it.
                continue
        tell("building plans", len(choices), len(choices))

    add_all(choices)
    if effort.trials and sensitivity is not None:
        for name, choice in _run_study(
            workshop, sensitivity, choices, ranges, effort, tell
        ).items():
            add(name, choice)

    def choose() -> tuple[Point, list[Point]]:
        tell("timing plans", 0, 1)
        times = workshop.time(built, rounds=_FEW_ROUNDS if promises.max_ms is None else _ROUNDS)
        timed = [with_time(point, times) for point in points]
        tell("timing plans", 1, 1)
        # Figures do not follow the noise to the last sample: without a confidence to spend, each plan is in question.
        asked = keep_front(timed) if goal.is_scored or promises.max_drop is None else timed
        return choose_point(asked, built, times, promises, goal, workshop.latency), timed

    chosen, timed = choose()
    if promises.max_drop is not None and not goal.is_scored:
        nearer = _list_nearer(walked, chosen, points)
        if nearer:
            add_all(nearer)
            chosen, timed = choose()
    points = timed
    front = keep_front(points)
    shown = front if chosen in front else sorted([*front, chosen], key=lambda point: point.goals)
    told = [_ask(point, built, goal) for point in shown]
    undecided = tell_undecided(points, built, chosen, promises, goal)
    whole = Front(tuple(told), workshop.latency, len(points), chosen.name, undecided)
    candidate = built[chosen.name]
    # At the whole confidence, as it was tested in its turn.
    promise = goal.promise(candidate)
    turned = candidate.turned if apart else None
    if chosen.choice is None:
        return Found(best if apart else candidate, contest, whole, promise, turned)
    if apart:
        wide = _widen(workshop, parts, chosen.choice, ranges, candidate, goal)
        turned = wide.turned
        candidate = workshop.build(parts, chosen.choice, wide.forms.ranges)
    spelled = spell(workshop.graph.graph, parts, chosen.choice)
    kept = spelled.keep_float
    kind = INT8 if not kept else FLOAT if not chosen.choice.formats else MIXED
    milliseconds = {} if chosen.milliseconds is None else {kind: chosen.milliseconds}
    base = contest or Contest(INT8, "", {}, {}, {})
    how = "measured" if recipe.profile.isa == "auto" else "modelled"
    dynamic = dict.fromkeys(spelled.dynamic, 0.0)
    return Found(
        candidate,
        replace(
            base,
            chosen=kind,
            how=how,
            keep_float=kept,
            milliseconds=milliseconds,
            dynamic=dynamic,
            note="",
            gain="",
        ),
        whole,
        promise,
        turned,
    )


def _widen(
    workshop: Workshop,
    parts: Sequence[Part],
    choice: Choice,
    ranges: RangeChoice,
    chosen: Candidate,
    goal: Goal,
) -> Candidate:
    """Returns a plan whose ranges cut nothing off, where ranges are open, unless that breaks the bound or is noisier.

    What is cut off is what was seen least of, so that other samples may have more of it: noisier means by a fifth.
    """
    widest = next(iter(METHODS))
    if not workshop.has_open_ranges or str(ranges) == str(replace(ranges, method=widest)):
        return chosen
    all_seen = replace(ranges, method=widest, exceptions={})
    try:
        wide = workshop.build(parts, choice, all_seen, apart=True)
    except ModelError:
        return chosen
    return wide if goal.is_met(wide) and chosen.loss >= CUT_OFF * wide.loss else chosen


def _list_nearer(walked: _Walked, chosen: Point, points: Sequence[Point]) -> dict[str, Choice]:
    """Returns plans of the walk between the chosen one and the next that was built and is noisier, by their names."""
    costs = walked.costs
    if costs is None or chosen.choice is None:
        return {}
    own = _estimate_db(costs, chosen.choice)
    known = [point.choice for point in points if point.choice is not None]
    least = max((db for db in (_estimate_db(costs, c) for c in known) if db < own), default=0.0)
    time = costs.microseconds_of(chosen.choice.spell(costs.parts))
    between = [
        each
        for each in walked.more
        if least < _estimate_db(costs, each) < own
        and costs.microseconds_of(each.spell(costs.parts)) < time
        and each not in known
    ]
    count = min(len(between), _NEARER)
    some = [between[index * len(between) // count] for index in range(count)]
    return {f"nearer {index + 1}": choice for index, choice in enumerate(some)}


def _wants_bytes(promises: Promises, effort: Effort) -> bool:
    """Returns whether plans are looked for that save bytes and no time."""
    return promises.max_mb is not None or bool(effort)


def _time_parts(
    workshop: Workshop, ranges: RangeChoice, formats: Sequence[NumberFormat]
) -> PartTimes | None:
    """Returns what layers take, None where the native kernels cannot run the network."""
    graph = bind_shapes(workshop.graph, workshop.reference.samples)
    fixed = tuple(workshop.recipe.layer_formats)
    try:
        return workshop.time_parts(list_parts(graph.graph, formats, fixed=fixed), ranges)
    except (ModelError, CalibrationError):
        return None


def _sense(
    workshop: Workshop,
    ranges: RangeChoice,
    formats: Sequence[NumberFormat],
    times: PartTimes | None,
    *,
    for_bytes: bool,
) -> Sensitivity | None:
    """Returns the sensitivities, None where the native kernels cannot run the network."""
    bench = workshop.bench
    graph = bind_shapes(workshop.graph, bench.reference.samples)
    fixed = tuple(workshop.recipe.layer_formats)
    useless = set[tuple[str, NumberFormat]]()
    if times is not None and not for_bytes:
        useless = times.list_useless(list_parts(graph.graph, formats, fixed=fixed))
    try:
        return measure_sensitivity(
            workshop.graph,
            bench.calibration,
            ranges,
            bench.reference.samples,
            bench.reference.outputs,
            formats=formats,
            fixed=fixed,
            hessians=bench.recipe.hessians,
            batch=workshop.recipe.batch,
            skipped=useless,
            progress=workshop.tell,
        )
    except (ModelError, CalibrationError):
        return None


def _list_choices(
    workshop: Workshop,
    sensitivity: Sensitivity | None,
    times: PartTimes | None,
    *,
    for_bytes: bool,
) -> _Walked:
    """Returns plans to build: both ends, presets, and some of the walk's, spread evenly."""
    if sensitivity is None:
        return _Walked({})
    int8 = NumberFormat.INT8
    ends = {
        "all float32": Choice.of({}),
        "all int8": Choice.of({p.name: int8 for p in sensitivity.parts if int8 in p.formats}),
    }
    presets = list_presets(workshop.graph.graph, sensitivity.parts)
    ends |= {name: each for name, each in presets.items() if each not in ends.values()}
    if times is None:
        return _Walked(ends)
    costs = make_costs(workshop.graph.graph, sensitivity, times)
    walked = [
        choice
        for choice in walk(costs, tuple(presets.values()), for_bytes=for_bytes)
        if choice not in ends.values()
    ]
    if for_bytes:
        count = min(len(walked), _MOST)
        some = [walked[index * len(walked) // count] for index in range(count)]
    else:
        some = _spread(costs, walked)
    named = {f"walk {index + 1}": choice for index, choice in enumerate(some)}
    return _Walked({**ends, **named}, costs, tuple(walked))


def _spread(costs: Costs, walked: Sequence[Choice]) -> list[Choice]:
    """Returns plans of useful noise that differ much in decibels and time, from the least noise on."""
    noisy = {plan: _estimate_db(costs, plan) for plan in walked}
    useful = {plan: db for plan, db in noisy.items() if _LEAST_DB <= db <= _MOST_DB} or noisy
    times = {plan: costs.microseconds_of(plan.spell(costs.parts)) for plan in useful}
    rest = sorted(useful, key=lambda plan: -useful[plan])
    while len(rest) > _MOST:
        # What lies between two plans that are near each other is missed least.
        gaps = [
            (useful[a] - useful[b]) * max(times[a] - times[b], 0.0)
            for a, b in zip(rest, rest[2:], strict=False)
        ]
        del rest[1 + gaps.index(min(gaps))]
    return rest


def _estimate_db(costs: Costs, choice: Choice) -> float:
    """Returns the signal to noise ratio of a plan, as its parts' noise adds up."""
    return -10 * math.log10(max(costs.noise_of(choice.spell(costs.parts)), 1e-30))


def _run_study(
    workshop: Workshop,
    sensitivity: Sensitivity,
    choices: Mapping[str, Choice],
    ranges: RangeChoice,
    effort: Effort,
    tell: Progress,
) -> dict[str, Choice]:
    """Returns the plans of a study's front that were not built yet, by their names."""
    seeds = list(choices.values())
    groups = group_parts(sensitivity.parts, seeds, _MOST_GROUPS)
    subject = digest_subject(
        workshop.graph,
        workshop.calibration,
        ranges,
        workshop.reference.samples,
        workshop.recipe.isa,
        f"{workshop.recipe.formats} {workshop.recipe.batch} {workshop.recipe.onnx_style}",
    )
    study = Study(groups, subject, effort.study, seed=effort.seed)

    def evaluate(choice: Choice) -> tuple[float, ...]:
        candidate = workshop.build(sensitivity.parts, choice, ranges)
        point = workshop.describe("trial", choice, candidate)
        timed = with_time(point, workshop.time({"trial": candidate}, seconds=0.3))
        return timed.distance, timed.milliseconds or 0.0, float(timed.memory_bytes)

    tried = study.run(
        effort.trials, evaluate, seeds, lambda done, total: tell("trying plans", done, total)
    )
    known = set(seeds)
    points = [
        Point(
            f"trial {index + 1}", each.choice, each.goals[0], each.goals[1], 0, int(each.goals[2])
        )
        for index, each in enumerate(tried)
    ]
    found = [p for p in keep_front(points) if p.choice is not None and p.choice not in known]
    count = min(len(found), _MOST)
    some: Sequence[Point] = [found[index * len(found) // count] for index in range(count)]
    return {point.name: point.choice for point in some if point.choice is not None}


def _ask(point: Point, built: Mapping[str, Candidate], goal: Goal) -> Point:
    """Returns ``point`` with the caller's figure, where it was asked for."""
    known = goal.recall(built[point.name])
    return point if known is None else replace(point, figure=known.int8_value)
