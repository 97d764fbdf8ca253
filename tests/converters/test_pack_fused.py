"""Constants of plans with which layers are requantized in one multiplication and addition."""

from dataclasses import replace

import numpy as np
import pytest

from edgekit import _native
from edgekit._schema import plan_generated as schema
from edgekit.converters.lower import lower
from edgekit.converters.program import Conv, FullyConnected, Tensor
from edgekit.converters.reference import requantize
from edgekit.converters.write_plan import HEADER_SIZE, write_plan
from edgekit.converters.write_plan.fused import pack_fused

ISA = "x86_avx512vnni"
# The largest magnitude of a code as kernels hold it, and what is added to a code.
STORAGES = {"x86_avx512vnni": (255, 128), "arm_neondot": (128, 0), "arm_neon": (128, 0)}
DIGEST = "ab" * 32
_KERNELS = (*_native.gemm_kernels(), *_native.sparse_gemm_kernels())


def _layers(graph_builder, tmp_path, isa=ISA):
    """Returns the program of a network, each layer's table in a plan, and the plan's constants."""
    builder = graph_builder(0)
    x = builder.input(["N", 3, 8, 8])
    a = builder.conv(x, 3, 4, low=0.0)
    b = builder.conv(a, 4, 6, (1, 1), group=2)
    c = builder.conv(b, 6, 4, (1, 1))
    d = builder.conv(c, 4, 4, (1, 1))
    e = builder.node("Add", [d, c])
    f = builder.gemm(builder.node("Flatten", [e], like=e), 4 * 6 * 6, 3)
    g = builder.conv(e, 4, 4, (6, 6), dilations=[1, 1])
    h = builder.conv(builder.conv(e, 4, 32, (1, 1)), 32, 4)
    program = lower(builder.build(f, g, h), 1)
    path = tmp_path / "net.plan"
    write_plan(program, path, isa=isa, target="board", source_digest=DIGEST)
    data = path.read_bytes()
    plan = schema.PlanT.InitFromPackedBuf(data, HEADER_SIZE)
    constants = data[int.from_bytes(data[40:48], "little") :]
    tables = {op.name.decode(): op.params for op in plan.ops}
    layers = [op for op in program.ops if isinstance(op, Conv | FullyConnected)]
    return program, [(op, tables[op.name]) for op in layers], constants


