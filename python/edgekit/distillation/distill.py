"""`distill`: the float network teaches its smaller, rounded self on inputs without labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgekit.converters.calibrate import METHODS, calibrate
from edgekit.converters.can_hold import make_int4
from edgekit.converters.check_sizes import check_sizes
from edgekit.converters.fix_shapes import Shapes, fix_shapes
from edgekit.converters.fold_branches import Constants
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes import simplify
from edgekit.converters.quantize import quantize as quantize_graph
from edgekit.converters.read_model import Source, read_model
from edgekit.converters.read_onnx import get_source_digest
from edgekit.converters.write_onnx import write_onnx
from edgekit.data import Preprocessing, Sample, Samples, read_samples
from edgekit.distillation.network import GraphNetwork
from edgekit.distillation.quantized_network import QuantizedNetwork
from edgekit.distillation.settings import Settings
from edgekit.distillation.settle import find_zeros, settle
from edgekit.distillation.solver import takes_solver
from edgekit.distillation.sparsity import Growth, read_growth
from edgekit.distillation.train import Training, train
from edgekit.progress import Progress, ignore_progress
from edgekit.session import OnnxSession
from edgekit.targets.errors import EdgekitError, ModelError

NONE, INT8, INT4 = "none", "int8", "int4"
QUANTIZED = (NONE, INT8, INT4)
# A file of codes that ONNX Runtime runs and `deploy` reads back as they are.
_STYLE = "ort-arm"
# The same without codes.
_FLOAT_STYLE = "tensorrt-float"
# The share of steps before which a pruned network is not rounded.
_ROUND_FROM = 0.5
# Samples that ranges are learned from, spread evenly over all.
_CALIBRATED = 128


@dataclass(frozen=True)
class Distilled:
    """What came of it.

    Attributes:
        path: The file.
        training: What was done.
        quantize: "none" of a float file; of another, its codes are those that were trained.
        zeros: The share of zeros of each layer that has any, by name.
    """

    path: Path
    training: Training
    quantize: str
    zeros: Mapping[str, float]

    def describe(self) -> str:
        """Returns it in a line or two."""
        training = self.training
        end = "" if training.steps == training.planned else f" of {training.planned}, ended early"
        return (
            f"{self.path}: {training.steps} steps{end}, on {training.trained} samples; loss on {training.held_out} "
            f"held out {training.loss_before:.4g} before, {training.loss_after:.4g} after step {training.best_step}; "
            f"{100 * training.zeros:.1f} % of the layers' weights are 0"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns it in a form that JSON can hold."""
        training = self.training
        return {
            "path": str(self.path),
            "quantize": self.quantize,
            "steps": training.steps,
            "planned": training.planned,
            "best_step": training.best_step,
            "loss_before": training.loss_before,
            "loss_after": training.loss_after,
            "trained": training.trained,
            "held_out": training.held_out,
            "zeros": training.zeros,
            "layers": dict(self.zeros),
            "history": [list(each) for each in training.history],
        }


