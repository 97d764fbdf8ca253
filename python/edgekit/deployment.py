"""`deploy`: from a model to a board in one call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgekit.benchmark import benchmark, is_sized, make_plan_inputs
from edgekit.certificate import make_certificate
from edgekit.closest import Candidate, Reference, build_closest, compare, run_float
from edgekit.converters.bind_size import Binding, find_bindings
from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.can_hold import name_formats, read_formats
from edgekit.converters.check_sizes import check_sizes
from edgekit.converters.fix_shapes import fix_shapes
from edgekit.converters.fold_branches import Constants
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.lower import refuse_control
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.own_scales import METHOD as OWN_SCALES
from edgekit.converters.own_scales import describe_rounding, keep_own_scales
from edgekit.converters.passes import simplify
from edgekit.converters.program import Program
from edgekit.converters.read_model import Source, read_model
from edgekit.converters.read_onnx import get_source_digest
from edgekit.converters.select_branches import CONTROL
from edgekit.converters.write_onnx import get_style
from edgekit.cost_model import CostModel
from edgekit.data import Preprocessing, read_samples
from edgekit.describe import describe
from edgekit.engine import check_engine
from edgekit.forms import (
    FLOAT_ARITHMETICS,
    NATIVE,
    ONNX,
    TFLITE,
    WIDE,
    Recipe,
    apply_tuning,
    runs_here,
    write_forms,
)
from edgekit.goal import Evaluate, Goal
from edgekit.manifest import Limits, check_release
from edgekit.minisign import SecretKey
from edgekit.open_sizes import bind_shapes, take_batch, take_shapes
from edgekit.pack import Compilation, Papers, check_output, pack
from edgekit.precision import FLOAT, INT8, MIXED, Contest, choose_precision, slow_down, time_again
from edgekit.progress import Progress, ignore_progress
from edgekit.release import Release, read_key
from edgekit.report import Latency, Layer, Report
from edgekit.restore import Restoration, describe_gain
from edgekit.session import NativeSession, OnnxSession, Session, check_threads, load
from edgekit.sizes import Sizes, bind_sizes, calibrate_sizes, list_sizes
from edgekit.targets.errors import EdgekitError, TargetError
from edgekit.targets.profile import Profile, load_profile
from edgekit.task_metadata import check_labels, describe_for_tasks, read_labels
from edgekit.tuning import Tuning, measure_layouts
from edgekit.usage import Usage

if TYPE_CHECKING:
    from edgekit.delivery.flash import FlashResult
    from edgekit.delivery.measurement import Measurement

FLOAT_FORM = "float, ONNX Runtime"
ONNX_FORM = "int8, ONNX Runtime"
NATIVE_FORM = "int8, native"
_PROFILE_REPEATS = 20


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made.

    Attributes:
        path: The folder: a bundle where the native form is in it.
        source: The float model that was given.
        target: The board.
        calibration: What calibration learned of the model, None where the model's own scales were kept.
        report: Sizes, latency, accuracy, layers.
        program: The lowered network of the native form, None where that was not asked for.
    """

    path: Path
    source: Source
    target: Profile
    calibration: Calibration | None
    report: Report
    program: Program | None = None

    @property
    def plan(self) -> Path | None:
        """The native form, None where it was not asked for."""
        path = self.path / "model.plan"
        return path if path.is_file() else None

    @property
    def onnx(self) -> Path | None:
        """The ONNX form, None where it was not asked for."""
        path = self.path / "model.onnx"
        return path if path.is_file() else None

    @property
    def tflite(self) -> Path | None:
        """The TFLite form, None where it was not asked for."""
        path = self.path / "model.tflite"
        return path if path.is_file() else None

    def load(self, *, threads: int = 1) -> Session:
        """Makes a session of the deployed network on this machine.

        Raises:
            PlanError: It was made for an instruction set that this CPU lacks.
        """
        return load(self.path, threads=threads)

    def benchmark(self, threads: Sequence[int] = (1,), *, seconds: float = 3.0) -> list[Latency]:
        """Times every form that runs on this machine against the float model in ONNX Runtime.

        Args:
            threads: Numbers of threads to time with.
            seconds: About how long to measure for each number of threads.
        """
        return benchmark(
            self._timed_files(), batch=self.report.batch, threads=threads, seconds=seconds
        )

    def benchmark_on(self, address: str, **how: Any) -> Measurement:
        """Measures the bundle on a device: latency, layers, heat and energy; an emulated one gets no times.

        Args:
            address: The device's.
            how: Further arguments of `edgekit.benchmark_on`.

        Raises:
            EdgekitError: As `edgekit.benchmark_on` does.
        """
        from edgekit.delivery.measure import benchmark_on

        return benchmark_on(self.path, address, **how)

    def flash(self, to: str, **how: Any) -> FlashResult:
        """Brings the bundle to a device, has it checked there, and switches to it.

        Args:
            to: The device's address.
            how: Further arguments of `edgekit.flash`.

        Raises:
            EdgekitError: As `edgekit.flash` does.
        """
        from edgekit.delivery.flash import flash

        return flash(self.path, to, **how)

    def _timed_files(self) -> dict[str, Path]:
        """Returns the float model and the forms that run on this machine, by the names to show."""
        files = {FLOAT_FORM: self.source.reference}
        if self.onnx:
            assert self.report.onnx_arithmetic is not None
            files[f"{self.report.onnx_arithmetic}, ONNX Runtime"] = self.onnx
        if self.tflite:
            assert self.report.tflite is not None
            files[f"{self.report.tflite.arithmetic}, LiteRT"] = self.tflite
        if self.plan and runs_here(self.report.isa):
            files[NATIVE_FORM] = self.plan
        return files