def _read(blob, constants, dtype):
    return np.frombuffer(constants, dtype, blob.size // 4, blob.offset)


def _fused_codes(start, slope, shift, products):
    """Returns the low 16 bits of F * slope + shift, rounded once, from whole numbers alone."""
    exponent = 24 - int(np.frexp(slope)[1])
    whole = start.astype(np.int64) + products - 0x4B000000 + (1 << 23)
    sums = whole * int(float(slope) * 2.0**exponent) + (int(shift) << exponent)
    floor, rest = sums >> exponent, sums & ((1 << exponent) - 1)
    half = 1 << (exponent - 1)
    rounded = floor + ((rest > half) | ((rest == half) & (floor % 2 == 1)))
    assert np.all((rounded >= 1 << 23) & (rounded < 1 << 24))
    return (rounded & 0xFFFF).astype(np.uint16).view(np.int16).astype(np.int64)


@pytest.mark.parametrize("isa", ["x86_avx512vnni", "arm_neondot"])
def test_constants_give_the_codes_of_the_definition(graph_builder, tmp_path, isa):
    program, layers, constants = _layers(graph_builder, tmp_path, isa)
    largest, offset = STORAGES[isa]
    found = [(op, table) for op, table in layers if table.fused is not None]
    assert found
    for op, table in found:
        start = _read(table.fused.start, constants, "<i4").reshape(op.groups, -1)
        slope = _read(table.fused.slope, constants, "<f4").reshape(op.groups, -1)
        shift = _read(table.fused.shift, constants, "<f4").reshape(op.groups, -1)
        bias = _read(table.bias, constants, "<i4").reshape(op.groups, -1)
        assert start.shape == bias.shape
        n = len(op.weights) // op.groups
        sums = np.abs(op.weights.astype(np.int64)).reshape(len(op.weights), -1).sum(axis=1)
        y = program.tensors[op.output]
        for c, most in enumerate(sums):
            at = c // n, c % n
            products = np.arange(-largest * most, largest * most + 1)
            expected = requantize(bias[at] + products, op.multiplier[c], y.zero_point, op.lo, op.hi)
            codes = _fused_codes(start[at], slope[at], shift[at], products) - offset
            assert np.array_equal(np.clip(codes, op.lo, op.hi), expected)


def test_sums_deep_layers_and_other_kernels_have_none(graph_builder, tmp_path):
    for isa, most in {"x86_avx512vnni": 256, "arm_neondot": 160, "arm_neon": 64}.items():
        _, layers, _ = _layers(graph_builder, tmp_path, isa)
        assert any(op.weights[0].size > most for op, _ in layers)
        for op, table in layers:
            if op.weights[0].size > most or getattr(op, "residual", None):
                assert table.fused is None
    assert all(kernel.most_fused_depth <= _native.MOST_FUSED_DEPTH for kernel in _KERNELS)
    _, others, _ = _layers(graph_builder, tmp_path, "x86_avx2")
    assert all(table.fused is None for _, table in others)


def test_blocks_that_a_sparse_kernel_leaves_out_do_not_count():
    random = np.random.default_rng(0)
    weights = random.integers(-60, 61, (32, 1024)).astype(np.int8)
    weights[:, 200:] = 0
    op = FullyConnected(
        name="fc",
        input="x",
        output="y",
        weights=weights,
        bias=np.zeros(32, np.int32),
        multiplier=np.full(32, 2.0**-9, np.float32),
    )
    output = Tensor("y", (1, 32))
    dense, sparse = (
        next(kernel for kernel in kernels if kernel.isa == ISA)
        for kernels in (_native.gemm_kernels(), _native.sparse_gemm_kernels())
    )
    assert pack_fused(op, dense, output, op.bias, lambda array: array) is None
    found = pack_fused(op, sparse, output, op.bias, lambda array: array)
    assert found is not None
    products = np.arange(-50_000, 50_001)
    codes = _fused_codes(found.start[0], found.slope[0], found.shift[0], products) - 128
    expected = requantize(products, op.multiplier[0], output.zero_point, op.lo, op.hi)
    assert np.array_equal(np.clip(codes, op.lo, op.hi), expected)


@pytest.mark.parametrize(
    "kernel", [kernel for kernel in _KERNELS if kernel.most_fused_depth], ids=lambda row: row.name
)
def test_every_kernel_that_takes_them_has_constants_up_to_its_depth(kernel):
    random = np.random.default_rng(0)
    most, (_, offset) = kernel.most_fused_depth, STORAGES[kernel.isa]
    op = FullyConnected(
        name="fc",
        input="x",
        output="y",
        weights=random.integers(1, 61, (20, most + 1)).astype(np.int8),
        bias=random.integers(-900, 900, 20).astype(np.int32),
        multiplier=np.full(20, 2.0**-9, np.float32),
    )
    output = Tensor("y", (1, 20))
    assert pack_fused(op, kernel, output, op.bias, lambda array: array) is None
    op.weights[:, -1] = 0
    narrow = replace(op, weights=np.ascontiguousarray(op.weights[:, :-1]))
    found = pack_fused(narrow, kernel, output, op.bias, lambda array: array)
    products = np.arange(-50_000, 50_001)
    for c in range(20):
        codes = _fused_codes(found.start[c], found.slope[c], found.shift[c], products) - offset
        expected = requantize(
            op.bias[c] + products, op.multiplier[c], output.zero_point, op.lo, op.hi
        )
        assert np.array_equal(np.clip(codes, op.lo, op.hi), expected)


def test_slopes_that_are_multipliers_lie_there_once(graph_builder, tmp_path):
    _, layers, constants = _layers(graph_builder, tmp_path)
    for _, table in layers:
        if table.fused is not None:
            slope = _read(table.fused.slope, constants, "<f4")
            multiplier = _read(table.multiplier, constants, "<f4")
            same = np.array_equal(slope, multiplier)
            assert (table.fused.slope.offset == table.multiplier.offset) == same
