"""Tells which share of answers is another one: single places, sequences, and outputs that are no answers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.changed_answers import (
    count_edits,
    reads_sequences,
    share_changed,
    share_leaning,
    share_unsettled,
    without_distributions,
)
from edgekit.converters.sequence_chances import log_chance

words = st.lists(st.integers(0, 3), max_size=9)
# A text that is read: blank, and the answers 1 to 3.
CLASSES = 4


def spell(places, sure=0.9):
    """Returns distributions [1, n, CLASSES] that are largest at ``places``."""
    rest = (1 - sure) / (CLASSES - 1)
    array = np.full((1, len(places), CLASSES), rest)
    array[0, np.arange(len(places)), places] = sure
    return {"y": array.astype(np.float32)}


def draw_rows(seed, rows, classes):
    random = np.random.default_rng(seed)
    raised = np.exp(random.normal(0, 2, (rows, classes)))
    return raised / raised.sum(axis=-1, keepdims=True)


def edits_by_recursion(a, b):
    if not a or not b:
        return len(a) + len(b)
    change = edits_by_recursion(a[1:], b[1:]) + (a[0] != b[0])
    return min(change, edits_by_recursion(a[1:], b) + 1, edits_by_recursion(a, b[1:]) + 1)


@given(st.lists(st.integers(0, 2), max_size=5), st.lists(st.integers(0, 2), max_size=5))
@settings(deadline=None, max_examples=60)
def test_edits_are_the_fewest(a, b):
    assert count_edits(np.array(a, np.int64), np.array(b, np.int64)) == edits_by_recursion(a, b)


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 7))
@settings(deadline=None, max_examples=30)
def test_of_single_places_it_is_the_total_variation(seed, rows, classes):
    p, q = draw_rows(seed, rows, classes), draw_rows(seed + 1, rows, classes)
    share = share_changed([{"y": p}], [{"y": q}])
    assert share == pytest.approx(np.mean(np.maximum(p - q, 0).sum(axis=-1)))
    assert 0 <= share <= 1
    assert share_changed([{"y": p}], [{"y": p}]) == 0
    # What is certain changes as often as the largest element moves.
    sure, other = np.eye(classes)[p.argmax(-1)], np.eye(classes)[q.argmax(-1)]
    moved = np.mean(p.argmax(-1) != q.argmax(-1))
    assert share_changed([{"y": sure}], [{"y": other}]) == pytest.approx(moved)


@pytest.mark.parametrize(
    ("given_places", "share"),
    [
        # One place later.
        ([0, 0, 1, 0, 0, 2, 2, 0, 3, 0], 0.0),
        # An answer is lost, changed, found in what separates.
        ([0, 1, 0, 0, 0, 0, 0, 0, 3, 0], 1 / 3),
        ([0, 1, 0, 0, 3, 0, 0, 0, 3, 0], 1 / 3),
        ([0, 1, 0, 0, 2, 0, 1, 0, 3, 0], 1 / 3),
        # None is left, and more are found than there were.
        ([0] * 10, 1.0),
        ([1, 2, 1, 2, 1, 2, 1, 2, 1, 2], 1.0),
    ],
)
def test_a_sequence_is_what_stands_between_its_separators(given_places, share):
    wanted = [spell([0, 1, 0, 0, 2, 2, 0, 0, 3, 0])]
    assert share_changed(wanted, [spell(given_places)]) == pytest.approx(share)


def test_answers_that_are_not_finite_are_others():
    wanted = [spell([0, 1, 0])]
    assert share_changed(wanted, [{"y": np.full((1, 3, CLASSES), np.nan)}]) == 1


def test_of_several_outputs_it_is_the_one_with_most():
    p, q = draw_rows(0, 3, 4), draw_rows(1, 3, 4)
    alone = share_changed([{"b": p}], [{"b": q}])
    assert share_changed([{"a": p, "b": p}], [{"a": p, "b": q}]) == alone


@pytest.mark.parametrize(
    "array",
    [
        np.array([[[-1.0, 2.0], [3.0, 4.0]]]),
        np.array([[0.2, 0.9]]),
        np.array([[3.0, -1.0]]),
        np.array([1, 2]),
        np.array(["name"]),
        np.zeros((0, 4)),
    ],
    ids=["features", "chances", "logits", "whole numbers", "names", "nothing"],
)
def test_other_outputs_are_no_answers(array):
    assert share_changed([{"y": array}], [{"y": array}]) is None


def test_decibels_are_asked_of_what_is_no_distribution():
    answers = [
        {"chances": spell([0, 1])["y"], "state": np.array([[-3.0, 1.0]]), "place": np.array([1])}
    ]
    assert [list(each) for each in without_distributions(answers)] == [["state"]]
    assert without_distributions([]) == []
    assert share_changed([], []) is None


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 7))
@settings(deadline=None, max_examples=30)
def test_logits_lean_as_their_distributions_change(seed, rows, classes):
    p, q = draw_rows(seed, rows, classes), draw_rows(seed + 1, rows, classes)
    # Some are below 0: no distributions.
    a, b = np.log(p) - 0.5, np.log(q) + 3.0
    assert share_leaning([{"y": a}], [{"y": b}]) == pytest.approx(
        share_changed([{"y": p}], [{"y": q}])
    )
    assert share_leaning([{"y": p}], [{"y": q}]) == share_changed([{"y": p}], [{"y": q}])
    assert share_leaning([{"y": a}], [{"y": a + 2.0}]) == pytest.approx(0)


def test_large_logits_may_be_larger_and_lean_nowhere():
    a = np.array([[30.0, -20.0, 0.0], [1.0, 0.5, -9.0]])
    far = a + np.array([[9.0, -9.0, 0.0], [0.0, 0.0, -9.0]])
    near = a + np.array([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0]])
    assert np.square(far - a).sum() > np.square(near - a).sum()
    assert share_leaning([{"y": a}], [{"y": far}]) < share_leaning([{"y": a}], [{"y": near}])


def test_only_answers_lean():
    features = {"y": np.full((1, 2, 3, 4), -0.5)}
    assert share_leaning([features], [features]) is None
    logits = {"z": np.array([[-1.0, 2.0]])}
    assert share_leaning([{**features, **logits}], [{**features, **logits}]) is None
    text = spell([0, 1, 2])
    assert share_leaning([text], [text]) is None
    assert share_leaning([logits], [{"z": np.array([[np.inf, 0.0]])}]) == 1.0
    assert share_leaning([], []) is None


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 7))
@settings(deadline=None, max_examples=30)
def test_answers_are_unsettled_by_what_moves_and_never_by_more_than_all(seed, rows, classes):
    p, q = ({"y": draw_rows(seed + n, rows, classes)} for n in (0, 1))
    assert share_unsettled([p], [p]) == 0
    assert 0 < share_unsettled([p], [q]) <= 0.25
    assert share_unsettled([p], [q]) == pytest.approx(share_unsettled([q], [p]))


def test_small_chances_that_move_unsettle_answers_that_stay():
    sure = {"y": np.array([[1 - 2e-6, 1e-6, 1e-6]])}
    near = {"y": np.array([[1 - 3e-6, 2e-6, 1e-6]])}
    far = {"y": np.array([[1 - 2e-4, 1e-4, 1e-4]])}
    assert share_changed([sure], [far]) < 0.001
    assert share_unsettled([sure], [near]) < share_unsettled([sure], [far])
    assert share_unsettled([sure], [far]) > 10 * share_changed([sure], [far])


@pytest.mark.parametrize("sequence", [[], [1], [1, 2], [1, 1], [2, 1, 2], [1, 2, 2]])
def test_chance_of_a_reading_is_that_of_all_paths_that_read_so(sequence):
    chances = draw_rows(3, 5, 3)
    total = 0.0
    for path in itertools.product(range(3), repeat=5):
        begins = [at for at in range(5) if at == 0 or path[at] != path[at - 1]]
        if [path[at] for at in begins if path[at] != 0] == sequence:
            total += np.prod([chances[at, answer] for at, answer in enumerate(path)])
    found = log_chance(np.asarray(chances, np.float64), np.array(sequence, np.int64), 0)
    assert np.exp(found) == pytest.approx(total, rel=1e-5)


def test_sequences_are_unsettled_by_how_likely_they_are_to_be_read():
    wanted = spell([0, 1, 0, 0, 2, 2, 0, 0])
    near, far = ({"y": (1 - share) * wanted["y"] + share / CLASSES} for share in (0.05, 0.2))
    assert share_changed([wanted], [far]) == 0
    assert 0 < share_unsettled([wanted], [near]) < share_unsettled([wanted], [far]) < 1
    # One place later is as likely.
    later = spell([0, 0, 1, 0, 0, 2, 2, 0])
    assert share_unsettled([wanted], [later]) < share_unsettled([wanted], [near]) / 10
    lost = spell([0, 1, 0, 0, 0, 0, 0, 0])
    assert share_unsettled([wanted], [lost]) > share_unsettled([wanted], [far])
    assert share_unsettled([wanted], [{"y": np.full((1, 8, CLASSES), np.nan)}]) == 1


def test_sequences_are_told_from_single_places():
    text, row = spell([0, 1, 0]), {"p": np.array([[0.5, 0.5]])}
    assert reads_sequences([text])
    assert reads_sequences([{**text, "state": np.array([[-3.0, 1.0]])}])
    assert not reads_sequences([{**text, **row}])
    assert not reads_sequences([row])
    assert not reads_sequences([])


def test_only_distributions_are_unsettled():
    logits = {"z": np.array([[-1.0, 2.0]])}
    assert share_unsettled([logits], [logits]) is None
    assert share_unsettled([], []) is None
    p = {"y": np.array([[0.5, 0.5]])}
    assert share_unsettled([p], [{"y": np.array([[np.nan, 0.5]])}]) == 1.0
    assert share_unsettled([p], [{"y": np.array([[0.0, 1.0]])}]) <= 0.25
