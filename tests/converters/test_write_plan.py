"""The plan file: its header, its constants, and that the same program gives the same bytes."""

import struct

import numpy as np
import pytest

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.lower import lower
from edgekit.converters.memory import plan_memory
from edgekit.converters.program import Conv, DepthwiseConv, FullyConnected
from edgekit.converters.quantization import WeightQuantization, set_quantization
from edgekit.converters.write_plan import FORMAT_VERSION, HEADER_SIZE, MAGIC, write_plan
from edgekit.targets.errors import ModelError, TargetError

ISAS = [info.name for info in _native.isas()]
DIGEST = "ab" * 32


def _network(graph_builder, seed=0):
    builder = graph_builder(seed)
    x = builder.input(["N", 3, 12, 12])
    a = builder.conv(x, 3, 10, low=0.0)
    b = builder.conv(a, 10, 10, group=10, pads=[1, 1, 1, 1], low=0.0)
    c = builder.conv(b, 10, 10, (1, 1))
    d = builder.node("Add", [c, a])
    d = builder.conv(d, 10, 40, group=2)
    e = builder.node("Sigmoid", [d], 0, 255 / 256)
    f = builder.gemm(builder.node("Flatten", [e], like=e), 40 * 8 * 8, 10)
    return builder.build(builder.node("Softmax", [f], 0, 255 / 256, axis=-1))


def _parts(data: bytes):
    version, checksum = struct.unpack_from("<II", data, 8)
    size, graph, graph_size, constants, constants_size, zero = struct.unpack_from("<6Q", data, 16)
    assert data[:8] == MAGIC
    assert version == FORMAT_VERSION
    assert checksum == _native.crc32c(data[16:])
    assert (size, graph, zero) == (len(data), HEADER_SIZE, 0)
    assert constants % 64 == 0
    assert constants + constants_size == size
    assert set(data[graph + graph_size : constants]) <= {0}
    section = data[graph : graph + graph_size]
    assert section[4:8] == b"EKPL"
    return schema.PlanT.InitFromPackedBuf(section, 0), data[constants:]


def _bytes(blob, constants, dtype):
    assert blob.offset % 64 == 0
    return np.frombuffer(constants[blob.offset : blob.offset + blob.size], dtype)


@pytest.mark.parametrize("isa", ISAS)
def test_a_plan_holds_the_program(isa, graph_builder, tmp_path):
    program = lower(_network(graph_builder), 2)
    path = tmp_path / "net.plan"
    summary = write_plan(
        program, path, isa=isa, target="board", source_digest=DIGEST, metadata={"b": "2", "a": "1"}
    )
    plan, constants = _parts(path.read_bytes())
    layout = plan_memory(program)
    shifted = {info.name: info.storage for info in _native.isas()}[isa] == "u8"
    assert (plan.isa, plan.target, plan.sourceDigest) == (isa.encode(), b"board", DIGEST.encode())
    assert plan.storage == (schema.Storage.U8 if shifted else schema.Storage.S8)
    assert [(m.key, m.value) for m in plan.metadata] == [(b"a", b"1"), (b"b", b"2")]
    assert (plan.arenaSize, plan.arenaLowerBound) == (layout.arena_size, layout.lower_bound)
    assert summary.file_size == path.stat().st_size
    assert summary.constants_size == len(constants)
    assert [op.name for op in summary.ops] == [op.name for op in program.ops]
    names = [tensor.name.decode() for tensor in plan.tensors]
    assert names == list(program.tensors)
    for packed in plan.tensors:
        tensor = program.tensors[packed.name.decode()]
        assert tuple(packed.shape) == tensor.shape
        assert np.float32(packed.scale) == tensor.scale
        assert packed.zeroPoint == tensor.zero_point
        assert bool(packed.channelsLast) == tensor.channels_last
        if packed.place == schema.Place.Arena:
            assert packed.offset == layout.offsets[tensor.name]
    for packed, op, planned in zip(plan.ops, program.ops, summary.ops, strict=True):
        assert packed.name.decode() == op.name == planned.name
        assert packed.paramsType == getattr(schema.OpParams, op.kind)
        assert names[packed.params.output] == op.output
        if isinstance(op, Conv | DepthwiseConv | FullyConnected):
            assert packed.params.kernel.decode() == planned.kernel
            offset = program.tensors[op.input].zero_point + (128 if shifted else 0)
            sums = op.weights.reshape(len(op.weights), -1).sum(1, dtype=np.int64)
            groups = getattr(op, "groups", 1)
            stored = _bytes(packed.params.bias, constants, np.int32)
            _check_padded(stored, groups, op.bias - offset * sums)
            multiplier = _bytes(packed.params.multiplier, constants, np.float32)
            _check_padded(multiplier, groups, op.multiplier)


