"""Promises: how often one is made that is wrong, computed or simulated; what is said where samples are too few."""

import doctest
import importlib
import json
import math
import re
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError
from edgekit.promise import (
    Discordant,
    Scored,
    Verdict,
    accept_in_order,
    betting,
    bound_median,
    paired,
    promise_drop,
    promise_latency,
    promise_size,
    read_scores,
)
from edgekit.promise.verdict import widen
from edgekit.targets.errors import AccuracyError

ALPHA = 0.05


@pytest.mark.parametrize("name", ["verdict", "paired", "drop", "latency"])
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(f"edgekit.promise.{name}")).failed == 0


def scores_of(counts):
    """Returns scores of both networks with these counts."""
    same = counts.total - counts.more - counts.less
    reference = np.r_[np.ones(counts.more), np.zeros(counts.less), np.ones(same)]
    return reference, np.r_[np.zeros(counts.more), np.ones(counts.less), np.ones(same)]


def chance(more, less, total, p, q):
    """Returns the chance of these counts, where one network alone is right with chances ``p`` and ``q``."""
    rest = total - more - less
    ways = math.comb(total, more) * math.comb(total - more, less)
    return ways * p**more * q**less * max(1 - p - q, 0) ** rest


@pytest.mark.parametrize("total", [5, 30])
@pytest.mark.parametrize("allowed", [0.02, 0.1, 0.3, -0.1, -0.5])
def test_a_wrong_promise_is_made_with_a_chance_of_at_most_alpha(total, allowed):
    """Not simulated: summed over every outcome, for true drops at what is allowed and above it."""
    promised = [
        (more, less)
        for more, less in product(range(total + 1), repeat=2)
        if more + less <= total
        and paired.find_p(Discordant(more, less, total), allowed, ALPHA) <= ALPHA
    ]
    assert promised or total < 30
    for drop in (allowed, allowed + 0.03, allowed + 0.2, allowed + 0.5):
        for q in np.linspace(max(0, -drop), (1 - drop) / 2, 40):
            wrong = sum(chance(*counts, total, q + drop, q) for counts in promised)
            assert wrong <= ALPHA, (drop, q)


@pytest.mark.slow
@pytest.mark.parametrize("drop", [0.0, 0.004, 0.03])
@pytest.mark.parametrize("less", [0.0005, 0.005, 0.03])
def test_bounds_of_many_samples_hold_the_true_drop(drop, less):
    """Simulated where there are too many outcomes to sum."""
    total, runs = 1500, 500
    drawn = np.random.default_rng(7).multinomial(
        total, [less + drop, less, 1 - 2 * less - drop], size=runs
    )
    wrong = sum(
        paired.find_p(Discordant(int(b), int(c), total), drop, ALPHA) <= ALPHA for b, c, _ in drawn
    )
    # Three standard deviations above what alpha gives.
    assert wrong <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))
    # It is of use: not far below alpha either, where differences are not rare.
    assert wrong >= 0.5 * runs * ALPHA or less < 0.03


def test_bounds_of_very_many_samples_hold_the_true_drop():
    """Where the distribution is taken as normal."""
    total, runs, drop = 20_000, 4000, 0.01
    drawn = np.random.default_rng(8).multinomial(total, [0.05 + drop, 0.05, 0.9 - drop], size=runs)
    counts = [Discordant(int(b), int(c), total) for b, c, _ in drawn]
    wrong = sum(paired.find_p(each, drop, ALPHA) <= ALPHA for each in counts)
    assert 0.7 * runs * ALPHA < wrong <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))


@pytest.mark.parametrize("less", [0.002, 0.02])
@pytest.mark.parametrize("distance", [0.0, 0.6, 1.2, 1.8])
def test_a_promise_is_broken_on_unseen_samples_with_a_chance_of_at_most_alpha(less, distance):
    """Promised on some, and broken on as many others, wherever the true drop is below what is allowed."""
    total, runs, allowed = 1000, 1500, 0.02
    drop = allowed - distance * math.sqrt((2 * less + allowed) / total)
    rng = np.random.default_rng(5)
    chances = [max(less + drop, 0), less, 1 - 2 * less - drop]
    alpha, broken = widen(ALPHA, total, total), 0
    for seen, unseen in zip(*(rng.multinomial(total, chances, runs) for _ in "ab"), strict=True):
        counts = Discordant(int(seen[0]), int(seen[1]), total)
        if (unseen[0] - unseen[1]) / total > allowed:
            broken += paired.find_p(counts, allowed, alpha) <= alpha
    assert broken <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))


