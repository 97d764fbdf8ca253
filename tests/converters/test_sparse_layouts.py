"""Sparse kernels in plans: when the writer takes one, and that the answers stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import _native
from edgekit.converters.layouts import Layout, choose_layout, list_layouts, split_taps
from edgekit.converters.program import (
    Conv,
    Dequantize,
    DType,
    Program,
    Quantize,
    Tensor,
    Window,
)
from edgekit.converters.prune.break_even import BreakEven, Shape, read_table
from edgekit.converters.prune.pattern import Blocks
from edgekit.converters.sparse_layouts import choose_sparse, find_sparse, measure_density
from edgekit.converters.write_plan import write_plan

SEED = 20260102
HERE = [info.name for info in _native.isas() if info.built and info.supported]


def _weights(count: int, taps: int, depth: int, density: float) -> np.ndarray:
    """Returns weights ``[count, taps, depth]`` of which blocks of 4 by 32 are zeros; pair sums fit 16 bits."""
    rng = np.random.default_rng(SEED)
    w = rng.integers(-64, 65, (count, taps, depth), dtype=np.int8)
    keep = rng.random((-(-count // 32), taps, -(-depth // 4))) < density
    wide = keep.repeat(32, axis=0)[:count].repeat(4, axis=2)[:, :, :depth]
    return np.where(wide, w, 0).astype(np.int8)


def _layer(kernel: int, groups: int = 1, density: float = 0.3) -> tuple[Program, Conv]:
    rng = np.random.default_rng(SEED)
    pad = kernel // 2
    op = Conv(
        name="layer",
        input="codes",
        output="y",
        weights=_weights(70, kernel * kernel, 36 // groups, density).reshape(
            70, kernel, kernel, -1
        ),
        bias=rng.integers(-1000, 1000, 70).astype(np.int32),
        multiplier=np.full(70, 1e-3, np.float32),
        window=Window(kernel, kernel, pad_top=pad, pad_left=pad, pad_bottom=pad, pad_right=pad),
        groups=groups,
    )
    tensors = {
        "codes": Tensor("codes", (1, 9, 11, 36), DType.CODE, scale=np.float32(0.1), zero_point=3),
        "y": Tensor("y", (1, 9, 11, 70), DType.CODE, scale=np.float32(0.1), zero_point=-4),
    }
    for name in ("codes", "y"):
        real = f"{name}:real"
        tensors[real] = Tensor(real, tensors[name].shape, DType.FLOAT32)
    ops = (
        Quantize(name="in", input="codes:real", output="codes"),
        op,
        Dequantize(name="out", input="y", output="y:real"),
    )
    return Program(tensors, ("codes:real",), ("y:real",), ops), op


def _row(isa: str, kernel: _native.KernelInfo, density: float) -> BreakEven:
    block = Blocks(kernel.nr, kernel.kr)
    return BreakEven(isa, block, Shape(99, 36, 70), density, 0.1, "measured: here")


@pytest.mark.parametrize("isa", HERE)
def test_a_sparse_kernel_is_taken_below_break_even_alone(isa):
    _, op = _layer(1)
    weights = split_taps(op)
    kernel = find_sparse(weights, 1, isa)
    assert kernel is not None
    density = measure_density(kernel, weights)
    assert 0.1 < density < 0.6
    assert choose_sparse(99, weights, 1, isa, [_row(isa, kernel, density + 0.1)]) is not None
    assert choose_sparse(99, weights, 1, isa, [_row(isa, kernel, density + 0.001)]) is None
    assert choose_sparse(99, weights, 1, isa, [_row(isa, kernel, density)]) is None
    assert choose_sparse(99, weights, 1, isa, []) is None
    assert choose_sparse(99, weights, 2, isa, [_row(isa, kernel, 1.0)]) is None
    full = np.ones_like(weights)
    assert choose_sparse(99, full, 1, isa, [_row(isa, kernel, 1.0)]) is None


@pytest.mark.parametrize("density", [0.0, 0.3])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("isa", HERE)
def test_plans_with_sparse_kernels_give_the_same_bytes(isa, kernel, density, tmp_path):
    program, op = _layer(kernel, density=density)
    layouts = list_layouts(program, op, isa)
    sparse = {info.name for info in _native.sparse_gemm_kernels()}
    dense = next(layout for layout in layouts if layout.kernel not in sparse)
    taken = [layout for layout in layouts if layout.kernel in sparse]
    if not taken:
        pytest.skip(f"{isa} has no sparse kernel of its own")
    x = np.random.default_rng(SEED).uniform(-13, 13, (1, 9, 11, 36)).astype(np.float32)
    expected = _run(program, isa, dense, x, tmp_path / "dense.plan")
    for layout in taken:
        path = tmp_path / "sparse.plan"
        np.testing.assert_array_equal(_run(program, isa, layout, x, path), expected)


def _run(program: Program, isa: str, layout: Layout, x: np.ndarray, path: Path) -> np.ndarray:
    write_plan(program, path, isa=isa, target="host", source_digest="0" * 64, layouts={"y": layout})
    session = _native.Session(_native.Plan.open(path))
    assert session.plan.ops[1].kernel == layout.kernel
    return session.run({"codes:real": x})["y:real"]


@pytest.mark.parametrize("isa", sorted({row.isa for row in read_table()}))
def test_the_table_speaks_of_blocks_that_kernels_have(isa):
    blocks = {row.block for row in read_table() if row.isa == isa}
    found = [_native.select_sparse_gemm(isa, fits) for fits in (False, True)]
    assert blocks == {Blocks(kernel.nr, kernel.kr) for kernel in found}


def test_grouped_layers_and_weights_without_zeros_stay_dense():
    sparse = {info.name for info in _native.sparse_gemm_kernels()}
    for program, op in (_layer(1, groups=2), _layer(1, density=1.0)):
        assert not {layout.kernel for layout in list_layouts(program, op, HERE[-1])} & sparse
        assert choose_layout(program, op, HERE[-1]).kernel not in sparse
