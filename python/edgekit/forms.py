"""Builds the forms of one network, native, ONNX and TFLite, from one quantized graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgekit import _native
from edgekit.choosing.tuning import Tuning
from edgekit.converters.bind_size import Binding, bind_size, open_sizes
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.compensate import Hessians
from edgekit.converters.doctor.processor import ONNX_RUNTIME, Processor
from edgekit.converters.lower import fuse_floats, lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.passes.fuse_clamps import get_clamp
from edgekit.converters.program import Program
from edgekit.converters.quantization import keep_float as stay_float
from edgekit.converters.quantize import quantize
from edgekit.converters.quantize.tables import quantize_tables
from edgekit.converters.write_onnx import get_style, write_onnx
from edgekit.converters.write_plan import PlanSummary, write_plan
from edgekit.engine import write_engine_files
from edgekit.session import NativeSession, OnnxSession, Session, TfliteSession
from edgekit.states import describe_states
from edgekit.targets.profile import Profile

if TYPE_CHECKING:
    from edgekit.converters.tflite import About, TfliteSummary

NATIVE = "native"
ONNX = "onnx"
TFLITE = "tflite"
# int8, with weights of int4 wherever they can be.
INT4 = "int4"
# int8 products, with codes of 12 bits in parts wherever layers are dense.
PARTS = {each.value: each for each in (NumberFormat.INT12_WEIGHTS, NumberFormat.INT12)}
# The TFLite form with activations of 16 bits and weights of 8.
WIDE = "16x8"
# Those that compute in float32, and how they store weights (a name of ``converters.tflite.Weights``).
FLOAT_ARITHMETICS = {"float32": "float32", "float16": "float16", "dynamic": "int8"}


@dataclass(frozen=True)
class Recipe:
    """What the forms are built for.

    Attributes:
        profile: The board.
        formats: Any of "native", "onnx" and "tflite".
        source_digest: SHA-256 of the source model, in hexadecimal.
        batch: What an open first dimension becomes in the native form.
        threads: Threads of the session that tries the result.
        onnx_style: How the ONNX form is written, a name of ``write_onnx.STYLES``.
        quantize: "int8", or what the TFLite form alone can be: a name of `FLOAT_ARITHMETICS` or `WIDE`.
        about: What the TFLite form tells LiteRT's task tools, or None.
        states: By input, the output that a session of the native form hands on to it.
        source: The network as it was read, which names what the ONNX form leaves open; needed for several sizes.
        sizes: What is different at each size beside the first.
        layer_formats: What nodes are computed in, by their names, where that was asked for.
        hessians: Of the layers' inputs, where weights are rounded by them.
    """

    profile: Profile
    formats: tuple[str, ...]
    source_digest: str
    batch: int
    threads: int
    onnx_style: str
    quantize: str = "int8"
    about: About | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    source: ir.Model | None = None
    sizes: tuple[Binding, ...] = ()
    layer_formats: Mapping[str, NumberFormat] = field(default_factory=dict)
    hessians: Hessians | None = None

    @property
    def isa(self) -> str:
        """The instruction set of the native form."""
        return _native.best_isa() if self.profile.isa == "auto" else self.profile.isa

    @property
    def cache_bytes(self) -> int | None:
        """Level 2 cache of a core, None where it is not known."""
        l2_kib = self.profile.cpu.l2_kib
        return None if l2_kib is None else 1024 * l2_kib

    @property
    def symmetric(self) -> bool:
        """Whether an engine of the ONNX form wants grids whose zero point is 0; all forms then share them."""
        return ONNX in self.formats and get_style(self.onnx_style).symmetric

    @property
    def is_real(self) -> bool:
        """Whether every form has float32 activations, so that ranges do not matter."""
        if self.quantize in FLOAT_ARITHMETICS:
            return True
        return self.formats == (ONNX,) and get_style(self.onnx_style).is_real

    @property
    def chooses_layers(self) -> bool:
        """Whether layers may be int8 or float32."""
        return self.quantize == "int8" and not self.is_real

    @property
    def holds_dynamic(self) -> bool:
        """Whether every form has products of int8 weights with rows of floats."""
        return ONNX not in self.formats or get_style(self.onnx_style).multiplies_dynamically

    @property
    def codes_tables(self) -> bool:
        """Whether embedding tables are int8, which TensorRT does not look up."""
        return ONNX not in self.formats or get_style(self.onnx_style).engine != "tensorrt"

    @property
    def narrow_weights(self) -> bool:
        """Whether the ONNX form is for a CPU on which sums of two products saturate; all forms share its weights."""
        style = get_style(self.onnx_style)
        if ONNX not in self.formats or style.codes != "uint8" or style.engine != ONNX_RUNTIME:
            return False
        architecture = self.profile.system.architecture
        processor = Processor.of(self.profile.name, self.isa, architecture, style.engine)
        return processor.is_x86 and not processor.has_vnni

    @property
    def runs_here(self) -> bool:
        """Whether this machine can execute the native form."""
        return runs_here(self.isa)


@dataclass(frozen=True)
class Forms:
    """The files of one quantized network.

    Attributes:
        ranges: How its ranges were chosen.
        quantized: The graph with its records, where no node that int8 can hold is kept float.
        written: The graph that the forms were written from, maybe with more nodes kept float.
        program: The lowered network, None where the native form was not asked for.
        plan: The native form for the board, or None.
        summary: What `write_plan` said of it, or None.
        onnx: The ONNX form, or None.
        engine: What builds a TensorRT engine of it, by the files' names in a deployment.
        tflite: What `write_tflite` said of the TFLite form, or None.
        session: Runs the network on this machine: a native form for the board's instruction set or, where that does
            not run here, for this machine's (the same bytes); else the ONNX form, or the TFLite form.
    """

    ranges: RangeChoice
    quantized: ir.Model
    written: ir.Model
    program: Program | None
    plan: Path | None
    summary: PlanSummary | None
    onnx: Path | None
    engine: Mapping[str, Path]
    tflite: TfliteSummary | None
    session: Session


def runs_here(isa: str) -> bool:
    """Returns whether this machine can execute plans for ``isa``."""
    return any(info.name == isa and info.built and info.supported for info in _native.isas())


def build_forms(
    graph: ir.Model,
    calibration: Calibration,
    ranges: RangeChoice,
    recipe: Recipe,
    folder: Path,
    keep_float: Mapping[str, str] | None = None,
    dynamic: Collection[str] = (),
    formats: Mapping[str, NumberFormat] | None = None,
) -> Forms:
    """Quantizes ``graph`` and writes its forms to ``folder``.

    Args:
        graph: The float model, simplified; it is left as it is.
        calibration: What calibration learned of it.
        ranges: How ranges are chosen.
        recipe: What to build.
        folder: Is made.
        keep_float: Names of nodes that stay float, and why.
        dynamic: Those of them whose products are of codes that are made at run time; an ONNX form for an engine without
            such products multiplies the numbers that the weights' codes stand for.
        formats: What nodes are computed in, by their names; they come before those of the recipe, and before
            ``keep_float`` and ``dynamic``.

    Raises:
        ModelError: A form cannot hold a node, or a node its format.
    """
    if recipe.quantize in FLOAT_ARITHMETICS:
        return _write_float_form(graph, ranges, recipe, folder)
    if recipe.is_real:
        return _write_float_onnx(graph, ranges, recipe, folder)
    asked = {**recipe.layer_formats, **(formats or {})}
    quantized = quantize(
        graph,
        calibration,
        method=ranges,
        tables=recipe.codes_tables,
        formats=asked,
        hessians=recipe.hessians,
    )
    written = quantized
    if keep_float:
        written = quantize(
            graph,
            calibration,
            method=ranges,
            keep_float=keep_float,
            dynamic=dynamic,
            tables=recipe.codes_tables,
            formats=asked,
            hessians=recipe.hessians,
        )
    return write_forms(quantized, written, ranges, recipe, folder)


def write_forms(
    quantized: ir.Model, written: ir.Model, ranges: RangeChoice, recipe: Recipe, folder: Path
) -> Forms:
    """Writes the forms of a quantized graph to ``folder``, which is made.

    Args:
        quantized: With its records.
        written: The same, maybe with more nodes kept float: what every form holds.
        ranges: How ranges were chosen.
        recipe: What to build.
        folder: Is made.

    Raises:
        ModelError: A form cannot hold a node.
    """
    folder.mkdir(parents=True)
    program = plan = summary = onnx = tflite = None
    engine: dict[str, Path] = {}
    session: Session | None = None
    if NATIVE in recipe.formats:
        program = lower(written, recipe.batch)
        others = _lower_others(written, recipe)
        plan = folder / "model.plan"
        pin = recipe.profile.threads.pin
        summary = _write_plan(program, plan, recipe, recipe.isa, pin, others=others)
        runnable = plan
        if not recipe.runs_here:
            runnable = folder / "host.plan"
            _write_plan(program, runnable, recipe, _native.best_isa(), others=others)
        session = NativeSession(runnable, _native.Plan.open(runnable), recipe.threads)
    if ONNX in recipe.formats:
        onnx = folder / "model.onnx"
        whole = _open_sizes(written, recipe)
        write_onnx(whole, onnx, style=recipe.onnx_style, most_opset=recipe.profile.onnx_opset)
        engine = write_engine_files(whole, folder, recipe.profile, recipe.onnx_style)
        session = session or OnnxSession(onnx, recipe.threads)
    if TFLITE in recipe.formats:
        tflite = _write_tflite(written, folder / "model.tflite", recipe)
        # Opened in any case: what the interpreter refuses is told here, by the name of the file.
        opened = TfliteSession(tflite.path, recipe.threads)
        session = session or opened
    assert session is not None
    return Forms(ranges, quantized, written, program, plan, summary, onnx, engine, tflite, session)


def apply_tuning(forms: Forms, recipe: Recipe, tuning: Tuning, folder: Path) -> Forms:
    """Returns the forms with the plan as ``tuning`` would have it, written to ``folder``."""
    assert forms.program is not None
    plan = folder / "tuned.plan"
    summary = _write_plan(
        forms.program, plan, recipe, recipe.isa, recipe.profile.threads.pin, tuning
    )
    session = NativeSession(plan, _native.Plan.open(plan), recipe.threads)
    return replace(forms, plan=plan, summary=summary, session=session)


def _write_float_form(graph: ir.Model, ranges: RangeChoice, recipe: Recipe, folder: Path) -> Forms:
    """Writes the TFLite form of the float network."""
    from edgekit.converters.tflite import Weights, write_tflite

    folder.mkdir(parents=True)
    whole = leave_float(graph, tables=recipe.quantize == "dynamic")
    program, *others = _lower_unfused(whole, recipe)
    weights = Weights(FLOAT_ARITHMETICS[recipe.quantize])
    path = folder / "model.tflite"
    tflite = write_tflite(program, path, weights=weights, about=recipe.about, sizes=others)
    session = TfliteSession(tflite.path, recipe.threads)
    return Forms(ranges, whole, whole, None, None, None, None, {}, tflite, session)


def _write_float_onnx(graph: ir.Model, ranges: RangeChoice, recipe: Recipe, folder: Path) -> Forms:
    """Writes the ONNX form in a style whose activations are float32."""
    folder.mkdir(parents=True)
    whole = _open_sizes(leave_float(graph, tables=recipe.codes_tables), recipe)
    onnx = folder / "model.onnx"
    write_onnx(
        whole,
        onnx,
        style=recipe.onnx_style,
        most_opset=recipe.profile.onnx_opset,
        hessians=recipe.hessians,
    )
    engine = write_engine_files(whole, folder, recipe.profile, recipe.onnx_style)
    session = OnnxSession(onnx, recipe.threads)
    return Forms(ranges, whole, whole, None, None, None, onnx, engine, None, session)


def leave_float(graph: ir.Model, *, tables: bool = False) -> ir.Model:
    """Returns a copy of ``graph`` whose nodes compute in float32, embedding tables in int8 if ``tables``."""
    whole = graph.clone()
    for node in whole.graph:
        stay_float(node)
    if tables:
        quantize_tables(whole.graph)
    return whole


def _write_tflite(quantized: ir.Model, path: Path, recipe: Recipe) -> TfliteSummary:
    # Its schema comes with an extra, which only this form needs.
    from edgekit.converters.tflite import WideCodes, leave_tables_float, write_tflite

    program, *others = _lower_unfused(quantized, recipe)
    if recipe.quantize != WIDE:
        return write_tflite(program, path, about=recipe.about, sizes=others)
    mixed = leave_tables_float(quantized, program)
    if mixed is not quantized:
        program, *others = _lower_unfused(mixed, recipe)
    clamps = {
        str(value.name): (get_clamp(value).lo, get_clamp(value).hi)
        for node in quantized.graph
        for value in node.outputs
    }
    return write_tflite(
        program, path, about=recipe.about, codes=WideCodes(), clamps=clamps, sizes=others
    )


def _open_sizes(model: ir.Model, recipe: Recipe) -> ir.Model:
    """Returns the network that the ONNX form holds: open in what differs between sizes, where there are several."""
    if not recipe.sizes:
        return model
    assert recipe.source is not None
    return open_sizes(model, recipe.source, recipe.sizes)


def _lower_others(model: ir.Model, recipe: Recipe) -> list[Program]:
    """Returns the programs of the sizes beside the first."""
    return [lower(bind_size(model, size), recipe.batch) for size in recipe.sizes]


def _lower_unfused(model: ir.Model, recipe: Recipe) -> list[Program]:
    """Returns the programs of all sizes as the TFLite form takes them."""
    models = [model, *(bind_size(model, size) for size in recipe.sizes)]
    return [fuse_floats(lower(each, recipe.batch, fuse=False)) for each in models]


def _write_plan(
    program: Program,
    path: Path,
    recipe: Recipe,
    isa: str,
    cores: tuple[int, ...] = (),
    tuning: Tuning | None = None,
    others: Sequence[Program] = (),
) -> PlanSummary:
    cache_bytes = recipe.cache_bytes if tuning is None or tuning.strips else None
    return write_plan(
        program,
        path,
        isa=isa,
        target=recipe.profile.name,
        source_digest=recipe.source_digest,
        metadata={
            **describe_states(program, recipe.states),
            **({} if tuning is None else {"kernels": "measured"}),
        },
        cache_bytes=cache_bytes,
        cores=cores,
        layouts=None if tuning is None else tuning.layouts,
        sizes=others,
    )