def deploy(
    model: Any,
    *,
    example_inputs: Any = None,
    target: str | Path = "host",
    calibration: Any = None,
    preprocessing: Preprocessing | None = None,
    checkpoint: str | Path | None = None,
    evaluate: Evaluate | None = None,
    max_drop: float | None = None,
    quantize: str = "auto",
    precision: str = "auto",
    formats: Mapping[str, NumberFormat | str] | None = None,
    prune: str = "none",
    ranges: str = "auto",
    format: str | Sequence[str] | None = None,
    output: str | Path = "dist",
    onnx_style: str | None = None,
    shapes: Sizes | None = None,
    constants: Constants | None = None,
    states: Mapping[str, str] | None = None,
    labels: str | Path | Sequence[str] | None = None,
    batch: int = 1,
    threads: int = 1,
    tune: bool = False,
    release: int = 1,
    max_ms: float | None = None,
    max_mb: float | None = None,
    sign_with: str | Path | SecretKey | None = None,
    model_license: str | None = None,
    slim: bool = False,
    library: bool = False,
    progress: Progress | None = None,
) -> Deployment:
    """Quantizes a model to int8, packs it for a board, and measures what that did.

    Args:
        model: An ``.onnx`` or ``.tflite`` file, or a torch.nn.Module.
        example_inputs: Of a module: what its ``forward`` takes, as a tensor, a tuple of them, or a dict by its
            parameters' names. Their first dimension is the batch, which stays open.
        target: A board's profile (`edgekit targets` lists them) or the path of your own ``.toml``; "host" is this
            machine.
        calibration: A folder of pictures, an ``.npz``, an array, a mapping of arrays, or an iterable of input dicts.
        preprocessing: How the pictures of a folder become inputs.
        checkpoint: A file that calibration continues from, if it is there, and saves to.
        evaluate: Takes a `Session` and returns a figure, higher is better; called for the float model and for int8. A
            `Classification` is one, of which the bundle's certificate says more.
        max_drop: How much of that figure may be lost.
        quantize: "auto" keeps the scales of a model that is quantized already, whose codes then stay as they are, and
            takes int8 from the calibration for any other; "int8" does so for every model. The TFLite form alone can
            also be "16x8" (int16 activations), "float32", "float16" (weights) or "dynamic" (int8 weights alone).
        precision: Of the layers: "int8" wherever int8 can hold them, or "auto", which leaves those in float32 that
            cost the answers too much, in all forms alike, and where the native form is among these also a layer that is
            faster so, conversions counted: as timed on this machine, or as modelled for a board.
        formats: By the names of nodes, what they are computed in (`NumberFormat` or its name, "int8-rows" say), in all
            forms, whatever it costs; see docs/number-formats.md.
        prune: "none", all that this version knows.
        ranges: How ranges are chosen from the calibration: "minmax", "percentile", "mse", "entropy", or "auto", which
            tries all of them and keeps the one whose outputs on calibration samples come closest to float.
        format: "native", "onnx" or "tflite", or several in a list; by default the board's own.
        onnx_style: The engine that the ONNX form is written for: "ort-x86", "ort-arm" (either with "-qlinear" for
            operators on codes), "ort-uint16" or "ort-int16" (16-bit activations), "openvino", "tensorrt", or
            "tensorrt-float" for GPUs without int8; by default the board's own.
        output: The folder to write: a bundle, if the native form is in it.
        shapes: All dimensions of an input by its name, for models that leave some open. What is not given is taken
            from the calibration samples where the native or the TFLite form needs it, or a branch depends on it. A list
            of such mappings gives several sizes, which share one quantization and its weights: the first one is
            measured and needs samples, further ones may have some (docs/quantization.md, "Several sizes").
        labels: Names of the classes of the first output, or a file with one a line; a bundle tells applications these,
            and with ``preprocessing`` how pictures become inputs, and so does the TFLite form LiteRT's task tools.
        constants: Inputs of an ``.onnx`` file that are always the same, by name, such as a sampling rate. They are no
            inputs any more, and branches that depend on them are taken.
        states: By the name of an input, the output of one run that sessions of the native form hand on to it in the
            next, such as ``{"state": "stateN"}``.
        batch: What an open first dimension becomes in the native and TFLite forms. Sessions take any other count too,
            run in parts of this size.
        threads: Threads for the latency that is measured where the target is this machine.
        tune: Whether the native form's kernels are chosen by measuring instead of by rule, where the target is this
            machine. Takes a few seconds; answers stay the same to the byte, but the file depends on the moment.
        release: Number of the bundle's release, from 1 on. A device that confirmed one takes none that is older.
        max_ms: The most milliseconds that a run on the golden inputs may take on the board, by the median. The board's
            own program checks it there, before it switches to the bundle.
        max_mb: The most memory that the program may hold on the board, in 10^6 bytes, checked likewise.
        model_license: The model's licence, as an SPDX id or in words, for the bundle's bill of materials.
        slim: Whether the board's runner has the kernels and operators of this plan alone; it refuses plans that use
            others.
        library: Whether libedgekit, its header and its CMake package go into the bundle, for applications on the board.
        sign_with: The secret key that signs the bundle, or its file in minisign's format without a password.
        progress: Called with the name of a stage, how much is done and how much there is.

    Raises:
        ModelError: The model cannot be read, or the form cannot hold it.
        CalibrationError: Samples are missing or do not fit the model.
        TargetError: There is no such board, or it cannot take the form.
        ToolError: The board's programs cannot be built, or signing lacks the package `cryptography`.
        SignatureError: ``sign_with`` is no secret key.
        AccuracyError: int8 loses more than ``max_drop``; nothing was written.
        EdgekitError: An argument is out of its range.
    """
    _check_choice("quantize", quantize, ("auto", "int8", WIDE, *FLOAT_ARITHMETICS))
    _check_choice("precision", precision, ("auto", "int8"))
    _check_choice("prune", prune, ("none",))
    _check_choice("ranges", ranges, ("auto", *METHODS))
    if onnx_style is not None:
        get_style(onnx_style)
    if max_drop is not None and evaluate is None:
        raise EdgekitError("max_drop needs evaluate: a callable that measures a session")
    if not isinstance(batch, int) or batch < 1:
        raise EdgekitError(f"batch must be a whole number of at least 1, not {batch!r}")
    check_threads(threads)
    if not isinstance(tune, bool):
        raise EdgekitError(f"tune must be True or False, not {tune!r}")
    if model_license is not None and not (
        isinstance(model_license, str) and model_license.isprintable() and model_license.strip()
    ):
        raise EdgekitError(f"model_license must be a licence's id or name, not {model_license!r}")
    check_release(release)
    limits = Limits.from_units(max_ms, max_mb)
    layer_formats = name_formats(formats)
    sizes = list_sizes(shapes)
    for name, given in (("constants", constants), ("states", states)):
        if given is not None and not isinstance(given, Mapping):
            raise EdgekitError(f"{name} must be a dict by the names of inputs, not {given!r}")
    output = Path(output)
    if output.is_symlink():
        # What it names is written; the link is not replaced.
        try:
            output = output.resolve()
        except (OSError, RuntimeError) as error:
            raise EdgekitError(f"{output}: cannot be written: its links lead nowhere") from error
    check_output(output, _paths(model, calibration, checkpoint))
    profile = load_profile(target)
    forms = _choose_formats(format, profile)
    if quantize in (WIDE, *FLOAT_ARITHMETICS) and forms != (TFLITE,):
        raise EdgekitError(f"quantize={quantize!r} is for format='tflite' alone")
    if layer_formats and quantize in (WIDE, *FLOAT_ARITHMETICS):
        raise EdgekitError(f"formats of single layers do not go with quantize={quantize!r}")
    if ONNX in forms:
        check_engine(profile, onnx_style or profile.onnx_style)
    _check_reach(
        forms,
        {
            "onnx_style": onnx_style,
            "labels": labels,
            "states": states,
            "max_ms": max_ms,
            "max_mb": max_mb,
            "sign_with": sign_with,
            "model_license": model_license,
            "slim": slim,
            "library": library,
        },
    )
    key = read_key(sign_with)
    if tune and (profile.isa != "auto" or NATIVE not in forms):
        raise EdgekitError(
            f"tune measures the native form on this machine: it needs target='host' and format='native', "
            f"not {profile.name} and {' and '.join(forms)}"
        )
    if tune and len(sizes) > 1:
        raise EdgekitError("tune measures one size: give shapes for one")
    tell = progress or ignore_progress

    tell("reading", 0, 1)
    source = read_model(
        model,
        example_inputs=example_inputs,
        constants=constants,
        shapes=sizes[0] if len(sizes) == 1 else None,
    )
    graphs = bind_sizes(source.graph, sizes) if len(sizes) > 1 else [source.graph]
    graph = graphs[0]
    names = read_labels(labels)
    about = describe_for_tasks(source.name, names, preprocessing) if TFLITE in forms else None
    recipe = Recipe(
        profile,
        forms,
        get_source_digest(graph),
        batch,
        threads,
        onnx_style or profile.onnx_style,
        "int8" if quantize == "auto" else quantize,
        about,
        dict(states or {}),
        layer_formats=layer_formats,
    )
    if layer_formats and recipe.is_real:
        raise EdgekitError(
            f"formats of single layers do not go with onnx_style={recipe.onnx_style!r}"
        )
    if len(sizes) == 1:
        fix_shapes(graph, sizes[0])
    check_labels(names, graph.graph.outputs[0])
    float_session = OnnxSession(source.reference, threads)
    samples = read_samples(calibration, float_session.inputs, preprocessing)
    if (
        len(sizes) == 1
        and any(node.op_type in CONTROL for node in graph.graph)
        and any(spec.shape.count(None) for spec in float_session.inputs)
    ):
        # Which side of a branch is taken may depend on sizes that the model leaves open.
        whole = {**{name: array.shape for name, array in samples[0].items()}, **sizes[0]}
        settled = read_model(
            model, example_inputs=example_inputs, constants=constants, shapes=whole
        )
        # One that stays is better off with what its sides may be given.
        if not any(node.op_type in CONTROL for node in settled.graph.graph):
            source, graph = settled, settled.graph
            graphs = [graph]
            fix_shapes(graph, whole)
    if NATIVE in forms or TFLITE in forms:
        refuse_control(graph)
    if len(sizes) == 1 and (NATIVE in forms or TFLITE in forms):
        take_shapes(graph, samples)
    own = None
    bindings: tuple[Binding, ...] = ()
    if source.records and quantize == "auto":
        own, *others = [keep_own_scales(bound, source.records) for bound in graphs]
        own_native = keep_own_scales(graph, source.records, source.dynamic)
        bindings = find_bindings([own, *others], sizes)
    for bound in graphs:
        simplify(bound)
        if NATIVE in forms or TFLITE in forms:
            take_batch(bound, batch)
        check_sizes(bound)
    if own is None:
        bindings = find_bindings(graphs, sizes)
    elif layer_formats:
        raise EdgekitError(
            "formats needs ranges of its own, and the model is quantized already: quantize='int8' calibrates it anew"
        )
    read_formats(graph.graph, layer_formats)
    recipe = replace(recipe, source=source.graph, sizes=bindings)
    tell("reading", 1, 1)
    learned = None
    if own is None:
        learned = calibrate_sizes(graphs, samples, tell, checkpoint)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-") as folder,
        name_full_disk(folder, "forms are tried there; free some space, or set TMPDIR"),
    ):
        reference = run_float(float_session, samples, tell)
        goal = Goal(evaluate, float_session, max_drop)
        contest = None
        if own is not None:
            choice = RangeChoice(OWN_SCALES)
            best = compare(
                write_forms(own, own_native, choice, recipe, Path(folder) / "own"), reference
            )
        else:
            assert learned is not None
            best, contest = _choose_forms(
                graph, learned, ranges, precision, recipe, reference, goal, Path(folder), tell
            )
        tuning = None
        if tune:
            tell("measuring kernels", 0, 1)
            best, tuning = _tune(best, recipe, Path(folder) / "tuning")
            tell("measuring kernels", 1, 1)
        goal.check(best)
        report = describe(source, samples, recipe, best, goal.measure(best), contest)
        if own is not None:
            report = replace(report, notes=[*report.notes, *describe_rounding(own)])
        if tuning is not None:
            report = replace(report, notes=[*report.notes, *tuning.describe()])
        tell("packing", 0, 1)
        papers = Papers(
            Usage(names, preprocessing, float_session.inputs[0].name),
            make_certificate(report, samples, evaluate, float_session, best.forms.session, names),
            model_license or "",
        )
        try:
            compilation = Compilation(slim, library)
            made = Release(release, limits, key)
            pack(output, recipe, best.forms, report, samples, made, papers, compilation)
        except OSError as error:
            raise EdgekitError(f"{output}: cannot be written: {error.strerror or error}") from error
        tell("packing", 1, 1)
    deployment = Deployment(output, source, profile, learned, report, best.forms.program)
    tell("measuring", 0, 1)
    report = _measure(deployment, threads)
    report = replace(report, notes=[*report.notes, *_note_limits(report, limits, threads)])
    deployment = replace(deployment, report=report)
    tell("measuring", 1, 1)
    return deployment


