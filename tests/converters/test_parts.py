"""Concatenations and slices that move nothing give the bytes of those that do."""

import numpy as np
import pytest

from edgekit import _native
from edgekit.converters.lower.fuse_resizes import fuse_resizes
from edgekit.converters.memory import plan_memory
from edgekit.converters.parts import choose_parts
from edgekit.converters.program import (
    Binary,
    BinaryKind,
    Concat,
    Conv,
    Dequantize,
    DType,
    Lookup,
    Program,
    Quantize,
    Resize,
    Slice,
    Tensor,
    Window,
)
from edgekit.converters.reference import run_program
from edgekit.converters.write_plan import write_plan

ISAS = [info.name for info in _native.isas() if info.built and info.supported]


class _Network:
    """A program under construction, all of whose tensors have one grid unless told otherwise."""

    def __init__(self, shape, seed=0):
        self.random = np.random.default_rng(seed)
        n, h, w, c = shape
        self.tensors = {"x": Tensor("x", (n, c, h, w), DType.FLOAT32)}
        self.ops = []
        self.first = self._emit(Quantize, shape, input="x", name="quantize", channels_last=True)

    def _emit(self, kind, shape, *, scale=0.05, channels_last=True, name=None, **fields):
        output = f"t{len(self.tensors)}"
        self.tensors[output] = Tensor(
            output, tuple(shape), scale=np.float32(scale), channels_last=channels_last
        )
        self.ops.append(kind(name=name or f"op{len(self.ops)}", output=output, **fields))
        return output

    def conv(self, source, count, kernel=1, **fields):
        n, h, w, c = self.tensors[source].shape
        pad = kernel // 2
        return self._emit(
            Conv,
            (n, h, w, count),
            input=source,
            weights=self.random.integers(-127, 128, (count, kernel, kernel, c), dtype=np.int8),
            bias=self.random.integers(-500, 500, count, dtype=np.int32),
            multiplier=np.full(count, 0.002, np.float32),
            window=Window(kernel, kernel, pad_top=pad, pad_left=pad, pad_bottom=pad, pad_right=pad),
            **fields,
        )

    def lookup(self, source):
        table = self.random.permutation(256).astype(np.uint8).view(np.int8)
        return self._emit(Lookup, self.tensors[source].shape, input=source, table=table)

    def add(self, a, b):
        return self.join(BinaryKind.ADD, a, b)

    def join(self, kind, a, b):
        return self._emit(Binary, self.tensors[a].shape, binary=kind, a=a, b=b)

    def grow(self, source, size):
        n, h, w, c = self.tensors[source].shape
        return self._emit(
            Resize,
            (n, *size, c),
            input=source,
            rows=tuple(i * h // size[0] for i in range(size[0])),
            columns=tuple(i * w // size[1] for i in range(size[1])),
        )

    def concat(self, *parts, axis=3, **fields):
        shape = list(self.tensors[parts[0]].shape)
        shape[axis] = sum(self.tensors[name].shape[axis] for name in parts)
        return self._emit(Concat, shape, parts=parts, axis=axis, **fields)

    def slice(self, source, begin, shape):
        return self._emit(Slice, shape, input=source, begin=tuple(begin), step=(1, 1, 1, 1))

    def finish(self, *outputs):
        names = []
        for index, source in enumerate(outputs):
            name = f"y{index}"
            shape = self.tensors[source].source_shape
            self.tensors[name] = Tensor(name, shape, DType.FLOAT32)
            self.ops.append(Dequantize(name=f"dequantize{index}", input=source, output=name))
            names.append(name)
        return Program(self.tensors, ("x",), tuple(names), tuple(self.ops))


def _inception():
    """Branches of 1x1, 3x3 and a table joined along channels, twice over, and a residual."""
    net = _Network((2, 7, 6, 12))
    a, b = net.conv(net.first, 20), net.conv(net.first, 9, 3)
    c = net.lookup(net.first)
    joined = net.concat(a, b, c)
    wide = net.conv(joined, 30, 3)
    narrow = net.conv(joined, 5)
    again = net.concat(joined, wide, narrow)
    return net.finish(net.conv(again, 10)), {a, b, joined, wide, narrow}


def _rows():
    """Images joined by rows, which lie one behind another."""
    net = _Network((1, 6, 5, 8))
    a, b = net.lookup(net.first), net.conv(net.first, 8, 3)
    joined = net.concat(a, b, a, axis=1)
    top = net.slice(joined, (0, 3, 0, 0), (1, 9, 5, 8))
    return net.finish(net.lookup(top)), {b, top}


def _split():
    """Channels cut in two: one half convolved, the other added."""
    net = _Network((1, 5, 5, 24))
    wide = net.conv(net.first, 32)
    left = net.slice(wide, (0, 0, 0, 0), (1, 5, 5, 12))
    right = net.slice(wide, (0, 0, 0, 12), (1, 5, 5, 20))
    deep = net.conv(left, 20, 3)
    return net.finish(net.add(deep, right), net.conv(right, 4)), {left}


def _other_grid():
    """A part on another grid, a part given twice, and a part that is an output: they are copied."""
    net = _Network((1, 4, 4, 10))
    a, b = net.conv(net.first, 8), net.conv(net.first, 8)
    net.tensors[b] = Tensor(b, (1, 4, 4, 8), scale=np.float32(0.1), channels_last=True)
    return net.finish(net.conv(net.concat(a, b, a), 4), net.lookup(b)), set()


def _inputs(program):
    values = np.random.default_rng(1).uniform(-6, 6, program.tensors["x"].shape)
    return {"x": values.astype(np.float32)}


NETWORKS = {"inception": _inception, "rows": _rows, "split": _split, "other grid": _other_grid}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_expected_tensors_are_parts(network):
    program, expected = NETWORKS[network]()
    assert set(choose_parts(program)) == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_parts_lie_in_their_parents(network):
    program, _ = NETWORKS[network]()
    layout = plan_memory(program)
    for name, part in layout.parts.items():
        tensor, parent = program.tensors[name], program.tensors[part.parent]
        assert part.parent not in layout.parts
        assert layout.offsets[name] == layout.offsets[part.parent] + part.offset
        runs, run = tensor.size // tensor.shape[-1], tensor.shape[-1]
        assert part.offset + (runs - 1) * (part.pixel_stride or run) + run <= parent.nbytes


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("network", NETWORKS)
def test_bytes_are_those_of_the_reference(network, isa, threads, tmp_path):
    program, _ = NETWORKS[network]()
    path = tmp_path / "net.plan"
    write_plan(program, path, isa=isa, target="t", source_digest="00")
    session = _native.Session(_native.Plan.open(path), threads)
    inputs = _inputs(program)
    expected = run_program(program, inputs)
    for _ in range(2):
        for name, values in session.run(inputs).items():
            np.testing.assert_array_equal(values, expected[name], strict=True)
    for _, name, values in session.trace(inputs):
        np.testing.assert_array_equal(values, expected[name], strict=True)


def test_joining_in_place_needs_less_memory():
    program, _ = _inception()
    layout = plan_memory(program)
    joined = sum(
        program.tensors[op.output].nbytes + sum(program.tensors[p].nbytes for p in op.parts)
        for op in program.ops
        if isinstance(op, Concat)
    )
    assert layout.lower_bound < joined
    assert layout.arena_size <= 1.1 * layout.lower_bound + 128


def _pyramid():
    """Images of four sizes, brought to the largest by nearest resizes, one of them by no whole factor; then joined by
    every elementwise operator, on either side, and one with itself."""
    net = _Network((1, 12, 8, 10))
    parts = [net.conv(net.first, 24, 3)]
    for step, size in ((2, (6, 4)), (4, (3, 2)), (1, (9, 8))):
        small = net.slice(net.first, (0, 0, 0, 0), (1, *size, 10))
        parts.append(net.grow(net.conv(small, 24 // step), (12, 8)))
    wide = net.conv(net.concat(*parts), 8)
    sums = [
        net.join(kind, *((wide, grown) if swap else (grown, wide)))
        for kind in BinaryKind
        for swap in (False, True)
        for grown in [net.grow(net.conv(net.slice(wide, (0, 0, 0, 0), (1, 4, 8, 8)), 8), (12, 8))]
    ]
    twice = net.grow(net.slice(wide, (0, 0, 0, 0), (1, 6, 4, 8)), (12, 8))
    return net.finish(*sums, net.add(twice, twice))


def test_joins_repeat_pixels_instead_of_resizes():
    program = _pyramid()
    fused = fuse_resizes(program)
    # By no whole factor, what is subtracted from, and what is added to itself.
    left = [op.rows[:3] for op in fused.ops if isinstance(op, Resize)]
    assert left == [(0, 0, 1), (0, 0, 0), (0, 0, 1)]
    assert fuse_resizes(fused).ops == fused.ops
    joined = next(op for op in fused.ops if isinstance(op, Concat))
    assert joined.parts[0] in choose_parts(fused)
    assert not set(joined.parts[1:3]) & set(choose_parts(fused))
    inputs = _inputs(fused)
    expected, found = run_program(program, inputs), run_program(fused, inputs)
    assert set(found) < set(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], strict=True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_repeated_pixels_are_those_of_the_reference(isa, threads, tmp_path):
    program = fuse_resizes(_pyramid())
    write_plan(program, tmp_path / "net.plan", isa=isa, target="t", source_digest="00")
    session = _native.Session(_native.Plan.open(tmp_path / "net.plan"), threads)
    inputs = _inputs(program)
    expected = run_program(program, inputs)
    for _, name, values in session.trace(inputs):
        np.testing.assert_array_equal(values, expected[name], strict=True)
    for name, values in session.run(inputs).items():
        np.testing.assert_array_equal(values, expected[name], strict=True)
