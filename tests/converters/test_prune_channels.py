"""Networks are cut to a budget, and repaired so that they answer as before."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from channel_networks import build
from float_networks import FloatNet

from edgekit.converters.prune.channels import (
    Budget,
    cut,
    find_channels,
    parse_budget,
    prune_channels,
)
from edgekit.converters.prune.channels.observe import run as walk
from edgekit.converters.prune.channels.onward import Onward
from edgekit.converters.prune.channels.repair import keep_targets, put_weights, repair
from edgekit.converters.prune.channels.rows import find_rows
from edgekit.converters.prune.channels.trials import list_kept
from edgekit.targets.errors import CalibrationError, EdgekitError


def chain():
    """Returns a network with residual sums, depthwise layers and clamps, 16 channels wide."""
    net = FloatNet(4)
    x = net.active(net.conv(("x", 4, 8), 16), "Relu")
    for kind in ("Clip", "Relu"):
        branch = net.active(net.conv(x, 16, group=16), kind)
        branch = net.conv(branch, 16, kernel=1)
        x = net.active((net.node("Add", [branch[0], x[0]]), 16, 8), "Relu")
    x = net.active(net.conv(x, 24, kernel=1), "Relu")
    net.values.append((net.node("GlobalAveragePool", [x[0]]), 24, 1))
    return net.build()


def samples(count=24):
    """Returns inputs with correlated channels, as real ones are."""
    random = np.random.default_rng(3)
    mixed = random.normal(size=(count, 2, 8, 8)).astype(np.float32)
    spread = random.normal(size=(4, 2)).astype(np.float32)
    return [{"x": np.einsum("oc,chw->ohw", spread, image)[None]} for image in mixed]


@pytest.mark.slow
def test_half_the_products_go_and_repair_keeps_answers():
    found = {
        repairs: prune_channels(
            chain(), samples(), budget=0.5, multiple=4, steps=2, repairs=repairs
        )
        for repairs in (True, False)
    }
    for pruned in found.values():
        assert pruned.report.macs_share <= 0.5
        assert [value.shape[1] for value in pruned.graph.graph.outputs] == [3]
    assert found[True].report.answers_db > found[False].report.answers_db + 3


@pytest.mark.slow
def test_channels_that_say_what_others_say_go_first():
    net = FloatNet(7)
    name, _, size = net.active(net.conv(("x", 4, 8), 8), "Relu")
    net.values.append(net.conv((name, 8, size), 6))
    model = net.build()
    # The last two channels are there twice, and larger than the first four, which magnitude would cut.
    for index in (1, 2):
        value = model.graph.node(0).inputs[index]
        array = value.const_value.numpy().copy()
        array[:4] *= 0.5
        array[4:6] = array[6:]
        value.const_value = ir.tensor(array)
    by_error, by_magnitude = (
        prune_channels(
            model,
            samples(),
            budget=0.8,
            multiple=1,
            trials=False,
            importance=importance,
            keep=[model.graph.node(2).name],
        ).report.answers_db
        for importance in ("hessian", "magnitude")
    )
    assert by_error > 30
    assert by_error > by_magnitude + 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gate", "heads", "LSTM"])
def test_cells_heads_and_gated_channels_go_too(kind):
    given = [sample["x"] for sample in samples(48)]
    three = [{"x": np.concatenate(given[i : i + 3])} for i in range(0, 48, 3)]
    # What a recurrent layer loses is known by trials alone.
    pruned = prune_channels(build(kind, 2, 6), three, budget=0.7, multiple=2, trials=kind == "LSTM")
    assert pruned.report.macs_share <= 0.7
    assert not pruned.report.kept
    if kind == "LSTM":
        (cells,) = (layer for layer in pruned.report.layers if layer.width == 6)
        assert cells.width_left in (2, 4)


def test_cells_stay_without_trials():
    random = np.random.default_rng(0)
    given = [{"x": random.normal(size=(3, 4, 8, 8)).astype(np.float32)} for _ in range(2)]
    report = prune_channels(
        build("LSTM", 2, 6), given, budget=0.95, multiple=2, trials=False
    ).report
    assert report.kept
    assert [layer.width_left for layer in report.layers if layer.width == 6] == [6]


def test_what_is_to_be_kept_stays_and_the_given_graph_too():
    model = chain()
    before = len(model.graph)
    kept = next(node.name for node in model.graph if node.op_type == "Conv")
    pruned = prune_channels(
        model,
        samples(1),
        budget=0.8,
        multiple=1,
        importance="magnitude",
        repairs=False,
        keep=[kept],
    )
    assert len(model.graph) == before
    assert pruned.report.layers[0].width_left == pruned.report.layers[0].width


def test_rows_are_those_of_the_whole_graph_though_layers_get_shallower():
    model, given = chain(), samples(6)
    small = model.clone()
    channels = find_channels(small)
    units = channels.spaces[0].units[:12]
    # So few rows that their number hangs on the depth of a layer.
    with keep_targets(model, given, rows=1) as targets:
        kept = list_kept(small, channels, units, {})
        cut(small, channels, units)
        done = repair(small, targets, kept, given, channels.spaces[0].layers)
    assert {fit.node for fit in done} <= {node.name for node in small.graph}
    assert done


@pytest.mark.parametrize("measure", ["macs", "bytes", "ms"])
def test_budgets_are_kept_in_each_measure(measure):
    model = chain()
    times = {str(node.name): 1.0 for node in model.graph if node.op_type in ("Conv", "Gemm")}
    budget = Budget(0.7, measure, times if measure == "ms" else None, panel=4)
    report = prune_channels(
        model, samples(20), budget=budget, importance="magnitude", repairs=False, multiple=4
    ).report
    assert report.cost_left <= 0.7 * report.cost
    assert {layer.width_left % 4 for layer in report.layers if layer.width != 3} == {0}


@pytest.mark.parametrize("text", ["60% bytes", "0.4 kB", "300 B", "30 kMACs"])
def test_budgets_are_shares_or_amounts(text):
    model = chain()
    whole = prune_channels(
        model, samples(2), budget=1.0, importance="magnitude", repairs=False
    ).report
    budget = parse_budget(text)
    report = prune_channels(
        model, samples(2), budget=budget, importance="magnitude", repairs=False, multiple=4
    ).report
    costs = {
        "bytes": sum(layer.bytes for layer in whole.layers),
        "macs": sum(layer.macs for layer in whole.layers),
    }
    assert report.cost == costs[budget.measure]
    allowed = 0.6 * report.cost if budget.amount is None else budget.amount
    assert report.cost_left <= allowed
    assert report.cost_left < report.cost or allowed >= report.cost


def test_what_has_no_weights_counts_in_a_budget_of_time():
    model = chain()
    times = {str(node.name): 1.0 for node in model.graph if node.op_type in ("Conv", "Gemm")}
    layers = sum(times.values())
    budget = Budget(1.0, "ms", {**times, "others": 2.0}, panel=4, amount=0.8 * layers + 2)
    report = prune_channels(
        model, samples(2), budget=budget, importance="magnitude", repairs=False, multiple=4
    ).report
    assert report.cost == pytest.approx(layers)
    assert report.cost_left <= 0.8 * layers
    with pytest.raises(
        EdgekitError, match=r"1\.5 ms cannot be reached: what has no weights costs 2"
    ):
        prune_channels(model, samples(2), budget=replace(budget, amount=1.5))
    with pytest.raises(EdgekitError, match=r"at most, .* ms, not to .* as 2.001 ms asks"):
        prune_channels(
            model,
            samples(2),
            budget=replace(budget, amount=2.001),
            importance="magnitude",
            repairs=False,
        )


@pytest.mark.parametrize(
    "value", ["", "5 apples", "50% kB", "1.5", "100%", 0, 1, True, None, "-1 ms"]
)
def test_what_is_no_budget_says_what_one_is(value):
    with pytest.raises(EdgekitError, match="50% ms"):
        parse_budget(value)


def test_what_cannot_be_done_is_said():
    with pytest.raises(EdgekitError, match="at most"):
        prune_channels(chain(), samples(2), budget=0.001, importance="magnitude", repairs=False)
    with pytest.raises(CalibrationError, match="no calibration samples"):
        prune_channels(chain(), [], budget=0.5)
    with pytest.raises(EdgekitError, match="above 0"):
        prune_channels(chain(), samples(1), budget=1.5)
    with pytest.raises(EdgekitError, match="importance"):
        prune_channels(chain(), samples(1), budget=0.5, importance="luck")
    with pytest.raises(EdgekitError, match="time of each layer"):
        Budget(0.5, "ms")


def test_running_onward_gives_what_running_from_the_start_gives(tmp_path):
    model, given = chain(), samples(3)
    layers = [layer for layer in map(find_rows, model.graph) if layer is not None]
    onward = Onward(model, given, tmp_path)
    for layer in layers:
        names = [layer.source, layer.result]
        found = list(onward.run(layer.node, names))
        for (index, values), (again, wanted) in zip(found, walk(model, given, names), strict=True):
            assert index == again
            for name in names:
                np.testing.assert_allclose(values[name], wanted[name], rtol=1e-5, atol=1e-6)
        # What is behind meets the new weights.
        put_weights(model.graph, layer, layer.weights * 1.5, layer.bias)
    assert len(list(tmp_path.iterdir())) <= 2 * len(given)
