"""What an error at a layer's result costs the answers: measured, by noise."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgekit.converters.calibrate.observe import Sample, make_session
from edgekit.converters.prune.channels.observe import run, run_one

# Samples that noise is added to, and its part of the standard deviation.
_SAMPLES = 8
_NOISE = 0.1
_SEED = 21

Floats = npt.NDArray[np.float32]


def measure_prices(
    model: ir.Model, nodes: Sequence[str], samples: Collection[Sample]
) -> dict[str, float]:
    """Returns what noise at the results of nodes does to the answers.

    Normal noise of a tenth of each channel's standard deviation is added to one result at a time. The price is the
    variance that the answers get by it over their own, in parts of that of the noise over the result's.

    Args:
        model: A float graph.
        nodes: Names of its nodes, the first results of which are meant.
        samples: Some of them are used.

    Raises:
        CalibrationError: A sample does not fit the model.
        ModelError: ONNX Runtime cannot run it.
    """
    used = list(islice(samples, _SAMPLES))
    wanted = set(nodes)
    results = {str(n.name): str(n.outputs[0].name) for n in model.graph if n.name in wanted}
    if not results or not used:
        return {}
    spreads, shapes = _find_spreads(model, list(results.values()), used)
    noisy = model.clone()
    inputs = _add_inputs(noisy, set(results.values()))
    answers = [str(v.name) for v in noisy.graph.outputs if v.dtype == ir.DataType.FLOAT]
    session = make_session(noisy, [])

    def answer(index: int, noise: dict[str, Floats]) -> list[Floats]:
        nothing = {
            name: np.zeros((1,) * len(shape), np.float32) for name, shape in shapes[index].items()
        }
        given = {inputs[name]: array for name, array in {**nothing, **noise}.items()}
        return run_one(session, answers, {**used[index], **given})

    clean = [answer(index, {}) for index in range(len(used))]
    spans = [max(float(np.var([each[i] for each in clean])), 1e-30) for i in range(len(answers))]
    prices = {}
    for node, name in results.items():
        errors = []
        for index in range(len(used)):
            random = np.random.default_rng([_SEED, index])
            noise = random.standard_normal(shapes[index][name], np.float32) * spreads[name]
            after = answer(index, {name: np.float32(_NOISE) * noise})
            errors += [
                float(np.mean((a - b) ** 2)) / span
                for a, b, span in zip(after, clean[index], spans, strict=True)
            ]
        prices[node] = float(np.mean(errors)) / _NOISE**2 if errors else 1.0
    return prices


def _find_spreads(
    model: ir.Model, names: Sequence[str], samples: Collection[Sample]
) -> tuple[dict[str, Floats], list[dict[str, tuple[int, ...]]]]:
    """Returns the standard deviation of each channel of values, as it broadcasts to them, and shapes by sample."""
    sums: dict[str, list[npt.NDArray[np.float64]]] = {}
    shapes: list[dict[str, tuple[int, ...]]] = []
    for _, values in run(model, samples, names):
        shapes.append({name: values[name].shape for name in names})
        for name in names:
            array = np.asarray(values[name], np.float64)
            # Images have their channels in front of their places, rows behind them.
            channel = 1 if array.ndim == 4 else array.ndim - 1
            others = tuple(axis for axis in range(array.ndim) if axis != channel)
            parts = [array.mean(others, keepdims=True), (array**2).mean(others, keepdims=True)]
            sums[name] = [a + b for a, b in zip(sums.get(name, (0, 0)), parts, strict=True)]
    spreads = {}
    for name, (first, second) in sums.items():
        variance = second / len(shapes) - (first / len(shapes)) ** 2
        spreads[name] = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
    return spreads, shapes


def _add_inputs(model: ir.Model, names: set[str]) -> dict[str, str]:
    """Adds to each value an input of the graph; returns their names."""
    inputs = {}
    for node in tuple(model.graph):
        for value in node.outputs:
            if value.name not in names:
                continue
            noise = ir.Value(
                name=f"{value.name}:noise",
                type=ir.TensorType(ir.DataType.FLOAT),
                shape=None if value.shape is None else ir.Shape([None] * value.shape.rank()),
            )
            model.graph.inputs.append(noise)
            added = ir.node("Add", [value, noise], name=f"{value.name}:noisy")
            added.outputs[0].name = f"{value.name}:noisy"
            added.outputs[0].type, added.outputs[0].shape = value.type, value.shape
            value.replace_all_uses_with(added.outputs[0], replace_graph_outputs=True)
            added.replace_input_with(0, value)
            model.graph.insert_after(node, added)
            inputs[str(value.name)] = str(noise.name)
    return inputs
