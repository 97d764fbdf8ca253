"""Zeros inside layers: in which order blocks go, how a share is spread over layers, and what `sparsify` leaves."""

import importlib

import numpy as np
import onnx_ir as ir
import pytest
from check_pass import f32, parse, run
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.converters.calibrate import calibrate
from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.pattern import (
    Blocks,
    KeepOfGroup,
    Unstructured,
    parse_pattern,
)
from edgekit.converters.prune.record import pruned_pattern
from edgekit.converters.prune.sparsity import Sparsity, Zeros, sparsify
from edgekit.converters.prune.sparsity.layers import find_matrices
from edgekit.converters.prune.sparsity.removal import order_removal
from edgekit.converters.prune.sparsity.spread import Curve, keep_rest, spread_zeros
from edgekit.converters.quantization import get_quantization
from edgekit.converters.quantize import quantize
from edgekit.targets.errors import CalibrationError, EdgekitError

FEW = settings(deadline=None, max_examples=15)


@st.composite
def matrices(draw):
    """A matrix, a covariance and a pattern."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n, k = draw(st.integers(1, 9)), draw(st.integers(1, 14))
    pattern = draw(
        st.sampled_from(
            [Blocks(4, 4), Blocks(3, 2), Unstructured(), KeepOfGroup(1, 4), KeepOfGroup(2, 4, 3)]
        )
    )
    x = rng.normal(size=(60, k)) @ rng.normal(size=(k, k))
    return rng.normal(size=(n, k)), x.T @ x / 60 + 0.01 * np.eye(k), pattern


def loss(weights, covariance, kept):
    """Returns what the best weights of a mask lose, each row by itself: the oracle."""
    total = 0.0
    for row, columns in zip(weights, kept, strict=True):
        best = np.zeros_like(row)
        if columns.any():
            part = covariance[np.ix_(columns, columns)]
            best[columns] = np.linalg.solve(part, covariance[columns] @ row)
        error = row - best
        total += error @ covariance @ error
    return total


@given(matrices(), st.floats(0, 1))
@FEW
def test_costs_add_up_to_what_the_best_weights_of_the_mask_lose(problem, part):
    weights, covariance, pattern = problem
    panels = order_removal(weights, covariance, pattern)
    assert sum(panel.count for panel in panels) == len(weights)
    curve = Curve(panels, weights.shape[1], 1.0)
    counts = [round(part * len(panel.order)) for panel in panels]
    kept = keep_rest(curve, counts)
    wanted = loss(weights, covariance, kept)
    # Costs are made to rise, which can only add to them.
    found = sum(panel.costs[:count].sum() for panel, count in zip(panels, counts, strict=True))
    assert found >= wanted * (1 - 1e-6) - 1e-9
    assert all((np.diff(panel.costs) >= 0).all() for panel in panels)
    if counts and all(count <= 1 for count in counts):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@given(matrices())
@FEW
def test_masks_have_the_pattern(problem):
    weights, covariance, pattern = problem
    panels = order_removal(weights, covariance, pattern)
    curve = Curve(panels, weights.shape[1], 1.0)
    kept = keep_rest(curve, [len(panel.order) for panel in panels])
    rows = getattr(pattern, "rows", 1)
    for first in range(0, len(kept), rows):
        assert (kept[first : first + rows] == kept[first]).all()
    if isinstance(pattern, KeepOfGroup):
        for first in range(0, kept.shape[1], pattern.group):
            part = kept[:, first : first + pattern.group]
            assert (part.sum(axis=1) == min(pattern.keep, part.shape[1])).all()
    else:
        assert not kept.any()
    half = keep_rest(curve, [len(panel.order) // 2 for panel in panels])
    if isinstance(pattern, Blocks):
        width = pattern.columns
        for first in range(0, half.shape[1], width):
            part = half[:, first : first + width]
            assert (part == part[:, :1]).all()


def test_the_first_block_to_go_is_the_one_whose_loss_is_least():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    weights, covariance = rng.normal(size=(8, 12)), x.T @ x / 200
    (panel,) = order_removal(weights, covariance, Blocks(8, 4))
    losses = []
    for block in range(3):
        kept = np.ones(weights.shape, bool)
        kept[:, 4 * block : 4 * block + 4] = False
        losses.append(loss(weights, covariance, kept))
    assert panel.order[0] == np.argmin(losses)
    assert panel.costs[0] == pytest.approx(min(losses))


def make_curves():
    rng = np.random.default_rng(2)
    curves = {}
    for name, size in (("cheap", 0.1), ("dear", 1.0)):
        panels = order_removal(size * rng.normal(size=(8, 16)), np.eye(16), Blocks(4, 4))
        curves[name] = Curve(panels, 16, 1.0)
    return curves


def test_zeros_go_where_they_cost_least_and_add_up_to_the_share():
    curves = make_curves()
    counts = spread_zeros(curves, 0.5)
    kept = {name: keep_rest(curves[name], counts[name]) for name in curves}
    assert np.mean([mask.mean() for mask in kept.values()]) == pytest.approx(0.5, abs=0.07)
    assert kept["cheap"].mean() < kept["dear"].mean()
    # A layer keeps some, however cheap its zeros are.
    assert kept["cheap"].mean() > 0.1
    dearer = {**curves, "cheap": Curve(curves["cheap"].panels, 16, 1e6)}
    counts = spread_zeros(dearer, 0.5)
    assert sum(counts["cheap"]) < sum(counts["dear"])


def test_what_gains_more_goes_first():
    curves = make_curves()
    panels = curves["dear"].panels
    counts = spread_zeros(
        {"slow": Curve(panels, 16, 1.0, 9.0), "fast": Curve(panels, 16, 1.0, 1.0)}, 0.5
    )
    assert sum(counts["slow"]) > sum(counts["fast"])


def make_network():
    """A network whose inputs have correlations, so that there is something that makes up for zeros."""
    model = parse(
        "a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0) \n r = Relu (a) \n"
        " d = Conv <pads = [1, 1, 1, 1], group = 12> (r, w1, b1) \n"
        " p = Conv (d, w2, b2) \n s = Relu (p) \n"
        " c = Conv <pads = [1, 1, 1, 1]> (s, w3, b3) \n t = Add (c, s) \n u = Relu (t) \n"
        " g = GlobalAveragePool (u) \n f = Flatten (g) \n y = Gemm <transB = 1> (f, w4, b4)",
        "float[N, c] y",
        "N, 3, 6, 6",
        w0=f32(12, 3, 3, 3),
        b0=f32(12),
        w1=f32(12, 1, 3, 3, seed=1) / 3,
        b1=f32(12, seed=1),
        w2=f32(16, 12, 1, 1, seed=2) / 3,
        b2=f32(16, seed=2),
        w3=f32(16, 16, 3, 3, seed=3) / 12,
        b3=f32(16, seed=3),
        w4=f32(5, 16, seed=4) / 4,
        b4=f32(5, seed=4),
    )
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type.lower()}{index}"
    return model


def draw_samples(count=24):
    rng = np.random.default_rng(7)
    base = rng.normal(size=(count, 1, 1, 6, 6)) + 0.3 * rng.normal(size=(count, 1, 3, 6, 6))
    return [{"x": sample.astype(np.float32)} for sample in base]


@pytest.fixture(scope="module")
def network():
    return make_network(), draw_samples()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["4x4", "unstructured", "2:4"])
def test_a_pruned_network_has_its_zeros_and_answers_more_like_the_whole_one_than_a_masked_one(
    text, network
):
    model, samples = network
    before = {node.name: constant(node.inputs[1]) for node in model.graph if "conv" in node.name}
    pattern = parse_pattern(text)
    pruned = sparsify(model, samples, Sparsity(Zeros(pattern, 0.5), steps=2))
    assert all(
        np.array_equal(constant(node.inputs[1]), before[node.name])
        for node in model.graph
        if node.name in before
    )
    layers = {layer.node: layer for layer in pruned.report.layers}
    assert pruned.report.zeros == pytest.approx(0.5, abs=0.06)
    assert len(pruned.graph.graph.initializers) == len(model.graph.initializers)
    assert layers["conv0"].reason == "it reads an input of the network"
    assert layers["conv2"].reason == "its channels are in groups"
    masked = model.clone()
    found = 0
    for node, copy in zip(pruned.graph.graph, masked.graph, strict=True):
        layer = layers.get(node.name)
        if layer is None or not layer.pattern:
            assert pruned_pattern(node) is None
            continue
        found += 1
        weights = constant(node.inputs[1])
        assert pruned_pattern(node) == pattern
        assert (weights != 0).mean() == pytest.approx(layer.density)
        copy.inputs[1].const_value = ir.tensor(
            np.where(weights == 0, 0, constant(copy.inputs[1])), name=copy.inputs[1].name
        )
    assert found >= 1
    x = np.concatenate([sample["x"] for sample in draw_samples(60)[24:]])
    wanted, given, worse = (run(m, x)[0] for m in (model, pruned.graph, masked))
    assert ((given - wanted) ** 2).sum() < 0.5 * ((worse - wanted) ** 2).sum()
    quantized = quantize(pruned.graph, calibrate(pruned.graph, samples))
    for node in quantized.graph:
        if pruned_pattern(node) is not None:
            value = node.inputs[1]
            assert not get_quantization(value).codes[constant(value) == 0].any()


def test_blocks_of_a_convolution_lie_along_channels_of_a_tap(network):
    model, samples = network
    zeros = {"conv5": Zeros(Blocks(4, 4), 0.5)}
    pruned = sparsify(model, samples, Sparsity(layers=zeros, steps=1))
    (node,) = [node for node in pruned.graph.graph if node.name == "conv5"]
    blocks = constant(node.inputs[1]).reshape(4, 4, 4, 4, 3, 3) == 0
    share = blocks.mean(axis=(1, 3))
    assert set(np.unique(share)) == {0.0, 1.0}
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert {layer.node for layer in pruned.report.layers if layer.pattern} == {"conv5"}


def test_what_cannot_be_pruned_is_an_error_that_says_why(network):
    model, samples = network
    half = Zeros(Blocks(4, 4), 0.5)
    with pytest.raises(EdgekitError, match="node 'nowhere' cannot be pruned: there is no such"):
        sparsify(model, samples, Sparsity(layers={"nowhere": half}))
    with pytest.raises(EdgekitError, match="node 'conv2' cannot be pruned: its channels are in"):
        sparsify(model, samples, Sparsity(layers={"conv2": half}))
    with pytest.raises(
        EdgekitError, match="node 'conv3' would not be faster: generic has no kernel"
    ):
        sparsify(
            model, samples, Sparsity(layers={"conv3": Zeros(Blocks(7, 4), 0.5)}, isa="generic")
        )
    with pytest.raises(CalibrationError, match="no calibration samples"):
        sparsify(model, [], Sparsity(half))
    with pytest.raises(EdgekitError, match=r"2:4 makes 0\.5"):
        Zeros(KeepOfGroup(2, 4), 0.7)
    with pytest.raises(EdgekitError, match=r"at most 0\.95"):
        Zeros(Blocks(4, 4), 1.0)


def test_layers_without_a_kernel_stay_dense_and_say_so(network):
    model, samples = network
    asked = Sparsity(Zeros(Blocks(7, 4), 0.5), isa="generic", steps=1)
    pruned = sparsify(model, samples, asked)
    reasons = {layer.reason for layer in pruned.report.layers}
    assert "generic has no kernel for 4x7" in reasons
    assert pruned.report.zeros == 0
    assert not any(pruned_pattern(node) for node in pruned.graph.graph)


def test_weights_lie_in_the_order_of_kernels():
    model = make_network()
    found, _ = find_matrices(model)
    conv = {matrix.name: matrix for matrix in found}["conv5"]
    weights = constant(conv.layer.node.inputs[1])
    assert np.array_equal(conv.read(), weights.transpose(0, 2, 3, 1).reshape(16, -1))
    assert np.array_equal(conv.restore(conv.read()), conv.layer.weights)


@pytest.mark.parametrize("last", [False, True])
def test_a_layer_that_turns_out_not_to_pay_has_its_own_weights(network, monkeypatch, last):
    model, samples = network
    seen = []

    class Row:
        density = 0.5

        def __init__(self, refused):
            self.refused = refused

        def pays(self, density):
            return not self.refused

        def speedup(self, density):
            return 1.5

    def find(isa, pattern, density, shape):
        if (shape.n, shape.k) != (16, 144):
            return Row(False)
        seen.append(density)
        return Row(len(seen) > 1 or not last)

    module = importlib.import_module("edgekit.converters.prune.sparsity.sparsify")
    monkeypatch.setattr(module, "find_best", find)
    asked_for = Sparsity(Zeros(Blocks(4, 4), 0.5), isa="generic", steps=3)
    pruned = sparsify(model, samples, asked_for)
    layers = {layer.node: layer for layer in pruned.report.layers}
    assert "break-even" in layers["conv5"].reason
    given = {node.name: constant(node.inputs[1]) for node in model.graph if len(node.inputs) > 1}
    zeros = weights = 0
    for node in pruned.graph.graph:
        if node.name == "conv5":
            assert np.array_equal(constant(node.inputs[1]), given["conv5"])
        elif layers.get(node.name) and layers[node.name].pattern:
            zeros += int((constant(node.inputs[1]) == 0).sum())
            weights += constant(node.inputs[1]).size
    if not last:
        assert zeros / weights == pytest.approx(0.5, abs=0.06)