def test_the_normal_distribution_takes_over_unnoticed(monkeypatch):
    for share in (0.5, 0.95):
        counts = Discordant(int(1000 * share), 1000 - int(1000 * share), 20_000)
        bounds = []
        for many in (10**9, 0):
            monkeypatch.setattr(paired, "_MANY", many)
            paired.find_p.cache_clear()
            bounds.append(paired.bound_drop.__wrapped__(counts, ALPHA))
        assert bounds[0] == pytest.approx(bounds[1], rel=0.01)


@given(
    st.integers(1, 200), st.data(), st.floats(-0.5, 0.9), st.sampled_from([0.5, 0.2, 0.05, 1e-3])
)
@settings(deadline=None, max_examples=40)
def test_a_bound_is_where_the_test_turns(total, data, allowed, alpha):
    more = data.draw(st.integers(0, total))
    counts = Discordant(more, data.draw(st.integers(0, total - more)), total)
    upper = paired.bound_drop(counts, alpha)
    assert max(counts.drop, -1) <= upper <= 1
    assume(abs(upper - allowed) > 1e-5)
    assert (paired.find_p(counts, allowed, alpha) <= alpha) == (upper < allowed)


@given(st.integers(20, 400), st.integers(0, 15), st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_bounds_grow_with_what_is_lost_and_with_confidence(total, more, less):
    counts = Discordant(more, less, total)
    worse = Discordant(more + 1, less, total)
    assert paired.bound_drop(counts, ALPHA) <= paired.bound_drop(worse, ALPHA) + 1e-5
    assert paired.bound_drop(counts, ALPHA) <= paired.bound_drop(counts, ALPHA / 10) + 1e-5
    assert paired.bound_drop_below(counts, ALPHA) <= paired.bound_drop(counts, ALPHA)


def test_no_difference_promises_what_the_rule_of_three_says():
    """Without a difference in n samples, 3 / n is the bound, as is known."""
    assert paired.bound_drop(Discordant(0, 0, 1000), ALPHA) == pytest.approx(3 / 1000, rel=0.02)


def test_mcnemar_is_the_sign_test():
    assert Discordant(5, 5, 100).mcnemar == 1
    assert Discordant(0, 0, 100).mcnemar == 1
    for more, less in ((8, 1), (0, 6), (30, 12)):
        tail = sum(math.comb(more + less, k) for k in range(min(more, less) + 1))
        expected = min(1.0, 2 * tail / 2 ** (more + less))
        assert Discordant(more, less, 99).mcnemar == pytest.approx(expected)
        assert Discordant(less, more, 99).mcnemar == pytest.approx(expected)


# Distributions whose mean is 0.02.
LOSSES = {
    "a few lose all": lambda rng, n: (rng.random(n) < 0.02).astype(float),
    "all lose a little": lambda rng, n: rng.uniform(0, 0.04, n),
    "most gain, few lose much": lambda rng, n: np.where(rng.random(n) < 0.04, 0.98, -0.02),
    "either way": lambda rng, n: np.where(rng.random(n) < 0.52, 0.5, -0.5),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("total", [50, 400])
def test_bets_on_bounded_scores_are_wrong_with_a_chance_of_at_most_alpha(name, total):
    rng, runs = np.random.default_rng(3), 1000
    true = {
        "a few lose all": 0.02,
        "all lose a little": 0.02,
        "most gain, few lose much": 0.02,
    }.get(name, 0.02)
    wrong = sum(betting.find_p(LOSSES[name](rng, total), true, ALPHA) <= ALPHA for _ in range(runs))
    assert wrong <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))


