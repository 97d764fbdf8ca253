"""Blocks that exceed the cache run in strips: less memory, the same bytes."""

import numpy as np
import pytest

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.memory import plan_memory
from edgekit.converters.program import Conv, DepthwiseConv
from edgekit.converters.reference import run_program
from edgekit.converters.strips import Strips, choose_strips, strip_bytes
from edgekit.converters.write_plan import write_plan


def _block(graph_builder, *, size=24, fork=False, stride=2):
    """Expand, depthwise, project, twice; with ``fork`` the first wide tensor has a second reader."""
    builder = graph_builder(0)
    x = builder.input(["N", 3, size, size])
    narrow = builder.conv(x, 3, 8, pads=[1, 1, 1, 1])
    wide = builder.conv(narrow, 8, 48, (1, 1), low=0.0)
    deep = builder.conv(
        wide, 48, 48, group=48, pads=[0, 0, 1, 1], strides=[stride, stride], low=0.0
    )
    project = builder.conv(deep, 48, 8, (1, 1))
    wide2 = builder.conv(project, 8, 48, (1, 1), low=0.0)
    deep2 = builder.conv(wide2, 48, 48, group=48, pads=[1, 1, 1, 1], low=0.0)
    project2 = builder.conv(deep2, 48, 8, (1, 1))
    total = builder.node("Add", [project2, project])
    if fork:
        return builder.build(builder.node("GlobalAveragePool", [wide]), total)
    return builder.build(total)


def test_blocks_beyond_the_cache_are_chosen(graph_builder):
    program = lower(_block(graph_builder))
    kinds = [type(op) for op in program.ops[2:8]]
    assert kinds == [Conv, DepthwiseConv, Conv] * 2
    first = 24 * 24 * 48 + 12 * 12 * 48
    second = 2 * 12 * 12 * 48
    assert choose_strips(program, None) == ()
    assert choose_strips(program, first) == ()
    assert [chain.first_op for chain in choose_strips(program, first - 1)] == [2]
    both = choose_strips(program, second - 1)
    assert [(chain.first_op, chain.op_count) for chain in both] == [(2, 3), (5, 3)]
    assert all(chain.rows == 1 for chain in both)


def test_a_tensor_with_another_reader_stays_whole(graph_builder):
    program = lower(_block(graph_builder, fork=True))
    chain = choose_strips(program, 1)[0]
    assert not {op.input for op in program.ops if op.kind == "GlobalMean"} & set(
        chain.inner(program)
    )


def test_a_depthwise_that_leaves_rows_out_takes_no_part(graph_builder):
    # Of 24 rows and one of padding, windows of 3 in steps of 4 leave a row out between two of them.
    program = lower(_block(graph_builder, stride=4))
    (chain, *_) = choose_strips(program, 1)
    assert program.ops[chain.first_op].kind == "DepthwiseConv"


def test_a_strip_fits_its_share_of_the_cache(graph_builder):
    program = lower(_block(graph_builder, size=96))
    for cache in (1 << 13, 1 << 14, 1 << 15, 1 << 16):
        for chain in choose_strips(program, cache):
            ops = program.ops[chain.first_op : chain.first_op + chain.op_count]
            assert chain.rows == 1 or strip_bytes(program, ops, chain.rows) <= cache // 4


def test_inner_tensors_leave_the_arena(graph_builder):
    program = lower(_block(graph_builder))
    whole, strips = plan_memory(program), plan_memory(program, choose_strips(program, 1))
    assert strips.arena_size < whole.arena_size / 2
    assert strips.arena_size <= 1.1 * strips.lower_bound + 64
    inner = {name for chain in choose_strips(program, 1) for name in chain.inner(program)}
    assert set(whole.offsets) - set(strips.offsets) == inner


def test_a_chain_overwrites_nothing_that_it_reads(graph_builder):
    program = lower(_block(graph_builder))
    layout = plan_memory(program, [Strips(2, 3, 1), Strips(5, 3, 1)])
    for first in (2, 5):
        reads, write = program.ops[first].input, program.ops[first + 2].output
        begin, end = (layout.offsets[reads], layout.offsets[reads] + program.tensors[reads].nbytes)
        start, stop = (layout.offsets[write], layout.offsets[write] + program.tensors[write].nbytes)
        assert stop <= begin or end <= start


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "isa", [info.name for info in _native.isas() if info.built and info.supported]
)
def test_strips_give_the_reference_and_its_digests(isa, threads, graph_builder, tmp_path):
    program = lower(_block(graph_builder))
    inputs = {
        name: np.random.default_rng(5)
        .uniform(-2, 2, program.tensors[name].shape)
        .astype(np.float32)
        for name in program.inputs
    }
    expected = run_program(program, inputs)
    digests = []
    for name, cache in (("whole", None), ("strips", 1)):
        path = tmp_path / f"{name}.plan"
        write_plan(program, path, isa=isa, target="t", source_digest="00", cache_bytes=cache)
        session = _native.Session(_native.Plan.open(path), threads)
        for output, values in session.run(inputs).items():
            np.testing.assert_array_equal(values, expected[output], strict=True)
        for _, tensor, values in session.trace(inputs):
            np.testing.assert_array_equal(values, expected[tensor], strict=True)
        digests.append(session.digests(inputs))
    assert digests[0] == digests[1]
