"""No two tensors that live at once overlap, whatever the network, and little memory is wasted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.lower import lower
from edgekit.converters.memory import ALIGNMENT, READABLE_BEHIND, Layout, plan_memory
from edgekit.converters.program import (
    Binary,
    BinaryKind,
    Concat,
    Conv,
    Lookup,
    Op,
    Program,
    Requantize,
    Reshape,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    Window,
)

MAY_OVERWRITE = (Binary, Lookup, Requantize, Softmax)


def _check(program: Program) -> float:
    """Checks a layout by playing the program, byte by byte; returns the arena's size over the bound."""
    layout = plan_memory(program)
    outside = {*program.inputs, *program.outputs}
    assert set(layout.offsets) == {name for name in program.tensors if name not in outside}
    whole = {name: offset for name, offset in layout.offsets.items() if name not in layout.parts}
    assert all(offset % ALIGNMENT == 0 for offset in whole.values())
    assert layout.arena_size % ALIGNMENT == 0
    last = {op.output: step for step, op in enumerate(program.ops)}
    for step, op in enumerate(program.ops):
        last.update(dict.fromkeys(op.inputs, step))
    arena = np.full(layout.arena_size, -1)
    # What each byte of a tensor is, whoever moved it there: no two operators write the same.
    written: dict[str, np.ndarray] = {}
    fresh = 0
    for step, op in enumerate(program.ops):
        for name in op.inputs:
            if name not in outside:
                place = _place(program, layout, name)
                assert (arena[place] == written[name].reshape(-1)).all(), f"{name} was overwritten"
        if op.output in outside:
            continue
        _check_overlap(program, op, step, layout, last)
        tensor = program.tensors[op.output]
        itemsize = tensor.dtype.numpy.itemsize
        shape = (*tensor.shape, itemsize)
        moved = isinstance(op, (Concat, Reshape, Slice)) and not outside & {*op.inputs}
        if moved and isinstance(op, Concat):
            value = np.concatenate([written[name] for name in op.inputs], op.axis)
        elif moved and isinstance(op, Slice):
            index = tuple(
                begin + np.arange(size) * stride
                for begin, size, stride in zip(op.begin, tensor.shape, op.step, strict=True)
            )
            value = written[op.input][np.ix_(*index)]
        elif moved and isinstance(op, Reshape):
            value = written[op.input].reshape(shape)
        else:
            value = np.arange(fresh, fresh + tensor.nbytes).reshape(shape)
            fresh += tensor.nbytes
        written[op.output] = value
        place = _place(program, layout, op.output)
        if not isinstance(op, Concat) and not _stays(op, layout):
            arena[place] = value.reshape(-1)
        elif isinstance(op, Concat):
            rest = ~np.isin(place, _joined(program, layout, op))
            arena[place[rest]] = value.reshape(-1)[rest]
    alive = max(_alive(program, layout.offsets, step, last) for step in range(len(program.ops)))
    if not layout.parts:
        assert layout.lower_bound == alive
    return (layout.arena_size - READABLE_BEHIND) / layout.lower_bound