def test_bets_adapt_to_the_variance():
    rng = np.random.default_rng(0)
    calm, wild = rng.normal(0, 0.01, 2000), rng.normal(0, 0.2, 2000).clip(-1, 1)
    assert betting.bound_mean(calm, ALPHA) < 0.003
    assert betting.bound_mean(calm, ALPHA) < betting.bound_mean(wild, ALPHA) < 0.02


def test_the_order_of_samples_does_not_matter_where_it_is_by_class():
    rng = np.random.default_rng(1)
    losses = np.where(rng.random(3000) < 0.03, 0.5, 0.0)
    bounds = [betting.bound_mean(each, ALPHA) for each in (losses, np.sort(losses))]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.3)


@pytest.mark.parametrize(
    ("counts", "allowed", "verdict"),
    [
        (Discordant(2, 0, 1000), 0.01, Verdict.KEPT),
        (Discordant(2, 0, 100), 0.01, Verdict.BROKEN),
        (Discordant(1, 1, 100), 0.01, Verdict.UNDECIDED),
        (Discordant(0, 0, 100), 0.0, Verdict.UNDECIDED),
        (Discordant(5, 0, 10), 1.5, Verdict.KEPT),
    ],
)
def test_verdicts(counts, allowed, verdict):
    promise = promise_drop(*scores_of(counts), allowed)
    assert promise.verdict is verdict
    assert promise.is_kept == (verdict is Verdict.KEPT)
    assert (promise.drop, promise.discordant) == (pytest.approx(counts.drop), counts)
    assert promise.lower <= promise.drop <= promise.upper
    facts = json.loads(json.dumps(promise.to_dict()))
    assert facts["verdict"] == verdict.value
    assert facts["discordant"]["reference_alone_right"] == counts.more
    assert str(verdict) in str(promise)


@pytest.mark.parametrize("more", [0, 1])
def test_as_many_samples_as_are_needed_are_enough(more):
    counts = Discordant(more, 0, 100)
    promise = promise_drop(*scores_of(counts), 0.02)
    assert promise.verdict is Verdict.UNDECIDED
    needed = promise.needed
    grown = Discordant(-(-more * needed // 100), 0, needed)
    assert promise_drop(*scores_of(grown), 0.02).is_kept
    assert f"about {needed - 100} more" in str(promise)
    fewer = int(needed * 0.95)
    shrunk = Discordant(-(-more * fewer // 100), 0, fewer)
    assert not promise_drop(*scores_of(shrunk), 0.02).is_kept


def test_as_many_bounded_scores_as_are_needed_are_enough():
    rng = np.random.default_rng(5)
    reference = rng.uniform(0.2, 0.8, 100)
    candidate = reference - rng.uniform(-0.1, 0.1, 100)
    promise = promise_drop(reference, candidate, 0.02)
    assert promise.verdict is Verdict.UNDECIDED
    tiled = (np.resize(each, promise.needed) for each in (reference, candidate))
    assert promise_drop(*tiled, 0.02).is_kept
    assert promise.discordant is None
    assert json.loads(json.dumps(promise.to_dict()))["needed"] == promise.needed


def test_other_bounds_scale_what_is_promised():
    rng = np.random.default_rng(5)
    reference = rng.uniform(0.2, 0.8, 500)
    candidate = reference - rng.uniform(-0.01, 0.02, 500)
    one = promise_drop(reference, candidate, 0.01)
    ten = promise_drop(10 * reference, 10 * candidate, 0.1, bounds=(0.0, 10.0))
    assert ten.upper == pytest.approx(10 * one.upper)
    assert ten.verdict is one.verdict


def test_nothing_promises_that_nothing_is_lost():
    promise = promise_drop(np.ones(50), np.ones(50), 0.0)
    assert (promise.verdict, promise.needed) == (Verdict.UNDECIDED, None)
    assert "no number of samples" in str(promise)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones(3), np.ones(4), 0.1), "same samples"),
        ((np.ones(0), np.ones(0), 0.1), "same samples"),
        ((np.ones(3), np.ones(3), math.nan), "max_drop"),
    ],
)
def test_nonsense_is_refused(arguments, words):
    with pytest.raises(EdgekitError, match=words):
        promise_drop(*arguments)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0, 95, math.nan, "0.9", True])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(EdgekitError, match="confidence"):
        promise_drop(np.ones(9), np.ones(9), 0.1, confidence=confidence)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.95, 0.999]))
