"""Hessians that are gathered by running the model, and what rounding by them is worth."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.converters.calibrate import RangeChoice, calibrate
from edgekit.converters.compensate import (
    INT4,
    CodeRange,
    Hessians,
    blend_hessians,
    fit_rows,
    fit_runs,
    round_by_hessians,
)
from edgekit.converters.compensate.layers import find_patches
from edgekit.converters.hessians import draw_positions, gather_hessians
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.quantizable import output_axis
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.converters.quantize.weights import PAIR_LIMIT, largest_pairs
from edgekit.converters.read_onnx import read_onnx
from edgekit.converters.round_weights import InputStatistics, round_weights
from edgekit.targets.errors import CalibrationError

# Each layer reads the network's input or another's output, and has no bias.
CONVS = {
    "plain": ("Conv", (6, 4, 3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    "groups": ("Conv", (8, 2, 3, 2), {"group": 2, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    "depthwise": ("Conv", (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "up": ("ConvTranspose", (4, 5, 3, 3), {"strides": [2, 2], "pads": [1, 1, 0, 1]}),
    "up_more": (
        "ConvTranspose",
        (4, 3, 2, 2),
        {"strides": [3, 3], "output_padding": [1, 2], "dilations": [2, 1]},
    ),
}


def write_network(path, seed=0):
    rng = np.random.default_rng(seed)
    nodes, weights, outputs = [], {}, []

    def add(op, name, source, shape, **attributes):
        weights[f"{name}.w"] = rng.normal(0, 0.4, shape).astype(np.float32)
        nodes.append(helper.make_node(op, [source, f"{name}.w"], [name], name, **attributes))
        outputs.append(name)

    for name, (op, shape, attributes) in CONVS.items():
        add(op, name, "x", shape, **attributes)
    nodes.append(helper.make_node("Relu", ["plain"], ["relu"], "relu"))
    nodes.append(helper.make_node("GlobalAveragePool", ["relu"], ["pool"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"], "flat"))
    add("Gemm", "gemm", "flat", (7, 6), transB=1)
    add("MatMul", "again", "flat", (6, 3))
    add("MatMul", "product", "x", (10, 5))
    weights["rows.shape"] = np.array([0, 4, 90], np.int64)
    nodes.append(helper.make_node("Reshape", ["x", "rows.shape"], ["rows"], "rows"))
    add("Conv", "line", "rows", (3, 4, 5), strides=[2], pads=[3, 1], dilations=[2])
    weights["lstm.r"] = rng.normal(0, 0.3, (1, 12, 3)).astype(np.float32)
    weights["lstm.w"] = rng.normal(0, 0.3, (1, 12, 90)).astype(np.float32)
    nodes.append(
        helper.make_node("LSTM", ["rows", "lstm.w", "lstm.r"], ["states"], "lstm", hidden_size=3)
    )
    outputs.append("states")
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 9, 10])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(1)
    shapes = [(1, 4, 9, 10)] * 5 + [(2, 4, 9, 10)]
    return [{"x": rng.normal(0.4, 1, shape).astype(np.float32)} for shape in shapes]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("layers") / "layers.onnx")


@pytest.fixture(scope="module")
def model(path):
    return read_onnx(path)


@pytest.fixture(scope="module")
def calibration(model, samples):
    return calibrate(model, samples)


@pytest.fixture(scope="module")
def hessians(model, samples, calibration, tmp_path_factory):
    return gather_hessians(model, samples, calibration, tmp_path_factory.mktemp("kept"))


def layers(model):
    return [node for node in model.graph if find_patches(node) is not None]


def rows_of(node):
    patches = find_patches(node)
    weight = node.inputs[1].const_value.numpy().astype(np.float64)
    axis = 1 if node.op_type == "LSTM" else output_axis(node)
    if node.op_type == "LSTM":
        return weight[0][None]
    return np.moveaxis(weight, axis, 0).reshape(patches.groups, -1, patches.depth)


def test_weights_and_hessians_give_the_squares_that_onnx_runtime_computes(
    path, model, samples, hessians
):
    session = ort.InferenceSession(str(path))
    names = [each.name for each in session.get_outputs()]
    squares = dict.fromkeys(names, 0.0)
    for sample in samples:
        for name, array in zip(names, session.run(None, sample), strict=True):
            axis = 1 if name in (*CONVS, "line") else -1
            by_channel = np.moveaxis(array.astype(np.float64), axis, 0)
            squares[name] = squares[name] + (by_channel.reshape(len(by_channel), -1) ** 2).sum(1)
    found = [node for node in layers(model) if node.op_type != "LSTM"]
    assert len(found) == len(CONVS) + 4
    for node in found:
        rows = rows_of(node)
        h = hessians.matrices(node.name)
        computed = np.einsum("grk,gkl,grl->gr", rows, h, rows).reshape(-1)
        np.testing.assert_allclose(computed, squares[node.name], rtol=2e-3, err_msg=node.name)


def test_recurrent_weights_multiply_rows(model, samples, hessians):
    rows = np.concatenate([sample["x"].reshape(-1, 90) for sample in samples]).astype(np.float64)
    np.testing.assert_allclose(hessians.matrices("lstm")[0], rows.T @ rows, rtol=1e-2, atol=0.05)
    assert hessians.count("lstm") == len(rows)
    assert hessians.count_images("lstm") == 6
    assert hessians.count_images("plain") == 7


def test_neither_order_nor_passes_nor_threads_matter(
    model, samples, calibration, hessians, tmp_path
):
    whole = {node.name: hessians.matrices(node.name) for node in layers(model)}
    told = []
    again = gather_hessians(
        model,
        samples[::-1],
        calibration,
        tmp_path,
        memory_limit=90_000,
        threads=1,
        progress=lambda *step: told.append(step),
    )
    assert again.digest == hessians.digest
    assert told[-1][0] == told[-1][1] > len(samples)
    for name, expected in whole.items():
        np.testing.assert_array_equal(again.matrices(name), expected)


def test_large_images_are_sampled_the_same_in_any_order(
    model, samples, calibration, tmp_path, monkeypatch
):
    monkeypatch.setattr("edgekit.converters.hessians._PRODUCTS", 1)
    monkeypatch.setattr("edgekit.converters.hessians._LEAST_PATCHES", 20)
    first = gather_hessians(model, samples, calibration, tmp_path / "a", names={"plain", "product"})
    again = gather_hessians(
        model, samples[::-1], calibration, tmp_path / "b", names={"plain", "product"}
    )
    assert first.count("plain") == 20 * 7
    assert "up" not in first
    for name in ("plain", "product"):
        np.testing.assert_array_equal(first.matrices(name), again.matrices(name))
    other = gather_hessians(model, samples, calibration, tmp_path / "c", names={"plain"}, seed=1)
    assert (other.matrices("plain") != first.matrices("plain")).any()


def test_file_is_used_again_and_a_damaged_one_is_not(model, samples, calibration, tmp_path):
    first = gather_hessians(model, samples, calibration, tmp_path)
    stamp = first.path.stat().st_mtime_ns
    assert gather_hessians(model, samples[::-1], calibration, tmp_path).path == first.path
    assert first.path.stat().st_mtime_ns == stamp
    assert gather_hessians(model, samples[:-1], calibration, tmp_path).path != first.path
    changed = model.clone()
    changed.graph.initializers["gemm.w"].const_value = ir.tensor(np.zeros((7, 6), np.float32))
    assert gather_hessians(changed, samples, calibration, tmp_path).path != first.path
    data = first.path.read_bytes()
    first.path.write_bytes(data[:-100])
    with pytest.raises(CalibrationError, match="damaged"):
        Hessians.load(first.path)
    gather_hessians(model, samples, calibration, tmp_path)
    assert first.path.read_bytes() == data
    with pytest.raises(CalibrationError, match="no such file"):
        Hessians.load(tmp_path / "other.zip")


def test_parts_merge_to_the_whole(model, samples, calibration, hessians, tmp_path):
    first, second = (
        gather_hessians(model, part, calibration, tmp_path) for part in (samples[:2], samples[2:])
    )
    merged = second.merge(first)
    for node in layers(model):
        np.testing.assert_array_equal(merged.matrices(node.name), hessians.matrices(node.name))
        assert merged.count(node.name) == hessians.count(node.name)
        np.testing.assert_array_equal(merged.blended(node.name), hessians.blended(node.name))
    assert Hessians.load(merged.path) == merged
    some = gather_hessians(model, samples, calibration, tmp_path, names={"gemm"})
    with pytest.raises(CalibrationError, match="different layers"):
        first.merge(some)


def test_cancelled_gathering_leaves_no_file(model, samples, calibration, tmp_path):
    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather_hessians(model, samples, calibration, tmp_path, progress=cancel)
    assert not list(tmp_path.iterdir())


def test_what_memory_does_not_hold_is_left_out_and_named(model, samples, calibration, tmp_path):
    found = gather_hessians(model, samples, calibration, tmp_path, memory_limit=20_000)
    assert set(found.left_out) == {"lstm"}
    assert "allowed" in found.left_out["lstm"]
    assert "gemm" in found
    with pytest.raises(CalibrationError, match="no calibration samples"):
        gather_hessians(model, [], calibration, tmp_path)


@settings(deadline=None)
@given(count=st.integers(1, 3000), most=st.integers(1, 300), key=st.binary(min_size=8, max_size=8))
def test_drawn_positions_are_distinct_and_in_reach(count, most, key):
    found = draw_positions(count, most, key)
    assert len(found) == min(count, most)
    assert (np.diff(found.astype(np.int64)) > 0).all()
    assert found[-1] < count


def test_all_positions_are_drawn_alike():
    counts = np.zeros(100)
    for key in range(3000):
        counts[draw_positions(100, 10, key.to_bytes(8, "big"))] += 1
    assert counts.min() > 230
    assert counts.max() < 370


def test_rounded_layers_answer_closer_than_by_moments():
    """Over patches that took no part, at both widths of codes that weights may have."""
    rng = np.random.default_rng(9)
    mix = rng.normal(size=(60, 60)) * np.geomspace(1, 0.05, 60)
    seen, others = (np.maximum(rng.normal(size=(2000, 60)) @ mix, 0) for _ in range(2))
    weights = rng.normal(size=(40, 60, 1))
    statistics = InputStatistics(
        np.tile(seen.mean(axis=0), (40, 1)), np.tile(seen.var(axis=0), (40, 1))
    )
    moments = seen.mean(axis=0)[None], seen.var(axis=0)[None]
    blended = blend_hessians((seen.T @ seen)[None], 2000, 50, *moments)
    for limit in (127, 7):
        targets = weights / np.abs(weights).max(axis=1, keepdims=True) * limit
        by_moments = round_weights(targets, statistics, limit)
        found = round_by_hessians(targets, CodeRange(-limit, limit), blended)
        assert (np.abs(found) <= limit).all()
        losses = [
            (((codes - targets)[:, :, 0] @ others.T) ** 2).sum() for codes in (found, by_moments)
        ]
        assert losses[0] < 0.75 * losses[1]


def test_few_samples_are_drawn_towards_what_moments_say():
    rng = np.random.default_rng(2)
    x = rng.normal(1, 1, (10, 4))
    h, mean, variance = (x.T @ x)[None], x.mean(axis=0)[None], x.var(axis=0)[None]
    prior = np.outer(mean, mean) + np.diag(variance[0])
    little = blend_hessians(h, 10, 1, mean, variance)[0]
    much = blend_hessians(h * 1e6, 10_000_000, 1_000_000, mean, variance)[0]
    np.testing.assert_allclose(little.diagonal(), (h[0] / 10).diagonal())
    assert np.abs(little - prior).max() < np.abs(h[0] / 10 - prior).max()
    np.testing.assert_allclose(much, h[0] / 10, rtol=1e-5)


@pytest.mark.parametrize("narrow", [False, True])
def test_quantize_takes_hessians_and_keeps_its_promises(model, calibration, hessians, narrow):
    choice = RangeChoice("minmax", narrow_weights=narrow)
    plain = quantize(model, calibration, method=choice)
    found = quantize(model, calibration, method=choice, hessians=hessians)
    differ = 0
    for node in found.graph:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        record = get_quantization(node.inputs[1])
        before = get_quantization(
            next(each for each in plain.graph if each.name == node.name).inputs[1]
        )
        rows = np.moveaxis(record.codes, record.axis, 0).reshape(
            record.codes.shape[record.axis], -1
        )
        assert np.abs(rows).max() <= 127
        if narrow and node.name != "depthwise":
            assert (largest_pairs(rows.astype(np.float64)) <= PAIR_LIMIT).all()
        differ += int((record.codes != before.codes).sum())
    assert differ > 20


def loss(hessians, weights, fitted, run=None):
    scales = np.repeat(fitted.scales, run or weights.shape[2], axis=2)[..., : weights.shape[2]]
    error = weights - fitted.codes * scales
    return np.einsum("grk,gkl,grl->gr", error, hessians, error)


@pytest.mark.parametrize(
    ("groups", "rows", "depth"), [(1, 20, 90), (1, 9, 30), (6, 1, 9), (2, 3, 18)]
)
def test_fitted_scales_cost_less_than_those_that_reach_all(groups, rows, depth):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(groups, 400, depth)) @ rng.normal(size=(groups, depth, depth))
    hessians, weights = np.swapaxes(x, 1, 2) @ x, rng.normal(size=(groups, rows, depth))
    weights[0, 0] = 0
    least = np.zeros((groups, rows))
    fitted = fit_rows(weights, hessians, INT4, least)
    reach = np.maximum(weights.max(2) / 7, weights.min(2) / -8)
    reach[reach == 0] = 1
    whole = fit_rows(weights, hessians, INT4, reach)
    assert fitted.codes.min() >= -8
    assert fitted.codes.max() <= 7
    assert (fitted.scales == fitted.scales.astype(np.float32)).all()
    assert (fitted.scales > 0).all()
    assert not fitted.codes[0, 0].any()
    assert (whole.scales[..., 0] >= reach.astype(np.float32)).all()
    assert loss(hessians, weights, fitted).sum() <= loss(hessians, weights, whole).sum()
    if depth == 90:
        assert loss(hessians, weights, fitted).sum() < 0.8 * loss(hessians, weights, whole).sum()


@pytest.mark.parametrize("run", [32, 128])
def test_runs_get_scales_of_their_own(run):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(300, 100)) @ rng.normal(size=(100, 100))
    weights = rng.normal(size=(12, 100)) * np.geomspace(1, 20, 100)
    found = fit_runs(weights, x.T @ x, INT4, run)
    assert found.scales.shape == (1, 12, -(-100 // run))
    reach = np.abs(weights).max(axis=1, keepdims=True) / 7
    plain = np.rint(weights / reach).clip(-8, 7) * reach
    error = weights - plain
    before = np.einsum("rk,kl,rl->r", error, x.T @ x, error).sum()
    assert loss((x.T @ x)[None], weights[None], found, run).sum() < 0.4 * before


def test_int4_layers_take_hessians(model, calibration, hessians):
    names = ["plain", "groups", "depthwise", "line", "gemm", "again"]
    formats = dict.fromkeys(names, NumberFormat.INT4)
    plain, found = (
        quantize(model, calibration, formats=formats, hessians=known) for known in (None, hessians)
    )
    for name in names:
        node, before = (next(n for n in each.graph if n.name == name) for each in (found, plain))
        record, other = (get_quantization(each.inputs[1]) for each in (node, before))
        assert record.bits == 4
        rows = rows_of(next(each for each in model.graph if each.name == name))
        losses = []
        for each in (record, other):
            real = each.codes.astype(np.float64) * each.spread_scale()
            error = rows - np.moveaxis(real, each.axis, 0).reshape(rows.shape)
            losses.append(np.einsum("grk,gkl,grl->", error, hessians.blended(name), error))
        assert losses[0] < losses[1], name
