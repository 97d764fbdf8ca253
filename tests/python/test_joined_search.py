"""Plans of a network and of what was pruned of it take part in one search."""

from dataclasses import dataclass, replace

import pytest

from edgekit.choosing.goal import Goal
from edgekit.choosing.make_forms import Wanted
from edgekit.pruning.join import WHOLE, join_fronts, share_search
from edgekit.search import Effort, Front, Point, Promises


@dataclass(frozen=True)
class Searched:
    front: Front


@dataclass(frozen=True)
class Forms:
    found: Searched | None


def make(chosen, *points):
    """Returns what a search found: name, noise, milliseconds and bytes of each plan."""
    found = [Point(name, None, noise, ms, size, size) for name, noise, ms, size in points]
    return Forms(Searched(Front(tuple(found), "measured here", len(found) + 1, chosen)))


def test_plans_of_all_networks_are_on_one_front_with_times_that_compare():
    whole = make("int8", ("int8", 0.01, 2.0, 100), ("float32", 1e-9, 8.0, 400))
    # Timed while the machine was busy: in turns it takes half of the whole one's time.
    pruned = make("int8", ("int8", 0.02, 4.0, 60), ("float32", 0.015, 20.0, 250))
    joined = join_fronts(whole, {"4x32 0.5": pruned}, {"4x32 0.5": 0.5}, pruned).found.front
    assert joined.chosen == "4x32 0.5: int8"
    assert joined.tried == 6
    points = {point.name: point for point in joined.points}
    # The pruned float32 plan is worse than the whole int8 one in everything.
    assert set(points) == {f"{WHOLE}: float32", f"{WHOLE}: int8", "4x32 0.5: int8"}
    assert points["4x32 0.5: int8"].milliseconds == pytest.approx(1.0)
    assert "4x32 0.5: int8" in joined.describe()


def test_what_was_chosen_is_on_the_front_whatever_other_networks_have():
    whole = make("int8", ("int8", 0.01, 2.0, 100))
    better = make("int8", ("int8", 0.005, 1.0, 50))
    joined = join_fronts(whole, {"channels 0.5": better}, {}, whole).found.front
    assert joined.chosen == f"{WHOLE}: int8"
    assert {point.name for point in joined.points} == {f"{WHOLE}: int8", "channels 0.5: int8"}
    unsearched = Forms(None)
    assert join_fronts(unsearched, {}, {}, unsearched) is unsearched


def test_trials_and_what_may_go_wrong_are_shared_out():
    goal = Goal(lambda _: 1.0, None, 0.01, 0.95)
    wanted = Wanted(None, (), Promises(0.01, confidence=0.95), Effort(20), goal, *[None] * 4)
    shared = share_search(wanted, 5)
    assert shared.effort.trials == 4
    assert shared.promises.confidence == pytest.approx(0.99)
    assert shared.goal is not goal
    plain = share_search(replace(wanted, promises=Promises(max_ms=3.0), effort=Effort()), 5)
    assert plain.goal is goal
    assert not plain.effort
