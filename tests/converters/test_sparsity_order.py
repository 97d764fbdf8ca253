"""Channels in another order: the answers are the same, and blocks of zeros cost less."""

import numpy as np
import onnx_ir as ir
import pytest
from check_pass import f32, parse, run

from edgekit.converters.passes.rewrite import constant
from edgekit.converters.prune.pattern import Blocks
from edgekit.converters.prune.sparsity import Sparsity, Zeros, sparsify
from edgekit.converters.prune.sparsity.layers import find_matrices
from edgekit.converters.prune.sparsity.order_channels import _cluster, order_channels
from edgekit.converters.prune.sparsity.removal import order_removal

BLOCKS = Blocks(8, 4)


def make_network(groups=1):
    """Channels that a sum joins, wide ones with a depthwise layer and a slope, and ones of a grouped layer."""
    model = parse(
        "a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0) \n r = Relu (a) \n e = Conv (r, w1, b1) \n"
        " q = PRelu (e, s) \n"
        " d = Conv <pads = [1, 1, 1, 1], group = 32> (q, w2, b2) \n k = Clip (d, low, high) \n"
        f" p = Conv <group = {groups}> (k, w3, b3) \n t = Add (p, r) \n"
        " g = GlobalAveragePool (t) \n f = Flatten (g) \n y = Gemm <transB = 1> (f, w4, b4)",
        "float[N, c] y",
        "N, 3, 6, 6",
        w0=f32(16, 3, 3, 3),
        b0=f32(16),
        w1=f32(32, 16, 1, 1, seed=1) / 3,
        b1=f32(32, seed=1),
        s=f32(32, 1, 1, seed=2),
        w2=f32(32, 1, 3, 3, seed=3) / 3,
        b2=f32(32, seed=3),
        low=np.array(-1.5, np.float32),
        high=np.array(3.5, np.float32),
        w3=f32(16, 32 // groups, 1, 1, seed=4) / 4,
        b3=f32(16, seed=4),
        w4=f32(5, 16, seed=5) / 4,
        b4=f32(5, seed=5),
    )
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type.lower()}{index}"
    return model


def draw_samples(count=8):
    rng = np.random.default_rng(7)
    return [{"x": rng.normal(size=(1, 3, 6, 6)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("groups", [1, 4])
def test_answers_stay(groups):
    model, samples = make_network(groups), draw_samples()
    before = run(model, samples[0]["x"])
    moved = order_channels(model, find_matrices(model)[0], samples, BLOCKS)
    names = {name for layers in moved for name in layers}
    # What groups divide keeps its order.
    assert ("conv2" in names) == (groups == 1)
    after = run(model, samples[0]["x"])
    assert after[0] == pytest.approx(before[0], abs=1e-5)


def test_blocks_cost_less_where_weak_weights_were_strewn():
    model, samples = make_network(), draw_samples()
    rng = np.random.default_rng(3)
    kinds = rng.permutation(np.repeat(np.arange(4), 8))
    places = rng.permutation(16)
    node = next(node for node in model.graph if node.name == "conv2")
    weights = constant(node.inputs[1]).copy()
    for kind in range(4):
        weights[np.ix_(kinds != kind, places[4 * kind : 4 * kind + 4])] *= 0.05
    found = ir.Value(name="strewn", const_value=ir.tensor(weights, name="strewn"))
    model.graph.register_initializer(found)
    node.replace_input_with(1, found)

    def cost():
        matrix = next(m for m in find_matrices(model)[0] if m.name == "conv2")
        panels = order_removal(matrix.read(), np.eye(16), BLOCKS)
        return sum(panel.costs[:2].sum() for panel in panels)

    before = cost()
    order_channels(model, find_matrices(model)[0], samples, BLOCKS)
    assert cost() < 0.8 * before


def test_clusters_have_the_size_of_a_panel():
    rng = np.random.default_rng(1)
    owners = _cluster(rng.normal(size=(70, 5)), 16)
    assert sorted(np.bincount(owners)) == [6, 16, 16, 16, 16]


def test_sparsify_reorders_where_asked():
    model, samples = make_network(), draw_samples(24)
    zeros = Zeros(Blocks(8, 4), 0.5)
    first = {}
    for reorder in (False, True):
        done = sparsify(model, samples, Sparsity(zeros, steps=1, reorder=reorder))
        assert done.report.zeros == pytest.approx(0.5, abs=0.1)
        # The first layer stays dense and reads the input: only the order of its channels changes.
        first[reorder] = constant(next(n for n in done.graph.graph if n.name == "conv0").inputs[1])
    assert not np.array_equal(first[False], first[True])
    rows = [np.array(sorted(map(tuple, w.reshape(16, -1)))) for w in first.values()]
    assert np.array_equal(*rows)
