"""Zeros of pruned layers: patterns as text, the record on nodes, and rounding that leaves them 0."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from check_pass import f32, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.calibrate import calibrate
from edgekit.converters.compensate import (
    INT4,
    INT8,
    CodeRange,
    Given,
    Solver,
    fit_rows,
    fit_runs,
    round_by_hessians,
)
from edgekit.converters.compensate.masks import Blocks as BlockMask
from edgekit.converters.hessians import gather_hessians
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.prune.pattern import (
    Blocks,
    KeepOfGroup,
    Unstructured,
    parse_pattern,
)
from edgekit.converters.prune.record import is_pruned, mark_pruned, mark_zeros, pruned_pattern
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.recover.equalize import equalize
from edgekit.converters.round_weights import InputStatistics, round_weights
from edgekit.targets.errors import EdgekitError, ModelError

FEW = settings(deadline=None, max_examples=20)


@given(st.integers(1, 128), st.integers(1, 128), st.integers(1, 128))
@FEW
def test_patterns_are_read_as_they_are_written(first, second, rows):
    patterns = [Blocks(first, second), Unstructured()]
    if first < second:
        patterns.append(KeepOfGroup(first, second, rows))
    for pattern in patterns:
        assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "4", "4:2", "0:4", "4:4", "4x", "x4", "0x4", "4x129", "2:200", " 2:4", "2:4x0"]
)
def test_what_is_no_pattern_is_an_error_that_says_what_one_is(text):
    with pytest.raises(EdgekitError, match="no pattern of zeros"):
        parse_pattern(text)


def test_a_mask_of_a_pattern_has_its_density():
    assert parse_pattern("4x32").make_mask(0.25) == BlockMask(0.25, 32, 4, 128)
    assert parse_pattern("6x8").make_mask(0.5).window == 126
    with pytest.raises(EdgekitError, match=r"2:4 keeps 0\.5"):
        parse_pattern("2:4").make_mask(0.25)


def prune(array, seed=0, share=0.6):
    """Returns weights of which some are exactly 0."""
    drawn = np.random.default_rng(seed).random(array.shape)
    return np.where(drawn < share, 0, array).astype(np.float32)


def samples_for(model, count=6):
    rng = np.random.default_rng(3)
    (value,) = model.graph.inputs
    shape = [1 if isinstance(size, ir.SymbolicDim) else size for size in value.shape]
    return [{value.name: rng.normal(size=shape).astype(np.float32)} for _ in range(count)]


def make_network():
    model = parse(
        "h = Conv <pads = [1, 1, 1, 1]> (x, w) \n r = Relu (h) \n g = Conv (r, v) \n"
        " p = GlobalAveragePool (g) \n f = Flatten (p) \n y = MatMul (f, m)",
        "float[N, c] y",
        "N, 4, 6, 6",
        w=prune(f32(8, 4, 3, 3)),
        v=prune(f32(16, 8, 1, 1, seed=1), 1),
        m=prune(f32(16, 6, seed=2), 2),
    )
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}{index}"
        if node.op_type in ("Conv", "MatMul"):
            mark_pruned(node, Unstructured())
    return model


def test_the_record_survives_copies_files_and_passes(tmp_path):
    model = make_network()
    path = tmp_path / "pruned.onnx"
    onnx.save(ir.to_proto(model), path)
    for copy in (model.clone(), read_onnx(path)):
        simplify(copy)
        equalize(copy)
        layers = [node for node in copy.graph if node.op_type in ("Conv", "MatMul", "Gemm")]
        assert len(layers) == 3
        assert all(pruned_pattern(node) == Unstructured() for node in layers)


def test_the_record_survives_the_fusion_of_a_bias_and_an_image_of_height_1():
    model = parse(
        "h = MatMul (x, w) \n y = Add (h, b)", "float[N, c] y", "N, 4", w=f32(4, 3), b=f32(3)
    )
    mark_pruned(model.graph[0], Blocks(2, 4))
    simplify(model)
    assert [(node.op_type, pruned_pattern(node)) for node in model.graph] == [
        ("Gemm", Blocks(2, 4))
    ]
    model = parse("y = Conv (x, w)", "float[N, c, t] y", "N, 4, 9", w=f32(3, 4, 2))
    mark_pruned(model.graph[0], Blocks(2, 4))
    simplify(model)
    assert [is_pruned(node) for node in model.graph if node.op_type == "Conv"] == [True]


def test_layers_that_others_pruned_are_marked_and_dense_ones_are_not():
    model = parse(
        "a = Conv (x, w) \n b = Conv (a, v) \n y = Conv (b, u)",
        w=prune(f32(8, 3, 1, 1), share=0.6),
        v=f32(8, 8, 1, 1),
        u=prune(f32(8, 8, 3, 3), share=0.6),
    )
    for index, node in enumerate(model.graph):
        node.name = f"conv{index}"
    mark_pruned(model.graph[2], Blocks(4, 4))
    assert mark_zeros(model) == ["conv0"]
    assert [pruned_pattern(node) for node in model.graph] == [
        Unstructured(),
        None,
        Blocks(4, 4),
    ]
    assert mark_zeros(model) == []


def test_a_record_that_cannot_be_read_names_its_node():
    model = make_network()
    node = model.graph[0]
    node.metadata_props["edgekit.pruned"] = "most"
    with pytest.raises(ModelError, match=f"node '{node.name}': 'most' is no pattern"):
        quantize(model, calibrate(model, samples_for(model)))


@pytest.mark.parametrize("formats", ["int8", "int4", "16x8"])
@pytest.mark.parametrize("how", ["moments", "hessian"])
def test_quantize_keeps_every_zero(formats, how, tmp_path):
    model = make_network()
    names = [node.name for node in model.graph if node.op_type in ("Conv", "MatMul")]
    samples = samples_for(model)
    calibration = calibrate(model, samples)
    hessians = gather_hessians(model, samples, calibration, tmp_path) if how == "hessian" else None
    asked = {} if formats == "int8" else dict.fromkeys(names, NumberFormat(formats))
    result = quantize(model, calibration, hessians=hessians, formats=asked)
    checked = 0
    for node in result.graph:
        if node.name in names:
            value = node.inputs[1]
            zeros = value.const_value.numpy() == 0
            assert zeros.any()
            assert not get_quantization(value).codes[zeros].any()
            checked += 1
    assert checked == 3


def test_recurrent_weights_keep_their_zeros():
    model = parse(
        "y, h = LSTM <hidden_size = 3> (x, w, r)",
        "float[5, 1, 1, 3] y",
        "5, 1, 4",
        w=prune(f32(1, 12, 4)),
        r=prune(f32(1, 12, 3), 1),
    )
    mark_pruned(model.graph[0], Unstructured())
    result = quantize(model, calibrate(model, samples_for(model)))
    for value in result.graph[0].inputs[1:3]:
        zeros = value.const_value.numpy() == 0
        assert not get_quantization(value).codes[zeros].any()


@st.composite
def layers(draw):
    """Targets in int8's reach with zeros, alone, in blocks or in whole columns, and a Hessian."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    groups, rows, depth = draw(st.sampled_from([(1, 8, 12), (3, 1, 9), (1, 16, 80), (2, 4, 66)]))
    kept = rng.random((groups * rows, depth)) < draw(st.floats(0, 1))
    if draw(st.booleans()):
        kept[:] = kept[:1]
    targets = np.where(kept, rng.normal(size=kept.shape) * 50, 0).clip(-127, 127)
    x = rng.normal(size=(groups, 40, depth)) + 0.5
    return targets[:, :, None], x.transpose(0, 2, 1) @ x, x