@settings(deadline=None)
def test_bounds_of_a_median_hold_it(count, confidence):
    """The chance that the bound is too low, summed over how many of the values are below the true median."""
    low, high = bound_median(range(count), confidence)
    if math.isinf(high):
        assert 0.5**count > 1 - confidence - 1e-12
        return
    # The true median is above the bound if more than `high` values are below it.
    wrong = sum(math.comb(count, below) for below in range(int(high) + 1, count + 1)) / 2**count
    assert wrong <= 1 - confidence
    # The next smaller value would not do.
    shorter = sum(math.comb(count, below) for below in range(int(high), count + 1)) / 2**count
    assert shorter > 1 - confidence or high == 0
    assert low == count - 1 - high


def test_latency():
    times = [1.0 + index / 100 for index in range(21)]
    assert promise_latency(times, 1.2).verdict is Verdict.KEPT
    assert promise_latency(times, 1.12).verdict is Verdict.UNDECIDED
    assert promise_latency(times, 1.05).verdict is Verdict.BROKEN
    few = promise_latency([1.0, 1.0], 2.0, where="here")
    assert few.verdict is Verdict.UNDECIDED
    assert json.loads(json.dumps(few.to_dict(), allow_nan=False))["high_ms"] is None
    for arguments in (([], 1.0), ([1.0], 0.0), ([math.nan], 1.0)):
        with pytest.raises(EdgekitError):
            promise_latency(*arguments)


def test_size_is_exact():
    assert promise_size(1_000_000, 1.0).verdict is Verdict.KEPT
    assert promise_size(1_000_001, 1.0).verdict is Verdict.BROKEN
    assert json.loads(json.dumps(promise_size(5, 1).to_dict()))["bytes"] == 5
    with pytest.raises(EdgekitError, match="max_mb"):
        promise_size(5, 0)


class Measure:
    """Gives scores that were written down."""

    def __init__(self, scores, bounds=None):
        self.written = scores
        if bounds is not None:
            self.bounds = bounds

    def __call__(self, session):
        return float(np.mean(self.written))

    def scores(self, session):
        return self.written


def test_scored_is_what_has_scores():
    assert isinstance(Measure([1.0]), Scored)
    assert not isinstance(lambda session: 1.0, Scored)
    assert read_scores(Measure([True, False]), None).tolist() == [1.0, 0.0]
    assert read_scores(Measure([5.0], bounds=(0, 10)), None).tolist() == [5.0]


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (Measure(1.0), "one number for each sample"),
        (Measure([]), "one number for each sample"),
        (Measure([1.0, math.nan]), "sample 1 is nan"),
        (Measure([5.0]), "bounds"),
        (Measure([5.0], bounds=(0, 4)), "bounds"),
        (Measure([5.0], bounds=(4, 0)), "bounds"),
        (Measure([5.0], bounds="wide"), "bounds"),
    ],
)
def test_scores_are_checked(measure, words):
    with pytest.raises(EdgekitError, match=words):
        read_scores(measure, None)


def test_plans_are_tried_in_order_until_one_fails():
    right = np.ones(1000)
    lost = {"safe": 0, "fast": 2, "faster": 40, "fastest": 0}

    def promise(plan):
        return promise_drop(right, np.r_[np.zeros(lost[plan]), np.ones(1000 - lost[plan])], 0.01)

    accepted = accept_in_order(lost, promise)
    assert accepted.plans == ["safe", "fast"]
    assert (accepted.failed, len(accepted.promises)) == ("faster", 3)
    assert accept_in_order(["safe"], promise).failed is None
    assert accept_in_order([], promise).plans == []


@dataclass(frozen=True)
class Judged:
    """Of one plan."""

    is_kept: bool


