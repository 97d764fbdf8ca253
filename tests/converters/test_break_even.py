"""The table of break-even densities: its rows, the nearest of them, and what they say of a layer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.prune.break_even import (
    BreakEven,
    Shape,
    find_best,
    find_break_even,
    read_table,
    serves,
)
from edgekit.converters.prune.pattern import Blocks, Unstructured, parse_pattern
from edgekit.targets.errors import EdgekitError

ROW = {
    "isa": '"x86_avx2"',
    "block": '"4x16"',
    "m": "196",
    "k": "512",
    "n": "512",
    "density": "0.8",
    "floor": "0.05",
    "source": '"measured: a CPU"',
}


def write(path, *rows):
    lines = []
    for row in rows:
        lines += ["[[row]]", *(f"{key} = {value}" for key, value in row.items())]
    path.write_text("\n".join(lines))
    return path


def row(block="4x16", shape=(196, 512, 512), density=0.8, floor=0.05, isa="x86_avx2"):
    return BreakEven(isa, parse_pattern(block), Shape(*shape), density, floor, "measured: a CPU")


def test_rows_are_read(tmp_path):
    assert read_table(write(tmp_path / "a.toml", ROW)) == (row(),)
    assert read_table(write(tmp_path / "none.toml")) == ()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("isa", "3", "isa is 3"),
        ("block", '"4"', "no pattern"),
        ("m", "0", "at least 1"),
        ("k", "1.5", "k is 1.5"),
        ("n", "true", "n is True"),
        ("density", "0", "above 0"),
        ("density", "1.1", "at most 1"),
        ("floor", "1.0", "below 1"),
        ("source", '"guessed"', "source begins with"),
        ("more", "1", "has the keys"),
    ],
)
def test_a_damaged_row_is_named(key, value, said, tmp_path):
    with pytest.raises(EdgekitError, match=f"row 2: .*{said}"):
        read_table(write(tmp_path / "a.toml", ROW, {**ROW, key: value}))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "a.toml"
    for text in ("[[row", "rows = 3", "row = 3", "[other]\na = 1"):
        path.write_text(text)
        read_table.cache_clear()
        with pytest.raises(EdgekitError, match=r"a\.toml: "):
            read_table(path)


def test_every_row_of_this_version_is_of_an_instruction_set_and_says_where_it_is_from():
    known = {isa.name for isa in _native.isas()}
    for found in read_table():
        assert found.isa in known
        assert found.source.startswith(("measured: ", "instructions: "))
        assert found.speedup(found.density) == pytest.approx(1)


def test_the_nearest_shape_decides_and_what_is_not_there_never_pays():
    rows = [row(shape=(49, 1152, 192), density=0.6), row(shape=(3136, 64, 64), density=0.9)]

    def find(isa, block, *shape):
        return find_break_even(isa, parse_pattern(block), Shape(*shape), rows)

    assert find("x86_avx2", "4x16", 49, 960, 160).density == 0.6
    assert find("x86_avx2", "4x16", 12544, 32, 16).density == 0.9
    assert find("x86_avx2", "4x32", 49, 960, 160) is None
    assert find("x86_amx", "4x16", 49, 960, 160) is None


@given(st.floats(0.1, 1), st.floats(0, 0.9), st.floats(0.01, 1))
@settings(deadline=None)
def test_a_row_pays_exactly_where_it_is_faster(density, floor, at):
    found = row(density=density, floor=floor)
    if abs(at - density) > 1e-9:
        assert found.pays(at) == (found.speedup(at) > 1)


def test_a_kernel_serves_patterns_whose_blocks_hold_its_own_whole():
    yes = [("4x16", "4x32"), ("2x16", "4x32"), ("4x16", "4x16"), ("2:4x16", "2:4x32")]
    no = [("4x32", "4x16"), ("4x16", "2x16"), ("2:4", "4:8"), ("4x16", "2:4x16")]
    for block, pattern in (*yes, *no):
        assert serves(parse_pattern(block), parse_pattern(pattern)) == ((block, pattern) in yes)
    assert not serves(Blocks(16, 4), Unstructured())


def test_the_fastest_of_the_kernels_that_serve_a_pattern_is_found():
    rows = [row("4x16", density=0.7), row("4x32", density=0.9), row("4x8", density=0.5)]
    shape = Shape(196, 512, 512)
    assert find_best("x86_avx2", parse_pattern("4x32"), 0.5, shape, rows).block == Blocks(32, 4)
    assert find_best("x86_avx2", parse_pattern("4x16"), 0.5, shape, rows).block == Blocks(16, 4)
    assert find_best("x86_avx2", Unstructured(), 0.1, shape, rows) is None
