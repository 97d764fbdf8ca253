"""The network that a deployment is made of: read, bound to its sizes, simplified, with samples to run it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgekit.converters.bind_size import Binding, find_bindings
from edgekit.converters.can_hold import make_int4, make_parts, read_formats
from edgekit.converters.check_sizes import check_sizes
from edgekit.converters.fix_shapes import fix_shapes
from edgekit.converters.lower import refuse_control
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.own_scales import keep_own_scales
from edgekit.converters.passes import simplify
from edgekit.converters.prune.record import mark_zeros
from edgekit.converters.read_model import Source, read_model
from edgekit.converters.read_onnx import get_source_digest
from edgekit.converters.select_branches import CONTROL
from edgekit.data import Samples, read_samples
from edgekit.forms import INT4, NATIVE, PARTS, TFLITE, Recipe
from edgekit.open_sizes import take_batch, take_shapes
from edgekit.progress import Progress
from edgekit.request import Request
from edgekit.session import OnnxSession
from edgekit.sizes import bind_sizes
from edgekit.targets.errors import EdgekitError
from edgekit.task_metadata import check_labels, describe_for_tasks, read_labels


@dataclass(frozen=True)
class OwnScales:
    """A model that was quantized already, with its own scales.

    Attributes:
        quantized: With all records that the forms can hold.
        written: What the forms are written from.
    """

    quantized: ir.Model
    written: ir.Model


@dataclass(frozen=True)
class Subject:
    """What a deployment is made of.

    Attributes:
        source: The model as it was read.
        graphs: It at each size, simplified; the first is the one that is measured.
        samples: To calibrate on.
        float_session: Runs the model as it was given.
        recipe: What is built.
        labels: Names of the classes; empty where they are not known.
        own: Where the model's own scales are kept.
    """

    source: Source
    graphs: list[ir.Model]
    samples: Samples
    float_session: OnnxSession
    recipe: Recipe
    labels: tuple[str, ...]
    own: OwnScales | None

    @property
    def graph(self) -> ir.Model:
        """The network at its first size."""
        return self.graphs[0]


def read_subject(
    model: Any, example_inputs: Any, calibration: Any, request: Request, tell: Progress
) -> Subject:
    """Reads what `deploy` was given.

    Args:
        model: As for `deploy`.
        example_inputs: As for `deploy`.
        calibration: As for `deploy`.
        request: Its other arguments, checked.
        tell: Is told when it begins and ends.

    Raises:
        ModelError: The model cannot be read, or the form cannot hold it.
        CalibrationError: Samples are missing or do not fit the model.
        EdgekitError: An argument does not fit the model.
    """
    forms, sizes, preprocessing = request.forms, request.sizes, request.preprocessing
    fixed = NATIVE in forms or TFLITE in forms
    tell("reading", 0, 1)
    source = read_model(
        model,
        example_inputs=example_inputs,
        constants=request.constants,
        shapes=sizes[0] if len(sizes) == 1 else None,
    )
    graphs = bind_sizes(source.graph, sizes) if len(sizes) > 1 else [source.graph]
    graph = graphs[0]
    names = read_labels(request.labels)
    about = describe_for_tasks(source.name, names, preprocessing) if TFLITE in forms else None
    digest = get_source_digest(graph)
    if len(sizes) == 1:
        fix_shapes(graph, sizes[0])
    check_labels(names, graph.graph.outputs[0])
    float_session = OnnxSession(source.reference, request.threads)
    samples = read_samples(calibration, float_session.inputs, preprocessing)
    if (
        len(sizes) == 1
        and any(node.op_type in CONTROL for node in graph.graph)
        and any(spec.shape.count(None) for spec in float_session.inputs)
    ):
        # Which side of a branch is taken may depend on sizes that the model leaves open.
        whole = {**{name: array.shape for name, array in samples[0].items()}, **sizes[0]}
        settled = read_model(
            model, example_inputs=example_inputs, constants=request.constants, shapes=whole
        )
        # One that stays is better off with what its sides may be given.
        if not any(node.op_type in CONTROL for node in settled.graph.graph):
            source, graph = settled, settled.graph
            graphs = [graph]
            fix_shapes(graph, whole)
    if fixed:
        refuse_control(graph)
    if len(sizes) == 1 and fixed:
        take_shapes(graph, samples)
    own = None
    bindings: tuple[Binding, ...] = ()
    if source.records and request.quantize == "auto":
        first, *others = [keep_own_scales(bound, source.records) for bound in graphs]
        own = OwnScales(first, keep_own_scales(graph, source.records, source.dynamic))
        bindings = find_bindings([first, *others], sizes)
    for bound in graphs:
        simplify(bound)
        if fixed:
            take_batch(bound, request.batch)
        check_sizes(bound)
        mark_zeros(bound)
    if own is None:
        bindings = find_bindings(graphs, sizes)
    formats = dict(request.formats)
    if request.quantize == INT4:
        formats = {**make_int4(graph.graph), **formats}
    if request.quantize in PARTS:
        formats = {**make_parts(graph.graph, PARTS[request.quantize]), **formats}
    recipe = Recipe(
        request.profile,
        forms,
        digest,
        request.batch,
        request.threads,
        request.onnx_style,
        "int8" if request.quantize in ("auto", INT4, *PARTS) else request.quantize,
        about,
        request.states,
        source.graph,
        bindings,
        formats,
    )
    if formats:
        _check_formats(graph, formats, recipe, is_own=own is not None)
    tell("reading", 1, 1)
    return Subject(source, graphs, samples, float_session, recipe, names, own)


def _check_formats(
    graph: ir.Model, formats: Mapping[str, NumberFormat], recipe: Recipe, *, is_own: bool
) -> None:
    """Refuses formats of single layers where there is nothing to choose, or no such layer."""
    if recipe.is_real:
        raise EdgekitError(
            f"formats of single layers do not go with onnx_style={recipe.onnx_style!r}"
        )
    if is_own:
        raise EdgekitError(
            "formats needs ranges of its own, and the model is quantized already: quantize='int8' calibrates it anew"
        )
    read_formats(graph.graph, formats)