def test_a_wrong_plan_is_accepted_with_a_chance_of_at_most_alpha():
    """Of five plans the last three break the promise; it is rare that one of these is among the accepted."""
    rng, runs, total, allowed = np.random.default_rng(11), 500, 1000, 0.01

    def promise(drop):
        more, less, _ = rng.multinomial(total, [0.01 + drop, 0.01, 0.98 - drop])
        p = paired.find_p(Discordant(int(more), int(less), total), allowed, ALPHA)
        return Judged(p <= ALPHA)

    drops = [-0.01, 0.0, allowed, 0.011, 0.02]
    wrong = sum(max([-1.0, *accept_in_order(drops, promise).plans]) >= allowed for _ in range(runs))
    assert wrong <= runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))


class Candidate:
    """Stands for forms whose session answers with scores that were written down."""

    def __init__(self, scores):
        self.forms = type("Forms", (), {"session": scores})
        self.snr_db = 0.0


class Scoring:
    """Takes sessions that are scores."""

    def __call__(self, session):
        return float(np.mean(session))

    def scores(self, session):
        return session


def make_goal(total, max_drop, evaluate=None, **how):
    from edgekit.choosing.goal import Goal

    return Goal(evaluate or Scoring(), np.ones(total), max_drop, **how)


def lose(total, count):
    return Candidate(np.r_[np.zeros(count), np.ones(total - count)])


def test_a_goal_is_met_where_the_bound_holds():
    goal = make_goal(1000, 0.01)
    assert goal.is_met(lose(1000, 1))
    close = lose(1000, 8)
    assert not goal.is_met(close)
    with pytest.raises(AccuracyError, match=r"too few samples, about [0-9]+ more"):
        goal.check(close)
    with pytest.raises(AccuracyError, match=r"drop above max_drop=0\.01"):
        goal.check(lose(1000, 20))


def test_a_goal_without_confidence_compares_figures():
    goal = make_goal(1000, 0.01, confidence=None)
    assert goal.is_met(lose(1000, 8))
    assert goal.promise(lose(1000, 8)) is None
    figure_alone = make_goal(1000, 0.01, evaluate=lambda session: float(np.mean(session)))
    assert figure_alone.is_met(lose(1000, 8))
    assert figure_alone.promise(lose(1000, 8)) is None


def test_a_goal_says_at_once_that_samples_are_too_few():
    with pytest.raises(AccuracyError, match="100 samples are too few") as told:
        make_goal(100, 0.01).is_met(lose(100, 0))
    enough = int(re.search("about ([0-9]+) would be", str(told.value))[1])
    # Before anything is tried; and so many are enough for one plan, as a search tests it.
    with pytest.raises(AccuracyError, match="too few"):
        make_goal(enough - 5, 0.01).check_samples()
    make_goal(enough, 0.01).check_samples()
    assert make_goal(enough, 0.01).promise(lose(enough, 0)).is_kept
    make_goal(100, 0.01, evaluate=lambda session: float(np.mean(session))).check_samples()
    with pytest.raises(AccuracyError, match="no number would be enough"):
        make_goal(100, 0.0).is_met(lose(100, 0))
    make_goal(100, 0.0, confidence=None).check(lose(100, 0))


def test_a_goal_spends_its_confidence_on_all_that_are_tried():
    goal = make_goal(1000, 0.01)
    candidates = [lose(1000, 8), lose(1000, 5), lose(1000, 2)]
    confidences = [goal.try_promise(each).confidence for each in candidates]
    assert confidences == pytest.approx([1 - 3 * ALPHA / 4**turn for turn in (1, 2, 3)])
    assert goal.try_promise(candidates[0]).confidence == confidences[0]
    assert goal.promise(candidates[0]).confidence == 0.95


@dataclass(frozen=True)
class Answered:
    """Forms whose session is their scores."""

    session: np.ndarray


@dataclass(frozen=True)
class Built:
    """A plan as a goal measures it."""

    forms: Answered