def _choose_forms(
    graph: ir.Model,
    learned: Calibration,
    ranges: str,
    precision: str,
    recipe: Recipe,
    reference: Reference,
    goal: Goal,
    folder: Path,
    tell: Progress,
) -> tuple[Candidate, Contest | None]:
    """Returns the forms whose answers and speed are best, and how the precision of each layer was chosen."""
    real = recipe.is_real
    methods = tuple(METHODS) if ranges == "auto" and not real else (ranges,)
    best = build_closest(graph, learned, methods, recipe, reference, folder, tell, goal.is_met)
    restoration = Restoration(graph, learned, recipe, reference, folder, ranges, tell)
    contest = None
    native = NATIVE in recipe.formats
    if precision == "auto" and recipe.chooses_layers and (native or not goal.is_met(best)):
        tell("comparing int8 with float32", 0, 1)
        profile = recipe.profile
        timed = native and profile.isa == "auto"
        contest = choose_precision(
            bind_shapes(graph, reference.samples),
            learned,
            best.forms.ranges,
            isa=recipe.isa,
            batch=recipe.batch,
            threads=recipe.threads,
            model=None if timed else CostModel.of_profile(profile, recipe.isa),
            folder=folder,
            for_speed=native,
            may_be_dynamic=recipe.holds_dynamic or recipe.formats != (ONNX,),
            formats=recipe.layer_formats,
        )
        tell("comparing int8 with float32", 1, 1)
    if not goal.is_met(best):
        if contest is not None and recipe.holds_dynamic:
            cure = restoration.take_dynamic(best, contest, goal.is_met)
            if cure is not None:
                return cure[0], _time_again(cure[1], cure[0], recipe, folder)
        if ranges == "auto" and not real:
            best = restoration.improve_ranges(best)
    if contest is None:
        return best, None
    best = _apply(contest, restoration, best)
    return _restore(restoration, best, contest, goal, recipe, folder)


