"""Which candidates are closest to float: by answers that change, by how far logits lean, by noise."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.agreement import Proportion
from edgekit.choosing.closest import Candidate, Reference, compare, find_closest


def pretend(answers):
    """Returns forms that give these answers to the samples 0, 1 and so on."""
    return SimpleNamespace(session=SimpleNamespace(run=lambda sample: answers[sample]))


def name_distributions(*shares):
    return [{"y": np.array([[share, 1 - share]])} for share in shares]


@pytest.mark.parametrize(("held", "changed"), [((), 0.1), ((1, 3), 0.15), ((0, 2), 0.1)])
def test_samples_that_took_no_part_count_where_more_of_their_answers_change(held, changed):
    wanted = name_distributions(0.9, 0.9, 0.9, 0.9)
    given = name_distributions(0.8, 0.7, 0.9, 0.8)
    found = compare(pretend(given), Reference([0, 1, 2, 3], wanted, held))
    assert found.changed == pytest.approx(changed)
    assert found.distance == pytest.approx(changed**2)


def test_sequences_count_as_they_are():
    places = np.full((1, 4, 3), 0.05)
    places[0, np.arange(4), [0, 1, 0, 2]] = 0.9
    other = places.copy()
    other[0, 3] = [0.9, 0.05, 0.05]
    outputs, given = [{"y": places}] * 2, [{"y": places}, {"y": other}]
    found = compare(pretend(given), Reference([0, 1], outputs, (1,)))
    assert found.changed == pytest.approx(1 / 4)


def test_of_logits_those_are_closer_that_lean_less():
    wanted = [{"y": np.array([[20.0, -9.0, 1.0]])}, {"y": np.array([[0.3, 0.1, -9.0]])}]
    loud = [{"y": np.array([[25.0, -14.0, 1.0]])}, wanted[1]]
    quiet = [wanted[0], {"y": np.array([[0.1, 0.3, -9.0]])}]
    reference = Reference([0, 1], wanted)
    large, small = (compare(pretend(given), reference) for given in (loud, quiet))
    assert large.changed is None
    assert large.noise > small.noise
    assert large.distance < small.distance


def candidate(noise, leaning=None, changed=None):
    """Forms that are not there, compared with float."""
    plain = noise if changed is None else 0.0
    apart = Proportion(1, 1)
    return Candidate(None, noise, noise, noise, apart, changed, changed, plain, plain, leaning)


def test_of_logits_those_that_lean_least_are_closest_where_samples_tell_them_apart():
    near, far = candidate(0.002, leaning=0.0072), candidate(0.001, leaning=0.0112)
    assert find_closest([far, near]) is near
    percentile, squares = candidate(0.0048, leaning=0.0404), candidate(0.0047, leaning=0.0410)
    assert find_closest([percentile, squares, candidate(0.002, leaning=0.05)]) is squares
    percentile, squares = candidate(0.00597, leaning=0.0475), candidate(0.00598, leaning=0.0459)
    assert find_closest([percentile, squares]) is squares


def test_of_features_decibels_and_of_distributions_answers_tell_which_are_closest():
    loud, quiet = candidate(0.02), candidate(0.01)
    assert find_closest([loud, quiet]) is quiet
    more, fewer = candidate(0.01, changed=0.010), candidate(0.02, changed=0.0095)
    assert find_closest([more, fewer]) is fewer
    equal = candidate(0.01, changed=0.0095)
    assert find_closest([fewer, equal]) is equal
