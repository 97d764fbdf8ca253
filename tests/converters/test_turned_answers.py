"""Tells which share of answers may turn from few samples as many others show it."""

import numpy as np
import pytest

from edgekit.converters.turned_answers import Turned, share_turned

CLASSES = 40


def draw(count, noise, seed):
    """Returns rows of logits and the same with normal noise."""
    random = np.random.default_rng(seed)
    wanted = random.normal(0, 1, (count, 1, CLASSES))
    given = wanted + random.normal(0, noise, wanted.shape)
    return [{"y": x.astype(np.float32)} for x in wanted], [
        {"y": x.astype(np.float32)} for x in given
    ]


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03, 0.1])
def test_few_samples_tell_what_many_show(noise):
    wanted, given = draw(20000, noise, 1)
    many = np.mean([a["y"].argmax() != b["y"].argmax() for a, b in zip(wanted, given, strict=True)])
    told = [share_turned(*draw(24, noise, seed)) for seed in range(20)]
    assert np.mean([each.share for each in told]) == pytest.approx(many, rel=0.2)
    spread = np.std([each.share for each in told])
    assert np.mean([each.error for each in told]) == pytest.approx(spread, rel=0.5)
    # Counting answers that turned would miss them all most of the time.
    assert spread < 0.6 * np.sqrt(many / 24)
    above = np.mean([each.at_most(0.95) >= many for each in told])
    assert above >= 0.85


def test_answers_that_stay_are_told():
    wanted, _ = draw(9, 0, 2)
    assert share_turned(wanted, wanted) == Turned(0.0, 0.0, 9)
    assert Turned(0.0, 0.0, 9).at_most(0.95) == 0.0


def test_what_is_not_finite_turns():
    wanted, given = draw(4, 0, 3)
    given[1]["y"][0, 5] = np.nan
    assert share_turned(wanted, given).share == 1.0


def test_distributions_are_counted_as_they_are():
    wanted = [{"y": np.array([[0.75, 0.25]], np.float32)}] * 4
    given = [{"y": np.array([[0.5, 0.5]], np.float32)}] * 4
    assert share_turned(wanted, given) == Turned(0.25, 0.0, 4)


def test_features_are_no_answers():
    features = [{"y": np.ones((1, 3, 4, 5), np.float32)}]
    assert share_turned(features, features) is None
    assert share_turned([], []) is None