def _tune(best: Candidate, recipe: Recipe, folder: Path) -> tuple[Candidate, Tuning]:
    """Returns ``best`` with the kernels that were measured to be fastest, and what was measured."""
    assert best.forms.program is not None
    tuning = measure_layouts(
        best.forms.program,
        isa=recipe.isa,
        threads=recipe.threads,
        cache_bytes=recipe.cache_bytes,
        folder=folder,
    )
    return replace(best, forms=apply_tuning(best.forms, recipe, tuning, folder)), tuning


def _paths(*sources: Any) -> list[Path]:
    """Returns those of ``sources`` that are paths."""
    return [Path(source) for source in sources if isinstance(source, (str, os.PathLike))]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise EdgekitError(
            f"{name}={value!r} is not supported; this version knows: {', '.join(choices)}"
        )


def _choose_formats(format: str | Sequence[str] | None, profile: Profile) -> tuple[str, ...]:
    wanted = (profile.default_form,) if format is None else format
    if not isinstance(wanted, (str, Sequence)):
        raise EdgekitError(f"format must be a name or names, not {wanted!r}")
    formats = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if not formats:
        raise EdgekitError('format must name "native", "onnx" or "tflite", or several of them')
    for name in formats:
        _check_choice("format", name, (NATIVE, ONNX, TFLITE))
        if name not in profile.forms:
            raise TargetError(
                f"{profile.name} takes {' and '.join(profile.forms)}, not the form '{name}'"
            )
    return formats