def _place(program: Program, layout: Layout, name: str) -> np.ndarray:
    """Returns where each byte of a tensor lies."""
    tensor = program.tensors[name]
    part = layout.parts.get(name)
    run = tensor.shape[-1] * tensor.dtype.numpy.itemsize if part and part.pixel_stride else 0
    if part is None or not run:
        place = layout.offsets[name] + np.arange(tensor.nbytes)
    else:
        starts = layout.offsets[name] + part.pixel_stride * np.arange(tensor.nbytes // run)
        place = (starts[:, None] + np.arange(run)).reshape(-1)
    assert place[-1] + 1 + READABLE_BEHIND <= layout.arena_size
    return place


def _stays(op: Op, layout: Layout) -> bool:
    """Returns whether ``op`` moves nothing: its output is its input's bytes where they are."""
    if isinstance(op, Reshape):
        return op.input in layout.offsets
    return (
        isinstance(op, Slice)
        and op.output in layout.parts
        and _root(layout, op.output) == _root(layout, op.input)
    )


def _root(layout: Layout, name: str) -> str:
    return layout.parts[name].parent if name in layout.parts else name


def _joined(program: Program, layout: Layout, op: Op) -> np.ndarray:
    """Returns the bytes of a concatenation's output that its parts wrote already."""
    inside = [
        _place(program, layout, name)
        for name in op.inputs
        if isinstance(op, Concat)
        and name in layout.parts
        and layout.parts[name].parent == _root(layout, op.output)
    ]
    return np.concatenate([np.zeros(0, np.int64), *inside])


def _check_overlap(program: Program, op: Op, step: int, layout: Layout, last) -> None:
    """An output lies exactly on an input that dies there, or overlaps none, if it does not lie inside another."""
    if isinstance(op, (Concat, Slice)) and layout.parts:
        return
    output = _place(program, layout, op.output)
    for name in op.inputs:
        if name not in layout.offsets:
            continue
        source = _place(program, layout, name)
        apart = output[-1] < source[0] or source[-1] < output[0]
        if not apart and np.isin(output, source).any():
            assert (output == source).all()
            if isinstance(op, Reshape):
                continue
            assert isinstance(op, MAY_OVERWRITE)
            assert program.tensors[name].shape == program.tensors[op.output].shape
            assert last[name] == step


def _alive(program: Program, offsets, step: int, last) -> int:
    """Returns the bytes that are in use while ``step`` runs, each counted once."""
    written = {op.output: i for i, op in enumerate(program.ops)}
    used = set()
    for name in offsets:
        if written[name] <= step <= last[name]:
            used.add((offsets[name], program.tensors[name].nbytes))
    return sum(size for _, size in used)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_layouts_of_networks(data, image_net):
    net = image_net(data)
    _check(lower(net.build(10), net.batch, fuse=data.draw(st.booleans())))


@st.composite
def programs(draw):
    """Random graphs of every kind of sharing, with sizes that differ by orders of magnitude."""
    tensors = {"in": Tensor("in", (draw(st.integers(1, 3000)),))}
    ops: list[Op] = [
        Transpose(name="first", input="in", output="t0", permutation=(0,)),
    ]
    tensors["t0"] = Tensor("t0", tensors["in"].shape)
    names = ["t0"]
    for i in range(1, draw(st.integers(2, 40))):
        name, source = f"t{i}", draw(st.sampled_from(names[-6:]))
        kind = draw(st.sampled_from(["new", "new", "table", "reshape", "binary"]))
        shape = tensors[source].shape
        if kind == "new":
            shape = (draw(st.sampled_from([1, 63, 64, 65, 1000, 4096, 30000])),)
            ops.append(Transpose(name=name, input=source, output=name, permutation=(0,)))
        elif kind == "table":
            ops.append(Lookup(name=name, input=source, output=name, table=np.zeros(256, np.int8)))
        elif kind == "reshape":
            shape = (1, *shape) if len(shape) < 4 else (tensors[source].size,)
            ops.append(Reshape(name=name, input=source, output=name))
        else:
            twins = [other for other in names if tensors[other].shape == shape]
            other = draw(st.sampled_from(twins))
            ops.append(Binary(name=name, binary=BinaryKind.ADD, a=source, b=other, output=name))
        tensors[name] = Tensor(name, shape)
        names.append(name)
    return Program(tensors, ("in",), (), tuple(ops))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(programs())
def test_layouts_of_random_graphs(program):
    _check(program)


def test_a_chain_of_layers_needs_no_more_than_its_widest_pair():
    """The shapes of an inverted residual network, whose optimum is known: the bound."""
    tensors = {"in": Tensor("in", (1, 112, 112, 3), channels_last=True)}
    ops: list[Op] = []
    source = "in"
    for i, (size, channels) in enumerate(
        [(112, 32), (112, 16), (112, 96), (56, 96), (56, 24), (56, 144), (56, 144), (56, 24)]
    ):
        name = f"t{i}"
        tensors[name] = Tensor(name, (1, size, size, channels), channels_last=True)
        ops.append(
            Conv(
                name=name,
                input=source,
                output=name,
                weights=np.zeros((channels, 1, 1, tensors[source].shape[-1]), np.int8),
                bias=np.zeros(channels, np.int32),
                multiplier=np.ones(channels, np.float32),
                window=Window(),
            )
        )
        source = name
    program = Program(tensors, ("in",), (), tuple(ops))
    assert _check(program) == 1.0
    assert plan_memory(program).lower_bound == 112 * 112 * 96 + 56 * 56 * 96


@pytest.mark.slow
def test_random_graphs_waste_little():
    """The mean over 200 random graphs stays within a tenth of the bound, rounding to 64 included."""
    programs = []
    rng = np.random.default_rng(11)
    for _ in range(200):
        tensors = {"in": Tensor("in", (64,))}
        ops: list[Op] = []
        names = ["in"]
        for i in range(30):
            name = f"t{i}"
            source = names[max(0, len(names) - 1 - int(rng.geometric(0.5)) + 1)]
            tensors[name] = Tensor(name, (int(2 ** rng.uniform(8, 20)),))
            ops.append(Transpose(name=name, input=source, output=name, permutation=(0,)))
            names.append(name)
        programs.append(Program(tensors, ("in",), (), tuple(ops)))
    # Byte by byte a few: a megabyte at a time that takes long.
    for program in programs[:10]:
        _check(program)
    layouts = [plan_memory(program) for program in programs]
    ratios = [(layout.arena_size - READABLE_BEHIND) / layout.lower_bound for layout in layouts]
    assert np.mean(ratios) < 1.02
    assert max(ratios) < 1.1
