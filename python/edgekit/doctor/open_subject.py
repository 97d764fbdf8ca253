"""Opens a model file for examination, by its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    if path.suffix != ".onnx":
        raise EdgekitError(f"{path}: not an .onnx file")
    subject = read_subject(path, processor)
    inputs = _describe_inputs(subject)
    if calibration is not None:
        subject.samples = take_samples(calibration, inputs, preprocessing)
        subject.samples_are_real = True
        return subject, ONNX_RULES
    limits = {
        str(value.name): grid.limits
        for value in subject.graph.inputs
        for reader in readers(value)
        if (grid := grid_of(reader)) is not None and grid.is_single and value.name
    }
    subject.samples = make_random_samples(inputs, limits, shapes)
    try:
        if subject.samples:
            _ = subject.answers
    except ModelError:
        # A file that cannot be loaded is a finding; one that cannot be run on such inputs is examined without.
        if not subject.load_problem:
            subject.samples = ()
            del subject.answers
    return subject, ONNX_RULES


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
