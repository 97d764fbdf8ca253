"""Joins the searches over number formats of a network and of what was pruned of it into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from edgekit.choosing.make_forms import Made, Wanted
from edgekit.search import Front, Point
from edgekit.search.front import keep_front

WHOLE = "not pruned"


def share_search(wanted: Wanted, networks: int) -> Wanted:
    """Returns what forms of one of several networks are made by, of which one is taken at the end.

    The trials of a study are shared out. Each network's plans are tested with so much confidence that all tests
    together go wrong no more often than one would: of n networks at ``1 - (1 - confidence) / n`` (Bonferroni).
    """
    promises, goal, effort = wanted.promises, wanted.goal, wanted.effort
    if promises.max_drop is not None and promises.confidence is not None:
        confidence = 1 - (1 - promises.confidence) / networks
        promises = replace(promises, confidence=confidence)
        goal = goal.at(confidence)
    effort = replace(effort, trials=math.ceil(effort.trials / networks))
    return replace(wanted, promises=promises, goal=goal, effort=effort)


def join_fronts(
    whole: Made, pruned: Mapping[str, Made], shares: Mapping[str, float], chosen: Made
) -> Made:
    """Returns ``chosen`` with the plans of all networks on one front.

    Networks were timed at different times. Those that took turns with the whole one have their times set right by that.

    Args:
        whole: What was made of the network as it is.
        pruned: What was made of it pruned, by recipes.
        shares: By recipe, the time of its plan in parts of the whole one's, in turns.
        chosen: One of them.
    """
    if chosen.found is None:
        return chosen
    points: list[Point] = []
    tried, name = 0, ""
    base = _chosen_ms(whole)
    for recipe, made in {WHOLE: whole, **pruned}.items():
        if made.found is None:
            continue
        front, own = made.found.front, _chosen_ms(made)
        tried += front.tried
        ratio = 1.0
        if base and own and recipe in shares:
            ratio = shares[recipe] * base / own
        for point in front.points:
            time = None if point.milliseconds is None else point.milliseconds * ratio
            points.append(replace(point, name=f"{recipe}: {point.name}", milliseconds=time))
        if made is chosen:
            name = f"{recipe}: {front.chosen}"
    kept = keep_front(points)
    if all(point.name != name for point in kept):
        kept += [point for point in points if point.name == name]
        kept.sort(key=lambda point: point.goals)
    latency = chosen.found.front.latency
    return replace(
        chosen,
        found=replace(
            chosen.found,
            front=Front(tuple(kept), latency, tried, name, chosen.found.front.undecided),
        ),
    )


def _chosen_ms(made: Made) -> float | None:
    if made.found is None:
        return None
    front = made.found.front
    return next((p.milliseconds for p in front.points if p.name == front.chosen), None)
