"""Measures how much of a network's answers is lost where one value or another is held in int8.

The float model runs with a switch behind every value: off, the value passes; on, it passes through its int8 grid. What
the answers lose with one switch on is that value's noise. Roundings of different values are as good as independent, so
that the powers of their noise add up (Lin, Talathi and Annapureddy, "Fixed point quantization of deep convolutional
networks", 2016).
"""

from __future__ import annotations

import copy
import heapq
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.changed_answers import share_unsettled, without_distributions
from edgekit.converters.quantizable import FIXED, MOVES
from edgekit.converters.quantization import ActivationQuantization, get_quantization
from edgekit.converters.value_ranges import make_grid_by
from edgekit.targets.errors import ModelError

Sample = Mapping[str, npt.NDArray[np.generic]]
Answer = Mapping[str, npt.NDArray[np.generic]]
Progress = Callable[[int, int], None]
# How far answers are from the wanted ones, growing like the power of noise.
Distance = Callable[[Sequence[Answer], Sequence[Answer]], float]

_SWITCHES = "edgekit:switches"
# Groups of values that are tried; to split one takes two.
_TRIES = 32
# How much of the noise may be left by ranges that cut off more: what they cut off is what calibration saw least of.
CUT_OFF = 0.8
# Values that other ranges are tried for.
_RECHOSEN = 12


def relative_noise(wanted: Sequence[Answer], given: Sequence[Answer]) -> float:
    """Returns the power of the differences over that of the wanted answers, of the float output that suffers most.

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it; infinite noise where they are not finite.
    """
    worst = 0.0
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f":
            continue
        power = error = 0.0
        for a, b in zip(wanted, given, strict=True):
            real = a[name].astype(np.float64)
            power += float(np.square(real).sum())
            error += float(np.square(real - b[name].astype(np.float64)).sum())
        noise = error / max(power, np.finfo(np.float64).tiny)
        worst = max(worst, noise if np.isfinite(noise) else np.inf)
    return worst


def worst_noise(wanted: Sequence[Answer], given: Sequence[Answer]) -> float:
    """Returns the noise of the sample and float output that suffer most, over the mean power of that output."""
    worst = 0.0
    for name, first in wanted[0].items() if wanted else ():
        if first.dtype.kind != "f":
            continue
        real = [answer[name].astype(np.float64) for answer in wanted]
        power = sum(float(np.square(array).sum()) for array in real) / len(real)
        for array, answer in zip(real, given, strict=True):
            error = float(np.square(array - answer[name].astype(np.float64)).sum())
            noise = error / max(power, np.finfo(np.float64).tiny)
            worst = max(worst, noise if np.isfinite(noise) else np.inf)
    return worst


def tells_answers(wanted: Sequence[Answer]) -> bool:
    """Returns whether all float outputs are distributions, of which answers can be told."""
    return bool(wanted) and share_unsettled(wanted, wanted) is not None and not _rest(wanted)


def noise_of_answers(wanted: Sequence[Answer], given: Sequence[Answer]) -> float:
    """Returns the square of the share of answers that may be others where `tells_answers`, else `relative_noise`.

    The power of the differences between distributions is that of the few answers of which a network is not sure: two of
    magika's values leave 55.7 and 30.7 dB, and .0051 and .0065 of the answers may be others. `share_unsettled` of all
    answers grows like noise's amplitude, so that the squares of several values add up.

    Args:
        wanted: The float model's outputs for each sample.
        given: The same of what is compared with it.
    """
    share = share_unsettled(wanted, given) if wanted and not _rest(wanted) else None
    return relative_noise(wanted, given) if share is None else share**2


def _rest(wanted: Sequence[Answer]) -> bool:
    """Returns whether a float output is no distribution."""
    return bool(without_distributions(wanted)[0])


