"""Native sessions against the judge: every tensor of random networks, equal to the byte, on each instruction set."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.converters.lower import lower
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan

RUNNABLE = [info.name for info in _native.isas() if info.built and info.supported]


def _check(program, inputs, isa, path, threads):
    write_plan(program, path, isa=isa, target="host", source_digest="0" * 64)
    expected = run_program(program, inputs)
    session = _native.Session(_native.Plan.open(path), threads)
    trace = session.trace(inputs)
    assert [name for name, _, _ in trace] == [op.name for op in program.ops]
    for _, tensor, values in trace:
        np.testing.assert_array_equal(values, expected[tensor], err_msg=f"{tensor} on {isa}")
        assert values.dtype == expected[tensor].dtype
    for name, tensor, digest in session.digests(inputs):
        data = np.ascontiguousarray(expected[tensor]).tobytes()
        assert digest == hashlib.sha256(data).hexdigest(), name
    outputs = session.run(inputs)
    assert list(outputs) == list(program.outputs)
    for name, values in outputs.items():
        np.testing.assert_array_equal(values, expected[name])


def test_what_this_machine_runs_is_tested():
    assert "generic" in RUNNABLE
    assert _native.best_isa() in RUNNABLE


@pytest.mark.slow
@pytest.mark.parametrize("isa", RUNNABLE)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_networks_give_the_bytes_of_the_judge(isa, data, image_net, tmp_path_factory):
    net = image_net(data)
    model = net.build(8)
    fuse = data.draw(st.booleans(), label="fuse_residual")
    program = lower(model, net.batch, fuse=fuse)
    path = tmp_path_factory.mktemp("plan") / "net.plan"
    _check(program, {"x": net.images()}, isa, path, data.draw(st.integers(1, 3), label="threads"))


@pytest.mark.parametrize("isa", RUNNABLE)
def test_inverted_residual_blocks(isa, graph_builder, tmp_path):
    """Wide enough that tiles, tails and work split over threads all occur."""
    builder = graph_builder(7)
    x = builder.input(["N", 3, 65, 47])
    y = builder.conv(x, 3, 32, strides=[2, 2], pads=[0, 0, 1, 1], low=0.0, high=6.0)
    for channels, kernel, stride in ((32, 3, 1), (32, 5, 2), (40, 5, 1), (40, 3, 1)):
        source = y
        width = 4 * channels + 9
        before = 32 if channels == 32 else 40
        y = builder.conv(y, before, width, (1, 1), low=0.0, high=6.0)
        pad = kernel // 2
        y = builder.conv(
            y,
            width,
            width,
            (kernel, kernel),
            group=width,
            strides=[stride, stride],
            pads=[pad] * 4,
            low=0.0,
            high=6.0,
        )
        after = 40 if stride == 2 or channels == 40 else 32
        y = builder.conv(y, width, after, (1, 1))
        if stride == 1:
            y = builder.node("Add", [y, source], -4, 4)
    y = builder.node("GlobalAveragePool", [y], -1, 1)
    y = builder.gemm(builder.node("Flatten", [y], like=y), 40, 1001)
    program = lower(builder.build(y), 2)
    images = builder.rng.normal(0, 1, (2, 3, 65, 47)).astype(np.float32)
    for threads in (1, 2):
        _check(program, {"x": images}, isa, tmp_path / "net.plan", threads)
