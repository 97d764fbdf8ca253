"""Adds to a report what needs the networks to be run once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgekit.choosing.closest import Candidate, Reference, spread_places
from edgekit.choosing.goal import Evaluate, Goal
from edgekit.classification import Classification
from edgekit.converters.turned_answers import Turned
from edgekit.data import Preprocessing
from edgekit.findings.bounds import judge_answers, judge_drop
from edgekit.findings.changed import choose_flipped, find_changed
from edgekit.findings.parts import compare_parts
from edgekit.promise import DropPromise
from edgekit.promise.scored import Scored, read_bounds
from edgekit.report import Evaluation, Report
from edgekit.session import Session

_RIGHT = "share of samples whose largest output is that of the right class"
_OWN = "the caller's own measure, the mean of a score for each sample"


def add_findings(
    report: Report,
    *,
    goal: Goal,
    best: Candidate,
    evaluate: Evaluate | None,
    max_drop: float | None,
    float_session: Session,
    reference: Reference,
    samples: int,
    groups: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    preprocessing: Preprocessing | None,
    promise: DropPromise | None,
    turned: Turned | None = None,
) -> Report:
    """Returns the report with bounds on the drop, classes, subgroups and the samples that changed most.

    Args:
        report: Of ``best``.
        goal: What was measured by ``evaluate``, and how that was tested.
        best: What was deployed.
        evaluate: The caller's measure, if there is one.
        max_drop: How much of it may be lost.
        float_session: Runs the float network.
        reference: Some calibration samples and what it makes of them.
        samples: How many of them there are in all.
        groups: By the name of a grouping, each sample's subgroup.
        labels: Names of the classes.
        preprocessing: How pictures became inputs.
        promise: What was promised of ``best`` when it was chosen; None where the measure gives no scores.
        turned: The share of answers that may be others, where there is no measure to bound the drop of.

    Raises:
        EdgekitError: There is not a subgroup for each sample.
    """
    session = best.forms.session
    asked = list(report.asked)
    if max_drop is not None and report.accuracy is not None:
        asked.append(judge_drop(max_drop, report.accuracy, promise))
    if max_drop is not None and goal.counts_answers and turned is not None:
        asked.append(judge_answers(max_drop, turned, goal.confidence))
    changed = []
    if isinstance(evaluate, Classification):
        flipped = choose_flipped(evaluate, float_session, session)
        changed = find_changed(
            float_session,
            session,
            flipped,
            source="evaluation",
            evaluate=evaluate,
            labels=labels,
            preprocessing=preprocessing,
        )
    if not changed:
        changed = find_changed(
            float_session,
            session,
            zip(spread_places(samples), reference.samples, strict=True),
            source="calibration",
            labels=labels,
            preprocessing=preprocessing,
        )
    return replace(
        report,
        asked=asked,
        evaluation=_evaluate(goal, best, evaluate, float_session, groups, labels),
        changed=changed,
    )


def _evaluate(
    goal: Goal,
    best: Candidate,
    evaluate: Evaluate | None,
    float_session: Session,
    groups: Mapping[str, Sequence[str]],
    labels: Sequence[str],
) -> Evaluation | None:
    """Returns the measure by class and subgroup, None where it gives no score for each sample."""
    scores = goal.scores(best)
    if scores is None or not isinstance(evaluate, Scored):
        return None
    if not isinstance(evaluate, Classification):
        bounds = read_bounds(evaluate)
        return compare_parts(*scores, measure=_OWN, bounds=bounds, groups=groups)
    named = evaluate.name_classes(float_session), evaluate.name_classes(best.forms.session)
    return compare_parts(
        *scores,
        measure=_RIGHT,
        named=named,
        answers=evaluate.answers,
        labels=labels,
        groups=groups,
    )
