"""Sparse kernels against the equation, and the packed form against a reading of it in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import _native
from edgekit.targets.errors import EdgekitError

SEED = 20260101

_KERNELS = {kernel.name: kernel for kernel in _native.sparse_gemm_kernels()}
_RUNNABLE = [kernel for kernel in _KERNELS.values() if kernel.built and kernel.supported]


def _unpack(kernel: _native.KernelInfo, packed: bytes, n: int, taps: int, k: int) -> np.ndarray:
    """Returns the weights ``[n, taps, k]`` of packed bytes, as docs/plan-format.md says."""
    panels = -(-n // kernel.nr)
    starts = np.frombuffer(packed, "<u4", panels * taps + 1)
    steps = np.frombuffer(packed, "<u2", starts[-1], offset=starts.nbytes)
    offset = -(-(starts.nbytes + steps.nbytes) // 64) * 64
    units = kernel.kr // kernel.unit
    blocks = np.frombuffer(packed, np.int8, offset=offset).reshape(
        -1, units, kernel.nr, kernel.unit
    )
    assert len(blocks) == starts[-1]
    blocks = blocks.swapaxes(1, 2).reshape(-1, kernel.nr, kernel.kr)
    w = np.zeros((panels * kernel.nr, taps, -(-k // kernel.kr) * kernel.kr), np.int8)
    for place in range(panels * taps):
        panel, tap = divmod(place, taps)
        for block in range(starts[place], starts[place + 1]):
            first = steps[block] * kernel.kr
            rows = slice(panel * kernel.nr, (panel + 1) * kernel.nr)
            w[rows, tap, first : first + kernel.kr] = blocks[block]
    assert not w[n:].any()
    assert not w[:, :, k:].any()
    return w[:n, :, :k]


def _mask(generator: np.random.Generator, kernel: _native.KernelInfo, w: np.ndarray) -> np.ndarray:
    """Returns w ``[n, taps, k]`` with a random share of its blocks zeroed, some panels empty or full."""
    n, taps, k = w.shape
    panels, steps = -(-n // kernel.nr), -(-k // kernel.kr)
    share = generator.uniform(size=(panels, 1, 1)).round(1)
    keep = generator.uniform(size=(panels, taps, steps)) < share
    wide = keep.repeat(kernel.nr, axis=0).repeat(kernel.kr, axis=2)[:n, :, :k]
    return np.where(wide, w, 0).astype(np.int8)


@settings(deadline=None, max_examples=40)
@given(
    kernel=st.sampled_from(list(_KERNELS.values())),
    n=st.integers(1, 70),
    taps=st.integers(1, 4),
    k=st.integers(0, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_packed_blocks_are_the_weights(kernel, n, taps, k, seed):
    generator = np.random.default_rng(seed)
    w = _mask(generator, kernel, generator.integers(-127, 128, (n, taps, k), dtype=np.int8))
    packed = _native.pack_sparse_gemm(kernel.name, w)
    np.testing.assert_array_equal(_unpack(kernel, packed, n, taps, k), w)
    starts = np.frombuffer(packed, "<u4", -(-n // kernel.nr) * taps + 1)
    all_blocks = -(-n // kernel.nr) * taps * -(-k // kernel.kr)
    density = starts[-1] / all_blocks if all_blocks else 0
    assert _native.block_density(kernel.name, w) == density


@settings(deadline=None, max_examples=60)
@given(
    kernel=st.sampled_from(_RUNNABLE),
    m=st.integers(1, 40),
    n=st.integers(1, 140),
    k=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_sparse_kernel_gives_the_bytes_of_the_dense_one(kernel, m, n, k, seed):
    generator = np.random.default_rng(seed)
    a = generator.integers(-128, 128, (m, k), dtype=np.int8)
    w = _mask(generator, kernel, generator.integers(-64, 65, (n, 1, k), dtype=np.int8))
    bias = generator.integers(-10000, 10000, n, dtype=np.int32)
    scale = generator.uniform(1e-4, 1e-2, n).astype(np.float32)
    weights = np.ascontiguousarray(w[:, 0])
    fits = _native.pair_sums_fit_16(w)
    dense = _native.select_gemm(kernel.isa, m, n, k, 1, fits).name
    results = [
        _native.gemm(name, a, weights, bias, scale, 3, -100, 127) for name in (kernel.name, dense)
    ]
    np.testing.assert_array_equal(*results, strict=True)
    sums = a.astype(np.int32) @ weights.T.astype(np.int32) + bias
    expected = np.clip(3 + np.rint(sums.astype(np.float32) * scale), -100, 127)
    np.testing.assert_array_equal(results[0], expected)


def test_too_many_steps_are_refused():
    kernel = _native.select_sparse_gemm("generic", False)
    w = np.zeros((1, 1, 65536 * kernel.kr + 1), np.int8)
    with pytest.raises(EdgekitError, match="too large for a sparse kernel"):
        _native.pack_sparse_gemm(kernel.name, w)
    with pytest.raises(EdgekitError, match="unknown kernel"):
        _native.pack_sparse_gemm("gemm_s8_s8c_s8_1x16c4_generic", w)
