"""TFLite files whose weights are stored as blocks: the same answers in fewer bytes, and read back as they were."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert", reason="the TFLite form needs the extra tflite")

from interpret_tflite import run_bytes
from tflite_file import TfliteFile

from edgekit.converters.lower import lower
from edgekit.converters.program import Conv, FullyConnected, Program
from edgekit.converters.read_tflite.file import parse
from edgekit.converters.tflite import layers
from edgekit.converters.tflite.schema import schema
from edgekit.converters.tflite.sparse_weights import find_sparse_weights
from edgekit.converters.tflite.write import make_file
from edgekit.targets.errors import ModelError

SEED = 20260103


def _clear(weights: np.ndarray, rows: int, density: float, seed: int = SEED) -> np.ndarray:
    """Returns weights ``[n, ..., k]`` with blocks of ``rows`` by 4 zeroed, but for one at the least."""
    count, depth = weights.shape[0], weights.shape[-1]
    keep = np.random.default_rng(seed).random((count // rows, *weights.shape[1:-1], depth // 4))
    keep = keep < max(density, keep.min() + 1e-9)
    return np.where(keep.repeat(rows, axis=0).repeat(4, axis=-1), weights, 0).astype(np.int8)


def _program(graph_builder) -> Program:
    builder = graph_builder()
    x = builder.input([1, 16, 6, 6])
    a = builder.conv(x, 16, 64, (1, 1))
    b = builder.conv(a, 64, 32, (3, 3), pads=[1, 1, 1, 1])
    program = lower(
        builder.build(builder.gemm(builder.node("Flatten", [b], like=b), 32 * 36, 64)), 1
    )
    return dataclasses.replace(program, ops=tuple(_prune(op) for op in program.ops))


def _prune(op):
    if not isinstance(op, Conv | FullyConnected):
        return op
    return dataclasses.replace(op, weights=_clear(op.weights, 32, 0.3))


def test_files_with_blocks_are_smaller_and_answer_the_same(graph_builder, monkeypatch):
    program = _program(graph_builder)
    sparse = make_file(program)
    monkeypatch.setattr(layers, "find_sparse_weights", lambda weights: None)
    dense = make_file(program)
    assert "DENSIFY" not in _kinds(dense.data)
    assert _kinds(sparse.data).count("DENSIFY") == 2
    assert len(sparse.data) < len(dense.data) - 10_000
    x = np.random.default_rng(SEED).normal(size=(1, 6, 6, 16)).astype(np.float32)
    np.testing.assert_array_equal(*(run_bytes(file.data, [x]) for file in (sparse, dense)))
    tensors = [{t.name: t.data for t in parse(f.data, "x").tensors} for f in (sparse, dense)]
    for op in program.ops:
        if isinstance(op, Conv):
            np.testing.assert_array_equal(tensors[0][f"{op.name}:weight:blocks"], op.weights)
            np.testing.assert_array_equal(tensors[1][f"{op.name}:weight"], op.weights)


def _kinds(data: bytes) -> list[str]:
    return [operator.code for operator in parse(data, "x").operators]


@settings(deadline=None, max_examples=40)
@given(
    blocks=st.integers(1, 3),
    rows=st.sampled_from([8, 16, 32]),
    steps=st.sampled_from([1, 3, 40, 300]),
    middle=st.sampled_from([(), (1, 1), (3, 2)]),
    density=st.floats(0.15, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_stored_blocks_are_read_back(blocks, rows, steps, middle, density, seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 128, (blocks * rows, *middle, 4 * steps), dtype=np.int8)
    weights = _clear(weights, rows, density, seed)
    found = find_sparse_weights(weights)
    if density < 0.4 and weights.size > 4096:
        assert found is not None
    if found is not None:
        assert found.values.size < 0.8 * weights.size
        file = _file(weights, found.values, found.sparsity)
        (tensor,) = parse(file, "x").tensors[1:2]
        np.testing.assert_array_equal(tensor.data, weights)


def _file(weights: np.ndarray, values: np.ndarray, sparsity) -> bytes:
    file = TfliteFile()
    x = file.input("x", (1, 4))
    constant = file.constant("w", values)
    file.graph.tensors[constant].shape = list(weights.shape)
    file.graph.tensors[constant].sparsity = sparsity
    return file.pack(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: setattr(s, "traversalOrder", np.array([0, 1, 2, 2], np.int32)), "order"),
        (lambda s: setattr(s, "blockMap", np.array([0, 2], np.int32)), "order"),
        (lambda s: setattr(s, "blockMap", np.array([0, 0], np.int32)), "order"),
        (lambda s: setattr(s.dimMetadata[2], "denseSize", 0), "blocks do not fill"),
        (lambda s: setattr(s.dimMetadata[2], "denseSize", 24), "blocks do not fill"),
        (lambda s: setattr(s.dimMetadata[2], "denseSize", 16), "other sizes"),
        (lambda s: setattr(s.dimMetadata[0], "denseSize", 1 << 30), "other sizes"),
        (lambda s: setattr(s.dimMetadata[1], "arraySegments", None), "missing"),
        (lambda s: s.dimMetadata[1].arraySegments.values.__setitem__(0, 1), "segments"),
        (lambda s: s.dimMetadata[1].arraySegments.values.__setitem__(1, 99), "segments"),
        (lambda s: s.dimMetadata[1].arrayIndices.values.__setitem__(0, 200), "indices"),
        (lambda s: setattr(s.dimMetadata[1], "format", schema.DimensionType.DENSE), "other sizes"),
    ],
)
def test_forged_blocks_are_refused(change, message):
    weights = _clear(np.ones((64, 40), np.int8), 32, 0.3)
    found = find_sparse_weights(weights)
    assert found is not None
    change(found.sparsity)
    with pytest.raises(ModelError, match=f"'w' is stored sparsely: .*{message}"):
        parse(_file(weights, found.values, found.sparsity), "x")


def test_values_that_are_cut_off_are_refused():
    weights = _clear(np.ones((64, 40), np.int8), 32, 0.3)
    found = find_sparse_weights(weights)
    assert found is not None
    with pytest.raises(ModelError, match=r"'w' is stored sparsely: .*elements"):
        parse(_file(weights, found.values[:-1], found.sparsity), "x")
