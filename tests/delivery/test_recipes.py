import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit._native import cut_chunks, follow_recipe, make_recipe, make_recipe_of_chunks
from edgekit.targets.errors import EdgekitError, PlanError

PIECES = st.lists(st.binary(max_size=3000), max_size=6)


@settings(deadline=None)
@given(PIECES, PIECES, st.randoms(use_true_random=False))
def test_a_recipe_makes_any_file_of_any_other(old, new, random):
    base = b"".join(old)
    pieces = old + new
    random.shuffle(pieces)
    result = b"".join(pieces[: len(old) + 1])
    recipe = make_recipe(base, result)
    assert follow_recipe(recipe, base, len(result)) == result
    recipe = make_recipe_of_chunks(
        len(base), hashlib.sha256(base).digest(), cut_chunks(base), result
    )
    assert follow_recipe(recipe, base, len(result)) == result


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_are_a_recipe_or_refused(recipe, base):
    with pytest.raises(PlanError, match="the recipe"):
        follow_recipe(recipe, base, 50)


def test_chunks_that_cannot_be_are_refused():
    digest = bytes(16)
    with pytest.raises(EdgekitError, match="outside of its file"):
        make_recipe_of_chunks(10, bytes(32), [(5, 6, digest)], b"")
    with pytest.raises(EdgekitError, match="16 bytes"):
        make_recipe_of_chunks(10, bytes(32), [(5, 5, b"short")], b"")
    with pytest.raises(EdgekitError, match="32 bytes"):
        make_recipe_of_chunks(10, b"short", [], b"")