@given(layers())
@FEW
def test_rounding_leaves_zeros_alone_and_stays_in_range(layer):
    targets, hessians, x = layer
    groups, _, depth = x.shape
    mean = np.repeat(x.mean(axis=1), len(targets) // groups, axis=0)
    variance = np.repeat(x.var(axis=1), len(targets) // groups, axis=0)
    found = [
        round_weights(targets, InputStatistics(mean, variance), 127, keep_zeros=True),
        round_by_hessians(targets, CodeRange(-127, 127), hessians, keep_zeros=True),
    ]
    shaped = targets.reshape(groups, -1, depth)
    least = np.zeros(shaped.shape[:2])
    found.append(fit_rows(shaped, hessians, INT4, least, keep_zeros=True).codes)
    if groups == 1:
        found.append(fit_runs(shaped[0], hessians[0], INT4, 32, keep_zeros=True).codes)
    for codes in found:
        assert not codes.reshape(targets.shape)[targets == 0].any()
        assert np.abs(codes).max() <= 127


def test_rows_that_share_zeros_are_rounded_better_than_with_a_mask_alone():
    rng = np.random.default_rng(5)
    mixed = rng.normal(size=(400, 96)) @ rng.normal(size=(96, 96))
    hessian = mixed.T @ mixed
    kept = (rng.random(96) < 0.5)[None].repeat(32, axis=0)
    targets = np.where(kept, rng.normal(size=kept.shape) * 4, 0)
    shared = round_by_hessians(targets[:, :, None], INT8, hessian[None], keep_zeros=True)[..., 0]
    masked = Solver(hessian, falling=True).round(
        targets, INT8, scales=np.ones((32, 1)), mask=Given(kept)
    )
    error, worse = shared - targets, masked.codes - targets
    loss = np.einsum("rc,cd,rd->", error, hessian, error)
    assert loss < np.einsum("rc,cd,rd->", worse, hessian, worse)