def measure_noise(
    model: ir.Model,
    quantized: ir.Model,
    samples: Sequence[Sample],
    *,
    smallest: float,
    progress: Progress | None = None,
    distance: Distance = relative_noise,
) -> dict[str, float]:
    """Returns the noise power that each value of ``quantized`` adds to the answers where it is held in codes.

    It is relative to the power of the answers, of the output that suffers most, unless another ``distance`` is given.
    Values are tried in groups of neighbours; the noisiest group is split in two until all that is left is small or
    single.

    Args:
        model: The float model that was quantized, simplified.
        quantized: What ``quantize`` made of it.
        samples: Inputs to try it on.
        smallest: Noise of a group that need not be split; its values get equal shares.
        progress: Called with how many groups have been tried, and how many are tried at most.
        distance: What noise is: of float's answers and others.

    Raises:
        ModelError: ONNX Runtime cannot run the model.
    """
    grids = list_grids(quantized)
    if not grids or not samples:
        return dict.fromkeys(grids, 0.0)
    switched = Switched(model, grids, samples, distance)
    names = tuple(grids)
    waiting = [(-switched.measure(names), names)]
    tried = 1
    noise: dict[str, float] = {}
    while waiting:
        negative, group = heapq.heappop(waiting)
        if len(group) == 1 or -negative <= smallest or tried + 2 > _TRIES:
            noise.update(dict.fromkeys(group, -negative / len(group)))
            continue
        middle = len(group) // 2
        for part in (group[:middle], group[middle:]):
            heapq.heappush(waiting, (-switched.measure(part), part))
        tried += 2
        if progress is not None:
            progress(tried, _TRIES)
    return noise


def choose_ranges(
    model: ir.Model,
    quantized: ir.Model,
    calibration: Calibration,
    choice: RangeChoice,
    samples: Sequence[Sample],
    noise: Mapping[str, float],
    *,
    smallest: float,
    distance: Distance = relative_noise,
) -> tuple[RangeChoice, dict[str, float]]:
    """Returns ``choice`` with other methods for the noisiest values where those leave less noise, and what is left.

    Args:
        model: The float model that was quantized, simplified.
        quantized: What ``quantize`` made of it by ``choice``.
        calibration: Made from ``model``.
        choice: How ranges have been chosen.
        samples: Inputs to try it on.
        noise: What `measure_noise` returned.
        smallest: Noise of a value that other ranges need not be tried for.
        distance: What noise is.
    """
    graph = quantized.graph
    values = {str(value.name): value for value in graph.inputs}
    for node in graph:
        if node.op_type not in FIXED:
            values.update((str(value.name), value) for value in node.outputs[:1])
    noisy = [name for name in noise if name in values and noise[name] > smallest]
    noisy = sorted(noisy, key=lambda name: -noise[name])[:_RECHOSEN]
    least = {name: (noise[name], choice.of(name)) for name in noisy}
    order = list(METHODS)
    for method in order if noisy else ():
        grids = {
            name: make_grid_by(
                values[name], calibration, replace(choice, method=method, exceptions={})
            )
            for name in noisy
            if choice.of(name) != method
        }
        if not grids:
            continue
        switched = Switched(model, grids, samples, distance)
        for name in grids:
            power, (least_power, chosen) = switched.measure((name,)), least[name]
            cuts_more = order.index(method) > order.index(chosen)
            if power < (CUT_OFF if cuts_more else 1.0) * least_power:
                least[name] = power, method
    found = {name: method for name, (_, method) in least.items() if method != choice.method}
    kept = {name: method for name, method in choice.exceptions.items() if name not in least}
    after = {**noise, **{name: power for name, (power, _) in least.items()}}
    return replace(choice, exceptions={**kept, **found}), after


def list_grids(quantized: ir.Model) -> dict[str, ActivationQuantization]:
    """Returns the grids of the values that are rounded to codes; where codes only move nothing is rounded."""
    graph = quantized.graph
    made = [value for node in graph if node.op_type not in MOVES for value in node.outputs[:1]]
    found = {}
    for value in (*graph.inputs, *made):
        record = get_quantization(value)
        if isinstance(record, ActivationQuantization):
            found[str(value.name)] = record
    return found