def choose_by_half(scores, half, allowed, milliseconds, max_ms):
    """Returns the name of the plan that `deploy` would take by one half of the samples and of the rounds, or None."""
    from edgekit.search.front import Point
    from edgekit.search.promises import Promises, choose_point

    reference, *plans = scores
    goal = make_goal_of(reference[half], allowed)
    points = [
        Point(str(i), None, float(i), float(np.median(own)), 9 - i, 9 - i)
        for i, own in enumerate(milliseconds)
    ]
    built = {str(i): Built(Answered(own[half])) for i, own in enumerate(plans)}
    times = {str(i): own.tolist() for i, own in enumerate(milliseconds)}
    try:
        promises = Promises(allowed, max_ms)
        return choose_point(points, built, times, promises, goal, "measured here").name
    except (AccuracyError, EdgekitError):
        return None


def make_goal_of(reference, allowed):
    from edgekit.choosing.goal import Goal

    return Goal(Scoring(), reference, allowed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["right or wrong", "shares"])
def test_what_one_half_chooses_keeps_promises_on_the_other(kind):
    """As `benchmarks/promises.py` does with networks: at most 5 of 100 random splits break what was promised."""
    rng, total, rounds, splits = np.random.default_rng(3), 600, 62, 100
    allowed, max_ms = 0.05, 1.2
    reference = (rng.random(total) < 0.9).astype(float)
    plans = [
        np.where(rng.random(total) < lost, 0.0, reference) for lost in (0.0, 0.005, 0.01, 0.06)
    ]
    if kind == "shares":
        plans = [0.9 * own + 0.1 * rng.random(total) for own in plans]
    times = [rng.lognormal(0.3 - 0.1 * i, 0.1, rounds) for i in range(len(plans))]
    kept = broken = 0
    for _ in range(splits):
        seen, unseen = np.split(rng.permutation(total), 2)
        early, late = np.split(rng.permutation(rounds), 2)
        now = [own[early] for own in times]
        name = choose_by_half([reference, *plans], seen, allowed, now, max_ms)
        if name is not None:
            drop = (reference - plans[int(name)])[unseen].mean()
            is_kept = drop <= allowed and np.median(times[int(name)][late]) <= max_ms
            kept, broken = kept + is_kept, broken + (not is_kept)
    assert broken <= 0.05 * splits
    assert kept or kind == "shares"


def test_a_faster_plan_that_too_few_samples_cannot_promise_is_told():
    from edgekit.choosing.goal import Goal
    from edgekit.converters.turned_answers import Turned
    from edgekit.search.front import Point
    from edgekit.search.promises import Promises, tell_undecided

    points = [Point(n, None, 0.0, ms, 10, 10) for n, ms in (("slow", 3), ("some", 2), ("fast", 1))]
    slow = points[0]

    @dataclass(frozen=True)
    class Counted:
        turned: Turned

    shares = {"slow": (0.0, 0.0), "some": (0.008, 0.003), "fast": (0.02, 0.001)}
    built = {name: Counted(Turned(*own, 24)) for name, own in shares.items()}
    asked = Promises(0.01)
    told = tell_undecided(points, built, slow, asked, Goal(None, None, 0.01))
    assert told.startswith("too few calibration samples to promise it of 'some', 2 ms: 0.8 %")
    assert told.endswith("by 24 samples that are held out")
    assert not tell_undecided(points, built, points[1], asked, Goal(None, None, 0.01))
    assert not tell_undecided(points, built, slow, asked, Goal(None, None, 0.01, None))
    assert not tell_undecided(
        points, built, slow, Promises(0.01, None, 1e-6), Goal(None, None, 0.01)
    )

    scores = {"slow": lose(1000, 0), "some": lose(1000, 8), "fast": lose(1000, 50)}
    built = {name: Built(Answered(own.forms.session)) for name, own in scores.items()}
    goal = make_goal(1000, 0.01)
    assert not tell_undecided(points, built, slow, asked, goal), "what was not tried is not asked"
    goal.measure(built["some"])
    told = tell_undecided(points, built, slow, asked, goal)
    assert re.fullmatch("'some', 2 ms, is undecided: .*too few samples, about [0-9]+ more .*", told)
