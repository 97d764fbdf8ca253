"""Compares two networks' scores on all samples, on those of each class and on those of each subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekit.agreement import Difference, Proportion
from edgekit.promise import Scores, promise_drop
from edgekit.promise.paired import Discordant
from edgekit.report import Compared, Evaluation
from edgekit.targets.errors import EdgekitError

Classes = npt.NDArray[np.int64]
# Each of both bounds of an interval of 95 %.
_EACH = 0.975
_INTERVALS = (
    "95 %: of shares Wilson's score interval (1927); of the whole drop the two bounds of the exact unconditional test "
    "of paired proportions (Hsueh, Liu and Chen, 2001), each at 97.5 %; of the drops of classes and subgroups Bonett "
    "and Price's adjusted Wald interval (2012); McNemar's test is exact (1947). Nothing is corrected for the number of "
    "classes or subgroups"
)
_INTERVALS_OF_SCORES = (
    "95 %: of drops the two bounds by betting on bounded paired differences (Waudby-Smith and Ramdas, 2023), each at "
    "97.5 %, not corrected for the number of subgroups"
)


def compare_parts(
    reference: Scores,
    candidate: Scores,
    *,
    measure: str,
    bounds: tuple[float, float] = (0.0, 1.0),
    named: tuple[Classes, Classes] | None = None,
    answers: Classes | None = None,
    labels: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Returns what both networks make of all samples, of each class and of each subgroup, the worst first.

    Args:
        reference: The float network's scores; float64 [samples].
        candidate: The deployed network's, of the same samples.
        measure: What is measured, in words.
        bounds: The least and the largest score that there can be.
        named: The classes that both name, where they do.
        answers: The right classes, where there are some.
        labels: Names of the classes.
        groups: By the name of a grouping, each sample's subgroup.

    Raises:
        EdgekitError: There is not a subgroup for each sample.
    """
    is_binary = bool(np.isin(np.concatenate([reference, candidate]), (0.0, 1.0)).all())
    changed = None if named is None else named[0] != named[1]

    def compare(name: str, of: npt.NDArray[np.bool_]) -> Compared:
        moved = None if changed is None else _count(changed[of])
        a, b = reference[of], candidate[of]
        if is_binary:
            return _compare_right(name, a, b, moved, is_whole=not name)
        return _compare_scores(name, a, b, bounds, moved)

    def split(keys: npt.NDArray[np.generic], names: Mapping[str, str]) -> list[Compared]:
        parts = [compare(names[str(key)], keys == key) for key in np.unique(keys)]
        # Of equal shares the one with more samples says more.
        return sorted(parts, key=lambda part: (part.candidate, -part.samples, part.name))

    for grouping, subgroups in (groups or {}).items():
        if len(subgroups) != reference.size:
            raise EdgekitError(
                f"groups: '{grouping}' names the subgroup of {len(subgroups)} samples, and there are {reference.size}"
            )
    classes = []
    if answers is not None:
        names = {
            str(number): labels[number] if number < len(labels) else f"class {number}"
            for number in np.unique(answers)
        }
        classes = split(answers, names)
    return Evaluation(
        measure=measure,
        whole=compare("", np.ones(reference.size, np.bool_)),
        classes=classes,
        groups={
            grouping: split(np.asarray(subgroups), {name: name for name in set(subgroups)})
            for grouping, subgroups in (groups or {}).items()
        },
        intervals=_INTERVALS if is_binary else _INTERVALS_OF_SCORES,
    )


def _compare_right(
    name: str, reference: Scores, candidate: Scores, changed: Proportion | None, *, is_whole: bool
) -> Compared:
    """Compares scores that are 0 or 1."""
    before, after = _count(reference == 1), _count(candidate == 1)
    if is_whole:
        promise = promise_drop(reference, candidate, 0.0, confidence=_EACH)
        interval = promise.lower, promise.upper
    else:
        interval = Difference.of(reference == 1, candidate == 1).interval
    return Compared(
        name,
        reference.size,
        before.share,
        after.share,
        before.interval,
        after.interval,
        interval,
        Discordant.of(reference, candidate),
        changed,
    )


def _compare_scores(
    name: str,
    reference: Scores,
    candidate: Scores,
    bounds: tuple[float, float],
    changed: Proportion | None,
) -> Compared:
    promise = promise_drop(reference, candidate, 0.0, confidence=_EACH, bounds=bounds)
    return Compared(
        name,
        reference.size,
        float(reference.mean()),
        float(candidate.mean()),
        drop_interval=(promise.lower, promise.upper),
        changed=changed,
    )


def _count(which: npt.NDArray[np.bool_]) -> Proportion:
    return Proportion(int(which.sum()), which.size)
