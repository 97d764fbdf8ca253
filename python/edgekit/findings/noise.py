"""Measures the noise that each layer alone leaves in the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import onnx_ir as ir

from edgekit.choosing.closest import to_decibels
from edgekit.converters.noise import Switched, list_grids
from edgekit.data import Sample
from edgekit.report import Report
from edgekit.targets.errors import ModelError

# About how long it may take on several samples, and on one.
_SECONDS = 3.0
_LONGEST = 20.0
_MOST_SAMPLES = 8
# How operators that make codes of an input are named, behind its name.
_QUANTIZE = ":quantize"


def add_noise(
    report: Report, graph: ir.Model, written: ir.Model, samples: Sequence[Sample]
) -> Report:
    """Returns the report with the noise of each layer's output, where measuring it takes seconds.

    The float network runs with one value rounded to the codes that it has in the deployed one, and everything else as
    it was; what its answers lose is that layer's. What rounding its weights costs is not in it.

    Args:
        report: With the native form's layers.
        graph: The float network, simplified.
        written: The network that the forms were written from, with its grids.
        samples: Calibration samples.
    """
    grids = list_grids(written)
    if not report.layers or not grids or not samples:
        return report
    try:
        switched = Switched(graph, grids, samples[:1])
        begin = time.perf_counter()
        switched.measure(())
        each = max((time.perf_counter() - begin) * len(grids), 1e-9)
        if each > _LONGEST:
            words = f"The noise of single layers was not measured: {len(grids)} runs would take about {each:.0f} s."
            return replace(report, noise=words)
        count = max(1, min(_MOST_SAMPLES, len(samples), int(_SECONDS / each)))
        if count > 1:
            chosen = [samples[number * len(samples) // count] for number in range(count)]
            switched = switched.on(chosen)
        noise = {name: switched.measure((name,)) for name in grids}
    except ModelError as error:
        return replace(report, noise=f"The noise of single layers was not measured: {error}")
    names = {layer.name for layer in report.layers}
    by_layer = _by_layer(graph.graph, noise, names)
    layers = [
        replace(layer, noise_db=to_decibels(by_layer[layer.name]))
        if layer.name in by_layer
        else layer
        for layer in report.layers
    ]
    how = (
        f"Answers over its noise: measured on {count} calibration samples, with the output of that layer alone rounded "
        "to its codes and the rest in float32; what rounding weights costs is not in it."
    )
    return replace(report, layers=layers, noise=how)


def _by_layer(graph: ir.Graph, noise: Mapping[str, float], layers: Set[str]) -> dict[str, float]:
    """Returns the noise of what each of ``layers`` makes: the first value with codes behind its node.

    What lies between, such as a clamp, went into the layer.
    """
    found = {f"{name}{_QUANTIZE}": power for name, power in noise.items()}
    for node in graph:
        value: ir.Value | None = node.outputs[0]
        while value is not None and str(value.name) not in noise:
            users = value.consumers()
            inside = len(users) == 1 and (users[0].name or "") not in layers
            value = users[0].outputs[0] if inside else None
        if value is not None:
            found[node.name or ""] = noise[str(value.name)]
    return found
