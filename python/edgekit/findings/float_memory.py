"""Counts what the native form would hold with every layer in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgekit.converters.lower import lower
from edgekit.converters.write_plan import write_plan
from edgekit.data import Sample
from edgekit.describe import describe_memory
from edgekit.forms import Recipe, leave_float
from edgekit.open_sizes import bind_shapes
from edgekit.report import Report
from edgekit.targets.errors import ModelError


def add_float_memory(
    report: Report, graph: ir.Model, recipe: Recipe, samples: Sequence[Sample], folder: Path
) -> Report:
    """Returns the report with the memory of a plan of the same network that is float32 throughout.

    Args:
        report: Of a deployment; without a native form, or with several sizes, it stays as it is.
        graph: The float network, simplified.
        recipe: What was built.
        samples: Of calibration; sizes that the network leaves open are theirs.
        folder: Takes the plan, which goes again.
    """
    if report.memory is None or recipe.sizes:
        return report
    try:
        program = lower(leave_float(bind_shapes(graph, samples)), recipe.batch)
    except ModelError:
        # The native form holds it in codes alone.
        return report
    path = folder / "all-float32.plan"
    write_plan(program, path, isa=recipe.isa, target="host", source_digest="0" * 64)
    memory = describe_memory(path)
    path.unlink()
    return replace(report, float_memory=memory)