class Switched:
    """The float model with a switch behind each of some values, and what it answers with all of them off."""

    def __init__(
        self,
        model: ir.Model,
        grids: Mapping[str, ActivationQuantization],
        samples: Sequence[Sample],
        distance: Distance = relative_noise,
    ) -> None:
        self._distance = distance
        proto = add_switches(ir.to_proto(model), grids)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"the float model with switches can't be run: {error}") from error
        self._names = list(grids)
        self._outputs = [info.name for info in self._session.get_outputs()]
        self._take(samples)

    def on(self, samples: Sequence[Sample]) -> Switched:
        """Returns the same model on other samples; it is not loaded again."""
        other = copy.copy(self)
        other._take(samples)
        return other

    def _take(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        # A run takes one thread, so that its bits do not depend on the machine; samples run side by side.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._threads = max(1, min(cores or 1, len(samples)))
        self._wanted = self._run_all(())

    def measure(self, on: Collection[str]) -> float:
        """Returns the noise of the answers with some switches on."""
        return self._distance(self._wanted, self._run_all(on))

    def _run_all(self, on: Collection[str]) -> list[Answer]:
        if self._threads == 1:
            return [self._run(sample, on) for sample in self._samples]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(lambda sample: self._run(sample, on), self._samples))

    def _run(self, sample: Sample, on: Collection[str]) -> Answer:
        switches = np.array([name in on for name in self._names], np.bool_)
        try:
            values = self._session.run(self._outputs, {**sample, _SWITCHES: switches})
        except Exception as error:  # ONNX Runtime's own classes share no public base.
            raise ModelError(f"the float model with switches can't be run: {error}") from error
        return dict(zip(self._outputs, values, strict=True))


def add_switches(
    proto: onnx.ModelProto, grids: Mapping[str, ActivationQuantization]
) -> onnx.ModelProto:
    """Adds the input ``edgekit:switches``, a truth value for each of ``grids``, and a switch behind each value."""
    graph = proto.graph
    made = {name for node in graph.node for name in node.output}
    behind = {name: f"{name}:switched" for name in grids if name not in made}
    before = {name: f"{name}:real" for name in grids if name in made}
    nodes: list[onnx.NodeProto] = []
    places = {name: place for place, name in enumerate(grids)}
    helper = onnx.helper

    def switch(name: str) -> None:
        source, result = before.get(name, name), behind.get(name, name)
        record = grids[name]
        constants: dict[str, npt.NDArray[np.generic]] = {
            "place": np.array(places[name], np.int64),
            "scale": np.array(record.scale, np.float32),
            "zero_point": np.array(record.zero_point, np.int8),
        }
        for key, array in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}:{key}"))
        grid = [f"{name}:scale", f"{name}:zero_point"]
        through = _branch(
            ("QuantizeLinear", [source, *grid], f"{name}:codes"),
            ("DequantizeLinear", [f"{name}:codes", *grid], f"{name}:rounded"),
        )
        past = _branch(("Identity", [source], f"{name}:passed"))
        place = [_SWITCHES, f"{name}:place"]
        nodes.append(helper.make_node("Gather", place, [f"{name}:on"], name=f"{name}:look"))
        nodes.append(
            helper.make_node(
                "If",
                [f"{name}:on"],
                [result],
                name=f"{result}:switch",
                then_branch=through,
                else_branch=past,
            )
        )

    for name in behind:
        switch(name)
    for node in graph.node:
        node.input[:] = [behind.get(name, name) for name in node.input]
        outputs = list(node.output)
        node.output[:] = [before.get(name, name) for name in outputs]
        nodes.append(node)
        for name in outputs:
            if name in before:
                switch(name)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.append(
        onnx.helper.make_tensor_value_info(_SWITCHES, onnx.TensorProto.BOOL, [len(grids)])
    )
    del graph.value_info[:]
    return proto


def _branch(*steps: tuple[str, list[str], str]) -> onnx.GraphProto:
    """Returns a branch of an If: operators with their inputs and output, the last of which is the result."""
    helper = onnx.helper
    nodes = [
        helper.make_node(operator, inputs, [output], name=f"{output}:node")
        for operator, inputs, output in steps
    ]
    result = helper.make_tensor_value_info(steps[-1][2], onnx.TensorProto.FLOAT, None)
    return helper.make_graph(nodes, f"{steps[-1][2]}:branch", [], [result])