def distill(
    model: Any,
    *,
    calibration: Any,
    output: str | os.PathLike[str],
    student: Any = None,
    prune: Mapping[str, float] | None = None,
    layers: Sequence[str] = (),
    quantize: str = INT8,
    formats: Mapping[str, NumberFormat] | None = None,
    ranges: str = "minmax",
    preprocessing: Preprocessing | None = None,
    example_inputs: Any = None,
    constants: Constants | None = None,
    shapes: Shapes | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    **settings: Any,
) -> Distilled:
    """Trains a compressed copy of a float network to answer as the network does, and writes it.

    Args:
        model: The teacher: as for `deploy`.
        calibration: Inputs to learn from, as for `deploy`; the more the better, labels are not wanted.
        output: The ONNX file to write. With codes, `deploy` keeps these, and its ranges, as they are; of a float file
            it keeps the zeros.
        student: A pruned copy of the network, as for `deploy` or as a simplified graph, whose inputs and outputs have
            the same names; None: the network itself. Weights of its layers that are exactly 0 stay 0.
        prune: Zeros that it gets while it is trained, a pattern and its share of zeros: ``{"unstructured": 0.8}``,
            ``{"4x32": 0.5}``.
        layers: Names of the layers that get them; all large ones by default.
        quantize: "int8", "int4" weights, or "none".
        formats: Number formats of single layers, as for `deploy`.
        ranges: How ranges of activations are chosen from calibration.
        preprocessing: How pictures become inputs.
        example_inputs: Of a torch.nn.Module.
        constants: Inputs that are always the same, by name.
        shapes: Of inputs whose dimensions the model leaves open.
        checkpoint: File to go on from, where it exists, and to save to.
        threads: That torch computes with; the result is the same for equal numbers of them.
        progress: Called with the name of a stage, how much is done and how much there is.
        **settings: Fields of `Settings`: steps, epochs or minutes, batch, learning_rate and others.

    Raises:
        ModelError: A network cannot be read or trained through; names the node.
        CalibrationError: Samples are missing or do not fit.
        ToolError: torch is missing.
        EdgekitError: An argument is out of its range, or the checkpoint is another's.
    """
    chosen = _read_settings(settings)
    if quantize not in QUANTIZED:
        raise EdgekitError(f"quantize={quantize!r} is not known; there are {', '.join(QUANTIZED)}")
    if ranges not in METHODS:
        raise EdgekitError(f"ranges={ranges!r} is not known; there are {', '.join(METHODS)}")
    if formats and quantize == NONE:
        raise EdgekitError('formats of single layers do not go with quantize="none"')
    growth: Growth | None = None
    if prune is not None:
        growth = read_growth(prune, layers, spread=chosen.spread)
    if chosen.round_from is None or quantize == NONE:
        is_pruned = prune is not None or student is not None
        chosen = replace(chosen, round_from=_ROUND_FROM if is_pruned and quantize != NONE else 0.0)
    tell = progress or ignore_progress
    path = Path(output)
    if path.suffix != ".onnx":
        raise EdgekitError(f"{path}: what is written is an .onnx file")

    def read(given: Any, *, codes: bool = False) -> tuple[Source, ir.Model]:
        source = read_model(
            given, example_inputs=example_inputs, constants=constants, shapes=shapes
        )
        if source.records and not codes:
            raise ModelError(f"{source.name} is quantized already: distillation starts from floats")
        fix_shapes(source.graph, shapes or {})
        simplify(source.graph)
        check_sizes(source.graph)
        return source, source.graph

    tell("reading", 0, 1)
    source, teacher_graph = read(model)
    if student is None or isinstance(student, ir.Model):
        student_graph = (teacher_graph if student is None else student).clone()
    else:
        # What codes stand for are floats, and where they end is a Clip.
        student_graph = read(student, codes=True)[1]
    _check_alike(teacher_graph, student_graph)
    samples = read_samples(
        calibration, OnnxSession(source.reference, threads).inputs, preprocessing
    )
    tell("reading", 1, 1)
    if growth is not None and takes_solver(student_graph, growth, chosen.masks):
        growth = replace(growth, solver=True)
    network: GraphNetwork
    with _threads(threads):
        teacher = GraphNetwork(teacher_graph)
        if quantize == NONE:
            network = GraphNetwork(student_graph)
        else:
            network = _make_quantized(
                student_graph, samples, quantize, dict(formats or {}), ranges, chosen, tell
            )
        training = train(
            teacher,
            network,
            samples,
            chosen,
            growth=growth,
            checkpoint=None if checkpoint is None else Path(checkpoint),
            key=_make_key(
                chosen,
                samples,
                teacher_graph,
                student_graph,
                (quantize, ranges, prune, layers, formats),
            ),
            progress=tell,
        )
    tell("writing", 0, 1)
    if isinstance(network, QuantizedNetwork):
        trained = settle(network)
        zeros = find_zeros(trained)
        write_onnx(trained, path, style=_STYLE)
    else:
        network.store()
        zeros = find_zeros(student_graph)
        write_onnx(student_graph, path, style=_FLOAT_STYLE)
    tell("writing", 1, 1)
    return Distilled(path, training, quantize, zeros)


def _read_settings(given: Mapping[str, Any]) -> Settings:
    known = Settings.__dataclass_fields__
    unknown = [name for name in given if name not in known]
    if unknown:
        raise EdgekitError(
            f"distill has no argument {unknown[0]!r}; settings are {', '.join(known)}"
        )
    return replace(Settings(), **given)


def _make_quantized(
    graph: ir.Model,
    samples: Samples,
    quantize: str,
    formats: dict[str, NumberFormat],
    ranges: str,
    settings: Settings,
    tell: Progress,
) -> QuantizedNetwork:
    if quantize == INT4:
        formats = {**make_int4(graph.graph), **formats}
    count = min(len(samples), _CALIBRATED)
    chosen = [samples[index * len(samples) // count] for index in range(count)]

    def make(model: ir.Model, taken: Sequence[Sample]) -> ir.Model:
        learned = calibrate(
            model, taken, progress=lambda done, total: tell("calibrating", done, total)
        )
        return quantize_graph(model, learned, method=ranges, formats=formats, tables=False)

    return QuantizedNetwork(graph, make, chosen, settings)


def _check_alike(teacher: ir.Model, student: ir.Model) -> None:
    for what, a, b in (
        ("inputs", teacher.graph.inputs, student.graph.inputs),
        ("outputs", teacher.graph.outputs, student.graph.outputs),
    ):
        names, others = [str(v.name) for v in a], [str(v.name) for v in b]
        if names != others:
            raise ModelError(
                f"the student's {what} are {', '.join(others)}, and the network's {', '.join(names)}: "
                "they must be the same"
            )


def _make_key(
    settings: Settings, samples: Samples, teacher: ir.Model, student: ir.Model, rest: object
) -> str:
    parts = (
        settings.digest,
        samples.digest,
        get_source_digest(teacher),
        get_source_digest(student),
        repr(rest),
        torch.__version__,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextmanager
def _threads(count: int) -> Any:
    """Lets torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