def _check_reach(formats: tuple[str, ...], given: Mapping[str, object]) -> None:
    """Refuses an argument that no form of ``formats`` would heed."""
    forms = {"onnx_style": (ONNX,), "labels": (NATIVE, TFLITE)}
    for name, value in given.items():
        wanted = forms.get(name, (NATIVE,))
        if value and not set(wanted) & set(formats):
            raise EdgekitError(
                f"{name} is for format={' or '.join(map(repr, wanted))}, which is not asked for: "
                f"{' and '.join(formats)}"
            )


def _apply(contest: Contest, restoration: Restoration, best: Candidate) -> Candidate:
    """Returns the like of ``best`` with the layers in float32 that are faster so."""
    return restoration.build(best, contest, contest.chosen) if contest.keep_float else best


def _time_again(contest: Contest, best: Candidate, recipe: Recipe, folder: Path) -> Contest:
    """Returns ``contest`` with the times of whole networks, where they were measured."""
    if contest.how != "measured" or best.forms.plan is None:
        return contest
    return time_again(contest, best.forms.plan, threads=recipe.threads, folder=folder)


def _restore(
    restoration: Restoration,
    best: Candidate,
    contest: Contest,
    goal: Goal,
    recipe: Recipe,
    folder: Path,
) -> tuple[Candidate, Contest]:
    """Returns forms that meet the goal, with some layers or all in float32 where they must be and can be."""
    if contest.costs is None or goal.is_met(best):
        return best, contest
    better, decided = _leave_float(
        restoration, best, contest, goal.is_met, goal.is_worth, recipe, folder
    )
    if better is best and not goal.is_sound(best):
        sound, decided = _leave_float(
            restoration, best, contest, goal.is_sound, lambda _: True, recipe, folder
        )
        return sound, decided
    return better, decided


