"""Both parts of a network compute the bytes of the whole, wherever it is cut."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import KINDS, SHAPE, lower_network, random_network

from edgekit import _native
from edgekit.converters.program import DType
from edgekit.converters.reference import run_program
from edgekit.converters.split_program import find_crossing, is_closed, sent_name, split_program
from edgekit.converters.write_plan import write_plan
from edgekit.partition.cuts import list_heads, rate_cut
from edgekit.partition.wire import Wire
from edgekit.targets.errors import EdgekitError

ISAS = [info.name for info in _native.isas() if info.built and info.supported]
IMAGES = np.random.default_rng(3).normal(0, 1, (4, *SHAPE[1:])).astype(np.float32)
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8
)


def open_session(program, folder: Path, isa: str):
    path = folder / "part.plan"
    write_plan(program, path, isa=isa, target="host", source_digest="00")
    return _native.Session(_native.Plan.from_bytes(path.read_bytes()), threads=1)


def by_layer(session, inputs):
    return {(op, tensor): digest for op, tensor, digest in session.digests(inputs)}


@pytest.mark.slow
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, seed=st.integers(0, 99), choice=st.randoms(use_true_random=False))
def test_a_random_network_cut_anywhere_computes_its_bytes(steps, seed, choice):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = lower_network(random_network(steps, seed), folder / "m.onnx", IMAGES)
        inputs = {"x": IMAGES[:1]}
        first, second = choice.choice(ISAS), choice.choice(ISAS)
        session = open_session(program, folder, second)
        whole, layers = session.run(inputs), by_layer(session, inputs)
        search = list_heads(program, most_tensors=9)
        assert search.is_complete
        heads = [frozenset(), frozenset(range(len(program.ops))), *search.heads]
        for head in heads if len(heads) < 12 else choice.sample(heads, 12):
            assert is_closed(program, head)
            parts = split_program(program, head)
            front, back = (
                open_session(parts[0], folder, first),
                open_session(parts[1], folder, second),
            )
            sent = front.run(inputs)
            # The judge knows no storage: what crosses is int8 on every instruction set.
            judged = run_program(parts[0], inputs)
            for key, value in sent.items():
                np.testing.assert_array_equal(value, judged[key])
            answer = back.run(sent)
            for key, value in whole.items():
                np.testing.assert_array_equal(answer[key], value)
            both = {**by_layer(front, inputs), **by_layer(back, sent)}
            assert {key: both[key] for key in layers} == layers


def test_what_crosses_is_codes_on_one_grid(tmp_path):
    steps = [("conv", 0, 0), ("conv", 1, 0), ("add", 1, 2)]
    program = lower_network(random_network(steps, 1), tmp_path / "m.onnx", IMAGES)
    for size in range(2, len(program.ops) - 1):
        head = frozenset(range(size))
        first, second = split_program(program, head)
        crossing = find_crossing(program, head)
        assert first.outputs == second.inputs == tuple(map(sent_name, crossing))
        for name in crossing:
            out, taken = first.tensors[sent_name(name)], second.tensors[sent_name(name)]
            assert out == taken
            assert out.dtype is DType.CODE
            assert (out.scale, out.zero_point) == (
                program.tensors[name].scale,
                program.tensors[name].zero_point,
            )


def test_a_head_that_reads_the_tail_is_none(tmp_path):
    program = lower_network(
        random_network([("conv", 0, 0), ("conv", 1, 0)], 1), tmp_path / "m.onnx", IMAGES
    )
    with pytest.raises(ValueError, match="reads what the tail computes"):
        split_program(program, {len(program.ops) - 1})


@pytest.mark.parametrize(
    ("link", "latency", "bits", "ms"),
    [
        ("10Mbit/s", "5ms", 1e7, 5),
        ("200 kbit/s", "300us", 2e5, 0.3),
        ("1.5MB/s", "1s", 1.2e7, 1000),
        ("9600bit/s", "0ms", 9600, 0),
    ],
)
def test_links_are_read(link, latency, bits, ms):
    assert Wire.parse(link, latency) == Wire(bits, ms)


@pytest.mark.parametrize("link", ["", "10", "10Mbit", "fast", "-1Mbit/s", "0bit/s", "10 Mbps"])
def test_what_is_no_link_is_refused(link):
    with pytest.raises(EdgekitError, match="link"):
        Wire.parse(link)


def test_costs_are_what_the_page_says(tmp_path):
    steps = [("conv", 0, 0), ("conv", 1, 0), ("pool", 2, 0)]
    program = lower_network(random_network(steps, 1), tmp_path / "m.onnx", IMAGES)
    count = len(program.ops)
    first, second = [10.0] * count, [1.0] * count
    cut = rate_cut(program, frozenset(range(2)), first, second, Wire(8e6, 2))
    # 256 codes and 1024 bytes of answer, with two headers, at a byte a microsecond.
    assert (cut.sent_bytes, cut.answer_bytes) == (256, 1024)
    assert (cut.head_us, cut.tail_us) == (20, count - 2)
    assert cut.link_us == pytest.approx(256 + 1024 + 32 + 2000)
    alone = rate_cut(program, frozenset(range(count)), first, second, Wire(8e6, 2))
    assert (alone.link_us, alone.tail_us, alone.total_us) == (0, 0, 10 * count)


def test_too_many_cuts_leave_those_in_order(tmp_path):
    steps = [("conv", 0, 0)] * 8 + [("add", n, n + 1) for n in range(1, 8)]
    program = lower_network(random_network(steps, 1), tmp_path / "m.onnx", IMAGES)
    search = list_heads(program, most_tensors=20, most_sets=50)
    assert not search.is_complete
    assert [len(head) for head in search.heads] == list(range(1, len(program.ops)))
