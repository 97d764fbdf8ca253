"""Opens a model file for examination, by its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.converters.doctor.onnx_rules import RULES as ONNX_RULES
from edgekit.converters.doctor.onnx_subject import OnnxSubject, read_subject
from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.qdq import grid_of, readers
from edgekit.converters.doctor.rule import Rule
from edgekit.converters.doctor.subject import Subject
from edgekit.data import InputSpec, Preprocessing
from edgekit.doctor.samples import make_random_samples, take_samples
from edgekit.targets.errors import EdgekitError, ModelError

if TYPE_CHECKING:
    from edgekit.converters.doctor.tflite_subject import TfliteSubject

# What is examined, by the ends of files' names.
EXAMINED = (".onnx", ".tflite")
Shapes = Mapping[str, Sequence[int | None]]


def open_subject(
    path: Path,
    processor: Processor,
    calibration: Any,
    preprocessing: Preprocessing | None,
    shapes: Shapes,
) -> tuple[Subject, Sequence[Rule[Any]]]:
    """Returns the file with samples to run it on, and the rules for its kind.

    Raises:
        ModelError: The file is missing or damaged.
        CalibrationError: The samples do not fit it.
        EdgekitError: It is of another kind.
    """
    if not path.exists():
        raise EdgekitError(f"{path}: no such file")
    if path.suffix.lower() == ".onnx":
        subject = read_subject(path, processor)
        inputs = _describe_inputs(subject)
        _give_samples(subject, inputs, _grid_limits(subject), calibration, preprocessing, shapes)
        return subject, ONNX_RULES
    if path.suffix.lower() == ".tflite":
        from edgekit.converters.doctor.tflite_rules import RULES
        from edgekit.converters.doctor.tflite_subject import read_tflite_subject

        other = read_tflite_subject(path, processor)
        _give_samples(other, _describe_tflite(other), {}, calibration, preprocessing, shapes)
        return other, RULES
    raise EdgekitError(f"{path}: neither an .onnx nor a .tflite file")


def _give_samples(
    subject: Subject,
    inputs: Sequence[InputSpec],
    limits: Mapping[str, tuple[float, float]],
    calibration: Any,
    preprocessing: Preprocessing | None,
    shapes: Shapes,
) -> None:
    """Gives ``subject`` the user's samples, or random ones if it runs on them."""
    if calibration is not None:
        subject.samples = take_samples(calibration, inputs, preprocessing)
        subject.samples_are_real = True
        return
    subject.samples = make_random_samples(inputs, limits, shapes)
    try:
        if subject.samples:
            _ = subject.answers
    except ModelError:
        # A file that cannot be loaded is a finding; one that cannot be run on such inputs is examined without.
        if not subject.load_problem:
            subject.samples = ()
            subject.__dict__.pop("answers", None)


def _grid_limits(subject: OnnxSubject) -> dict[str, tuple[float, float]]:
    """Returns the reach of inputs that are quantized at once."""
    return {
        str(value.name): grid.limits
        for value in subject.graph.inputs
        for reader in readers(value)
        if (grid := grid_of(reader)) is not None and grid.is_single and value.name
    }


def _describe_tflite(subject: TfliteSubject) -> list[InputSpec]:
    graph = subject.graph
    return [
        InputSpec(name, graph.tensor(index).signature, graph.tensor(index).type.lower())
        for name, index in graph.file.inputs
    ]


def _describe_inputs(subject: OnnxSubject) -> list[InputSpec]:
    specs = []
    for value in subject.graph.inputs:
        if value.is_initializer():
            continue
        dims = () if value.shape is None else tuple(value.shape)
        shape = tuple(size if isinstance(size, int) else None for size in dims)
        try:
            dtype = "object" if value.dtype is None else np.dtype(value.dtype.numpy()).name
        except TypeError:
            dtype = "object"
        specs.append(InputSpec(str(value.name), shape, dtype))
    return specs
