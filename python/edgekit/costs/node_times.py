"""What each node of a float graph takes as int8, on this machine or as modelled for a board: for budgets in time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.lower import lower
from edgekit.converters.quantize import quantize
from edgekit.costs.cost_model import CostModel
from edgekit.costs.layer_costs import open_plan, sum_by_node, time_layers


def time_nodes(
    graph: ir.Model,
    calibration: Calibration,
    *,
    isa: str,
    model: CostModel | None = None,
    ranges: RangeChoice | None = None,
    batch: int = 1,
    threads: int = 1,
) -> dict[str, float]:
    """Returns the milliseconds of each node in the native int8 form, conversions left out.

    Args:
        graph: A float graph, simplified.
        calibration: What calibration learned of it.
        isa: The instruction set of the plan.
        model: What layers cost on a board; None where plans for ``isa`` run here: they are timed.
        ranges: How ranges are chosen; from the smallest to the largest value, if not given.
        batch: What an open first dimension becomes.
        threads: Threads of a session.

    Raises:
        ModelError: The graph has no int8 form.
    """
    choice = ranges or RangeChoice("minmax")
    program = lower(quantize(graph, calibration, method=choice), batch)
    if model is not None:
        times = model.time_layers(program)
    else:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            plan = Path(folder) / "whole.plan"
            times = time_layers({"": open_plan(program, isa, threads, plan)})[""]
    costs = sum_by_node(graph.graph, program, times)
    return {name: microseconds / 1000 for name, microseconds in costs.items()}