def _check_padded(stored, groups, expected):
    """Checks that each group is followed by zeros up to a multiple of 4, the smallest unit of a kernel."""
    stored, expected = stored.reshape(groups, -1), expected.reshape(groups, -1)
    np.testing.assert_array_equal(stored[:, : expected.shape[1]], expected)
    assert not stored[:, expected.shape[1] :].any()
    assert stored.shape[1] % 4 == 0


def test_kernels_are_the_chosen_ones_and_weights_are_packed_for_them(graph_builder, tmp_path):
    program = lower(_network(graph_builder))
    path = tmp_path / "net.plan"
    write_plan(program, path, isa="generic", target="board", source_digest=DIGEST)
    plan, constants = _parts(path.read_bytes())
    ops = {
        packed.name.decode(): (packed.params, op)
        for packed, op in zip(plan.ops, program.ops, strict=True)
    }
    params, op = ops["conv_0"]
    assert not params.patches
    weights = _bytes(params.weights, constants, np.int8).tobytes()
    assert weights == _native.pack_shallow(params.kernel.decode(), op.weights)
    params, op = ops["conv_1"]
    weights = _bytes(params.weights, constants, np.int8).tobytes()
    assert weights == _native.pack_depthwise(params.kernel.decode(), op.weights)
    params, _ = ops["conv_2"]
    assert params.residual.tensor == list(program.tensors).index("conv_0_out")
    params, op = ops["conv_4"]
    assert (params.groups, params.patches) == (2, False)
    groups = [
        _native.pack_gemm(params.kernel.decode(), np.ascontiguousarray(half.reshape(20, 9, 5)))
        for half in (op.weights[:20], op.weights[20:])
    ]
    second = -(-len(groups[0]) // 64) * 64
    weights = _bytes(params.weights, constants, np.int8).tobytes()
    assert weights[: len(groups[0])] == groups[0]
    assert weights[second:] == groups[1]


def test_patches_of_a_convolution_are_gathered_where_its_channels_are_few(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.input(["N", 6, 8, 8])
    program = lower(builder.build(builder.conv(x, 6, 10)))
    path = tmp_path / "net.plan"
    write_plan(program, path, isa="generic", target="board", source_digest=DIGEST)
    plan, constants = _parts(path.read_bytes())
    (op,) = (op for op in program.ops if isinstance(op, Conv))
    (params,) = (packed.params for packed in plan.ops if packed.name.decode() == op.name)
    assert params.patches
    patch = np.ascontiguousarray(op.weights.reshape(10, 1, 54))
    weights = _bytes(params.weights, constants, np.int8).tobytes()
    assert weights == _native.pack_gemm(params.kernel.decode(), patch)


@pytest.mark.parametrize("isa", ISAS)
def test_the_same_program_gives_the_same_bytes(isa, graph_builder, tmp_path):
    files = []
    for name in ("a", "b"):
        path = tmp_path / name
        program = lower(_network(graph_builder))
        write_plan(program, path, isa=isa, target="board", source_digest=DIGEST)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_an_unknown_instruction_set_is_named(graph_builder, tmp_path):
    program = lower(_network(graph_builder))
    with pytest.raises(TargetError, match="'sparc' is unknown: edgekit has generic"):
        write_plan(program, tmp_path / "p", isa="sparc", target="board", source_digest=DIGEST)
    assert not (tmp_path / "p").exists()


def test_sums_that_a_session_could_not_check_are_refused(graph_builder, tmp_path):
    builder = graph_builder()
    x = builder.input([1, 70000])
    weight = builder.constant(np.zeros((1, 70000), np.float32))
    codes = np.ones((1, 70000), np.int8)
    set_quantization(weight, WeightQuantization(codes, np.array([1e-6], np.float32), 0))
    program = lower(builder.build(builder.node("Gemm", [x, weight], transB=1)))
    with pytest.raises(ModelError, match="node 'gemm_0': its 70000 products"):
        write_plan(program, tmp_path / "p", isa="generic", target="board", source_digest=DIGEST)