def _leave_float(
    restoration: Restoration,
    best: Candidate,
    contest: Contest,
    is_good: Callable[[Candidate], bool],
    is_worth: Callable[[float], bool],
    recipe: Recipe,
    folder: Path,
) -> tuple[Candidate, Contest]:
    """Returns forms with float32 layers that are good, or ``best`` and a note of what they would take."""
    better, decided = restoration.leave_float(best, contest, is_good, is_worth)
    if better is best:
        note = "float32 layers would take more than a tenth longer, by the layers' own times"
        return best, replace(contest, note=note)
    better, decided = restoration.choose_again((better, decided), is_good)
    if decided.how == "measured" and better.forms.plan is not None:
        decided = _time_again(decided, better, recipe, folder)
        times = decided.milliseconds
        slowdown = times[decided.chosen] / times[INT8]
        if decided.chosen == MIXED and times[FLOAT] < times[MIXED]:
            better, decided = restoration.leave_all_float(best, decided)
    else:
        decided = restoration.time_engine(best, better, decided)
        times = decided.milliseconds
        slowdown = times[decided.chosen] / times[INT8] if times else slow_down(contest, decided)
    if is_worth(slowdown):
        return better, describe_gain(best, better, decided)
    note = (
        f"float32 layers for {better.snr_db:.1f} dB would take {100 * (slowdown - 1):.0f} % longer"
    )
    return best, replace(contest, note=note)


