"""Subgroups of the samples that a measure looks at: a name for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.promise import Scored
from edgekit.targets.errors import EdgekitError

# What `deploy` takes: a name for each sample, or several groupings by their names.
Groups = Sequence[Any] | Mapping[str, Sequence[Any]]
_ONLY = "subgroup"


def read_groups(groups: Groups | None, evaluate: Any) -> dict[str, tuple[str, ...]]:
    """Returns the groupings that were given, or else those that ``evaluate`` has; each a name for each sample.

    Args:
        groups: As `deploy` takes them; one grouping without a name is called "subgroup".
        evaluate: The caller's measure, which may have an attribute ``groups``.

    Raises:
        EdgekitError: They are no names, are of different lengths, or there is no measure that scores samples.

    >>> class Measure:
    ...     def __call__(self, session): return 1.0
    ...     def scores(self, session): return [1.0]
    >>> read_groups({"light": ["day", "night"]}, Measure())
    {'light': ('day', 'night')}
    """
    given = getattr(evaluate, "groups", None) if groups is None else groups
    if given is None:
        return {}
    if not isinstance(evaluate, Scored):
        raise EdgekitError(
            "groups needs evaluate: a Classification, or a measure with scores(session), one a sample"
        )
    table = dict(given) if isinstance(given, Mapping) else {_ONLY: given}
    named = {str(name): _read_names(names) for name, names in table.items()}
    sizes = {len(names) for names in named.values()}
    answers = getattr(evaluate, "answers", None)
    if answers is not None and named:
        sizes.add(len(answers))
    if len(sizes) > 1:
        counts = ", ".join(map(str, sorted(sizes)))
        raise EdgekitError(f"groups must name the subgroup of each sample once, not {counts}")
    return named


def _read_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise EdgekitError(f"groups must be a name for each sample, not {names!r:.60}")
    read = tuple(str(name) for name in names)
    if not read:
        raise EdgekitError("groups must be a name for each sample, not none")
    return read
