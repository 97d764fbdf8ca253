"""Chooses how ranges are taken from a calibration: by trying, and comparing the outputs with float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgekit.agreement import Outputs, Proportion, relative_error, same_answer
from edgekit.converters.calibrate import Calibration
from edgekit.data import Sample, Samples
from edgekit.forms import Forms, Recipe, build_forms
from edgekit.progress import Progress
from edgekit.session import Session

# How many calibration samples the int8 forms are compared with float on.
_COMPARED_SAMPLES = 64


@dataclass(frozen=True)
class Reference:
    """What the float model answers on some of the samples."""

    samples: list[Sample]
    outputs: list[Outputs]


@dataclass(frozen=True)
class Candidate:
    """The forms with one way to choose ranges, compared with float.

    Attributes:
        forms: The files.
        error: Mean over the samples of the squared error of the outputs, relative to float's squares.
        agreement: On how many samples the largest output is the same.
    """

    forms: Forms
    error: float
    agreement: Proportion


def run_float(session: Session, samples: Samples, progress: Progress) -> Reference:
    """Runs the float model on samples that are spread evenly over all there are."""
    count = min(len(samples), _COMPARED_SAMPLES)
    chosen = [samples[index * len(samples) // count] for index in range(count)]
    outputs: list[Outputs] = []
    for index, sample in enumerate(chosen):
        outputs.append(session.run(sample))
        progress("running float", index + 1, count)
    return Reference(chosen, outputs)


def build_closest(
    graph: ir.Model,
    calibration: Calibration,
    methods: Sequence[str],
    recipe: Recipe,
    reference: Reference,
    folder: Path,
    progress: Progress,
) -> Candidate:
    """Builds the forms with each way to choose ranges; returns those closest to float, the first of equals."""
    candidates = []
    for index, method in enumerate(methods):
        progress("quantizing", index, len(methods))
        forms = build_forms(graph, calibration, method, recipe, folder / method)
        candidates.append(compare(forms, reference))
    progress("quantizing", len(methods), len(methods))
    return min(candidates, key=lambda candidate: candidate.error)


def compare(forms: Forms, reference: Reference) -> Candidate:
    """Runs the samples of ``reference`` on ``forms``."""
    same, error = 0, 0.0
    for sample, wanted in zip(reference.samples, reference.outputs, strict=True):
        outputs = forms.session.run(sample)
        same += same_answer(wanted, outputs)
        error += relative_error(wanted, outputs)
    count = len(reference.samples)
    return Candidate(forms, error / count, Proportion(same, count))