def _measure(deployment: Deployment, threads: int) -> Report:
    """Returns the report with latencies, where the target is this machine, and with what they say of the speed."""
    report = deployment.report
    if deployment.target.isa != "auto":
        note = (
            f"latency was not measured: the target is {report.target}, not this machine; "
            "`edgekit bench BUNDLE --on ssh://...` measures it there"
        )
        return replace(report, notes=[*report.notes, note])
    if not any(is_sized(load(path).inputs) for path in deployment._timed_files().values()):
        note = "latency was not measured: the model leaves a dimension besides the first open"
        return replace(report, notes=[*report.notes, note])
    latencies = deployment.benchmark((threads,))
    slower = [
        f"SLOWER THAN FLOAT: {latency.form} takes {latency.timing.median_ms:.3g} ms, "
        f"{FLOAT_FORM} {latencies[0].timing.median_ms:.3g} ms (threads: {threads})"
        for latency in latencies[1:]
        if latency.timing.median_ms > latencies[0].timing.median_ms
    ]
    return replace(
        report,
        latencies=latencies,
        layers=_time_layers(deployment, threads),
        notes=[*report.notes, *slower],
    )


def _note_limits(report: Report, limits: Limits, threads: int) -> list[str]:
    """Returns which limits a device will find broken, as far as this machine can tell."""
    notes = []
    most_mb, most_ms = limits.memory_bytes / 1e6, limits.latency_us / 1e3
    memory = 0 if report.memory is None else report.memory.resident_bytes(threads)
    if most_mb and memory > limits.memory_bytes:
        notes.append(
            f"TOO LARGE: the plan and what it works in take {memory / 1e6:.3g} MB beside the program, and max_mb "
            f"allows {most_mb:.3g}: a device will refuse the bundle"
        )
    for latency in report.latencies:
        taken = latency.timing.median_ms
        if most_ms and latency.form == NATIVE_FORM and taken > most_ms:
            notes.append(
                f"TOO SLOW: a run takes {taken:.3g} ms here, and max_ms allows {most_ms:.3g}: a device that is no "
                "faster will refuse the bundle"
            )
    return notes


def _time_layers(deployment: Deployment, threads: int) -> list[Layer]:
    """Returns the report's layers with the time that each takes on this machine."""
    if deployment.plan is None:
        return deployment.report.layers
    session = load(deployment.plan, threads=threads)
    assert isinstance(session, NativeSession)
    inputs = make_plan_inputs(session)
    times = session.native.profile(inputs, repeats=_PROFILE_REPEATS)
    return [
        replace(layer, microseconds=1e6 * seconds)
        for layer, (_, seconds) in zip(deployment.report.layers, times, strict=True)
    ]
