"""A network is cut down to a share of the time that it takes on a board."""

import numpy as np
import pytest
from float_networks import FloatNet

from edgekit import _native
from edgekit.converters.calibrate import calibrate
from edgekit.converters.prune.channels import Budget, prune_channels
from edgekit.costs.cost_model import CostModel
from edgekit.costs.node_times import time_nodes
from edgekit.targets.profile import load_profile


@pytest.fixture(scope="module")
def network():
    net = FloatNet(0)
    for channels in (32, 32):
        net.values.append(net.active(net.conv(net.values[-1], channels), "Relu"))
    model = net.build()
    random = np.random.default_rng(0)
    return model, [{"x": random.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]


def test_a_board_s_time_is_a_budget(network):
    model, samples = network
    profile = load_profile("rpi4")
    costs = CostModel.of_profile(profile, "arm_neon")
    learned = calibrate(model, samples)
    times = time_nodes(model, learned, isa="arm_neon", model=costs)
    assert set(times) >= {node.name for node in model.graph if node.op_type == "Conv"}
    pruned = prune_channels(
        model,
        samples,
        budget=Budget(0.5, "ms", times, panel=8),
        importance="magnitude",
        repairs=False,
        multiple=8,
    )
    assert pruned.report.cost == pytest.approx(
        sum(times[node.name] for node in model.graph if node.op_type in ("Conv", "Gemm"))
    )
    after = time_nodes(pruned.graph, calibrate(pruned.graph, samples), isa="arm_neon", model=costs)
    assert sum(after.values()) < 0.6 * sum(times.values())


def test_this_machine_s_time_is_measured(network):
    model, samples = network
    times = time_nodes(model, calibrate(model, samples), isa=_native.best_isa(), batch=1)
    assert all(time > 0 for time in times.values())
