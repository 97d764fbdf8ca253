import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import PlanError
from edgekit._native import cut_chunks, follow_recipe
from edgekit.delivery.recipe import make_file_recipe


def tell(content: bytes) -> str:
    """Returns what edgekit-board tells of a file."""
    rows = [f"{len(content)} {hashlib.sha256(content).hexdigest()}"]
    rows += [f"{size} {digest.hex()}" for _, size, digest in cut_chunks(content)]
    return "\n".join(rows) + "\n"


def test_the_old_file_is_used_where_it_is_the_one_on_the_device(tmp_path):
    base = bytes(range(256)) * 400
    trained = bytes(min(byte + 1, 255) for byte in base)
    (tmp_path / "new").write_bytes(trained)
    (tmp_path / "old").write_bytes(base)
    by_chunks = make_file_recipe(tell(base), tmp_path / "new")
    by_old = make_file_recipe(tell(base), tmp_path / "new", tmp_path / "old")
    for recipe in (by_chunks, by_old):
        assert follow_recipe(recipe, base, len(trained)) == trained
    assert len(by_old) < len(by_chunks) / 4
    (tmp_path / "old").write_bytes(base[:-1] + b"x")
    assert make_file_recipe(tell(base), tmp_path / "new", tmp_path / "old") == by_chunks
    assert make_file_recipe(tell(base), tmp_path / "new", tmp_path / "no such file") == by_chunks


@settings(deadline=None)
@given(st.text())
def test_what_is_no_list_of_chunks_is_refused(text):
    with pytest.raises(PlanError, match="a device told"):
        make_file_recipe(text, Path(__file__))


@pytest.mark.parametrize(
    "text",
    [
        "5 " + "00" * 32,
        "5 " + "00" * 31 + "\n5 " + "00" * 16,
        "5 " + "00" * 32 + "\n4 " + "00" * 16,
        "5 " + "00" * 32 + "\n5 " + "00" * 15,
        "5 " + "00" * 32 + "\n-5 " + "00" * 16 + "\n10 " + "00" * 16,
    ],
)
def test_chunks_that_are_no_file_s_are_refused(text):
    with pytest.raises(PlanError, match="chunks that are no file's"):
        make_file_recipe(text, Path(__file__))
