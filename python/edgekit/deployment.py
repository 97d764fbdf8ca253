"""`deploy`: from a model to a board in one call."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.bundles.certificate import make_certificate
from edgekit.bundles.minisign import SecretKey
from edgekit.bundles.pack import Papers, pack
from edgekit.bundles.usage import Usage
from edgekit.choosing.choose_forms import tune_forms
from edgekit.choosing.closest import compare, run_float
from edgekit.choosing.goal import Evaluate, Goal, check_goal
from edgekit.choosing.held_out import calibrate_apart
from edgekit.choosing.make_forms import Wanted
from edgekit.converters.calibrate import RangeChoice
from edgekit.converters.fold_branches import Constants
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.own_scales import METHOD as OWN_SCALES
from edgekit.converters.own_scales import describe_rounding
from edgekit.converters.recover.report import RecoveryReport
from edgekit.data import Preprocessing
from edgekit.deployed import Deployment
from edgekit.describe import describe
from edgekit.findings.add import add_findings
from edgekit.findings.bounds import judge_limits
from edgekit.findings.float_memory import add_float_memory
from edgekit.findings.front import show_front
from edgekit.findings.noise import add_noise
from edgekit.findings.subgroups import Groups, read_groups
from edgekit.forms import write_forms
from edgekit.measure_deployed import measure_deployed, note_limits
from edgekit.progress import Progress, ignore_progress
from edgekit.promise import CONFIDENCE
from edgekit.pruning.make import make_pruned
from edgekit.request import check_request
from edgekit.search import Promises, check_effort
from edgekit.sizes import Sizes
from edgekit.subject import read_subject
from edgekit.targets.errors import EdgekitError


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
    groups: Groups | None = None,
    quantize: str = "auto",
    precision: str = "auto",
    formats: Mapping[str, NumberFormat | str] | None = None,
    prune: str | Mapping[str, Any] = "none",
    ranges: str = "auto",
    rounding: str = "auto",
    recover: str | Sequence[str] = "auto",
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
    confidence: float | None = CONFIDENCE,
    trials: int = 0,
    study: str | Path | None = None,
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
        max_drop: How much of that figure may be lost; without ``evaluate``, the share of answers that may be others
            than float's, by what calibration samples tell of outputs that are logits or distributions.
        groups: A name for each sample of ``evaluate``, of the subgroup that it belongs to, or several such groupings by
            their names, such as ``{"light": [...], "camera": [...]}``: the report compares both networks in each.
        quantize: "auto" keeps the scales of a model that is quantized already, whose codes then stay as they are, and
            takes int8 from the calibration for any other; "int8" does so for every model, and "int4" too, with weights
            of 4 bits in all layers but depthwise ones, one scale an output channel; "12x12" takes 12 bits for dense
            layers, in int8 parts, and "12x8" for what they read (docs/number-formats.md). The TFLite form alone can
            also be "16x8" (int16 activations), "float32", "float16" (weights) or "dynamic" (int8 weights alone).
        precision: Of the layers: "int8" wherever int8 can hold them, or "auto", which leaves those in float32 that
            cost the answers too much, in all forms alike, and where the native form is among these also a layer that is
            faster so, conversions counted: as timed on this machine, or as modelled for a board.
        formats: By the names of nodes, what they are computed in (`NumberFormat` or its name, "int8-rows" say), in all
            forms, whatever it costs; see docs/number-formats.md.
        prune: "none"; a mapping of what goes: ``{"channels": 0.5}``, the share of multiplications that stays when whole
            channels are cut, ``{"4x32": 0.5}``, the share of weights that becomes 0 in blocks of 4 along k by 32 output
            channels, wherever a kernel is faster so, ``{"NODE": "4x32:0.75"}`` of single layers, or several of these;
            or "auto", which tries some and takes the fastest that keeps ``max_drop`` (without it, answers above 20
            dB), never a slower one than without pruning; see docs/pruning.md.
        ranges: How ranges are chosen from the calibration: "minmax", "percentile", "mse", "entropy", or "auto", which
            tries all of them and keeps the one whose outputs on calibration samples come closest to float.
        rounding: What weights are rounded by: "moments" of their inputs; "hessian", how these vary together, which runs
            the float model once more over up to 256 samples (docs/solver.md); or "auto", which takes the latter where
            layers have int4 weights, ``max_drop`` is given or answers are below 20 dB, if samples that took no part say
            it is better.
        recover: What is done so that int8 loses less: "auto" tries every pass, where answers are below 20 dB or
            ``max_drop`` is given, and keeps those that help on samples that took no part in making them; "none"; or
            names of passes, which are then applied whatever they do: "equalize", "absorb", "migrate", "align",
            "correct_biases"; see docs/recovery.md.
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
        confidence: That ``max_drop`` and ``max_ms`` are kept with: tested on pairs where ``evaluate`` has a method
            ``scores`` (one number a sample), as a `Classification` has; None compares figures alone.
        trials: Plans that a study by Optuna (extra ``search``) tries beyond those along the layers' sensitivities.
        study: Where the study is kept: a journal file or a database's URL, which several processes may share, and which
            a search that was killed goes on from.
        progress: Called with the name of a stage, how much is done and how much there is.

    Raises:
        ModelError: The model cannot be read, or the form cannot hold it.
        CalibrationError: Samples are missing or do not fit the model.
        TargetError: There is no such board, or it cannot take the form.
        ToolError: The board's programs cannot be built, or signing lacks the package `cryptography`.
        SignatureError: ``sign_with`` is no secret key.
        AccuracyError: int8 loses more than ``max_drop``, or there are too few samples to promise it; nothing was
            written.
        PromiseError: No plan keeps ``max_drop``, ``max_ms`` and ``max_mb``; it tells the nearest, and nothing was
            written.
        EdgekitError: An argument is out of its range.
    """
    check_goal(evaluate, max_drop)
    effort = check_effort(trials, study)
    subgroups = read_groups(groups, evaluate)
    request = check_request(
        inputs=(model, calibration, checkpoint),
        target=target,
        format=format,
        output=output,
        shapes=shapes,
        quantize=quantize,
        precision=precision,
        formats=formats,
        prune=prune,
        ranges=ranges,
        rounding=rounding,
        recover=recover,
        onnx_style=onnx_style,
        preprocessing=preprocessing,
        constants=constants,
        states=states,
        labels=labels,
        batch=batch,
        threads=threads,
        tune=tune,
        release=release,
        max_ms=max_ms,
        max_mb=max_mb,
        sign_with=sign_with,
        model_license=model_license,
        slim=slim,
        library=library,
    )
    tell = progress or ignore_progress
    subject = read_subject(model, example_inputs, calibration, request, tell)
    recipe, samples, float_session = subject.recipe, subject.samples, subject.float_session
    goal = Goal(evaluate, float_session, max_drop, confidence)
    goal.check_samples()
    learned, seen = None, None
    if subject.own is None:
        learned, seen = calibrate_apart(subject.graphs, samples, tell, checkpoint)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-") as name,
        name_full_disk(name, "forms are tried there; free some space, or set TMPDIR"),
    ):
        folder = Path(name)
        reference = run_float(float_session, samples, tell)
        reference = replace(reference, counts_answers=goal.counts_answers)
        contest, rounded, found, pruned = None, None, None, None
        graph, recovery = subject.graph, RecoveryReport()
        if subject.own is not None:
            if request.pruning:
                raise EdgekitError(
                    "the model keeps its own scales and codes, which cannot be pruned: prune the float model that it "
                    'was made of, or give quantize="int8"'
                )
            quantized, written = subject.own.quantized, subject.own.written
            choice = RangeChoice(OWN_SCALES)
            forms = write_forms(quantized, written, choice, recipe, folder / "own")
            best = compare(forms, reference)
        else:
            assert learned is not None
            wanted = Wanted(
                request,
                recover,
                Promises(max_drop, max_ms, max_mb, confidence),
                effort,
                goal,
                Goal(None, float_session, None),
                reference,
                samples,
                tell,
                seen,
            )
            made, pruned = make_pruned(graph, learned, recipe, wanted, folder)
            graph, learned, best, contest = made.graph, made.learned, made.best, made.contest
            recovery, rounded, recipe, found = made.recovery, made.rounded, made.recipe, made.found
        tuning = None
        if tune:
            tell("measuring kernels", 0, 1)
            best, tuning = tune_forms(best, recipe, folder / "tuning")
            tell("measuring kernels", 1, 1)
        if found is None:
            goal.check(best)
        report = describe(subject.source, samples, recipe, best, goal.measure(best), contest)
        report = add_findings(
            report,
            goal=goal,
            best=best,
            evaluate=evaluate,
            max_drop=max_drop,
            float_session=float_session,
            reference=reference,
            samples=len(samples),
            groups=subgroups,
            labels=subject.labels,
            preprocessing=preprocessing,
            promise=goal.try_promise(best) if found is None else found.promise,
            turned=best.turned if found is None else found.turned,
        )
        report = add_noise(report, graph, best.forms.quantized, reference.samples)
        if subject.own is None:
            report = add_float_memory(report, subject.graph, recipe, reference.samples, folder)
        if subject.own is not None:
            told = describe_rounding(subject.own.quantized)
            report = replace(report, notes=[*report.notes, *told])
        if rounded is not None and rounded.note:
            report = replace(report, notes=[*report.notes, rounded.note])
        report = replace(report, notes=[*report.notes, *recovery.describe()])
        if found is not None:
            notes = [*report.notes, found.front.describe()]
            report = replace(report, notes=notes, front=show_front(found.front))
        if pruned is not None:
            notes = [*report.notes, pruned.describe(), *pruned.tried]
            report = replace(report, notes=notes, pruning=pruned)
        if tuning is not None:
            report = replace(report, notes=[*report.notes, *tuning.describe()])
        tell("packing", 0, 1)
        session = best.forms.session
        papers = Papers(
            Usage(subject.labels, preprocessing, float_session.inputs[0].name),
            make_certificate(report, samples, evaluate, float_session, session, subject.labels),
            request.model_license,
        )
        try:
            pack(
                request.output,
                recipe,
                best.forms,
                report,
                samples,
                request.release,
                papers,
                request.compilation,
            )
        except OSError as error:
            raise EdgekitError(
                f"{request.output}: cannot be written: {error.strerror or error}"
            ) from error
        tell("packing", 1, 1)
    front = None if found is None else found.front
    deployment = Deployment(
        request.output,
        subject.source,
        request.profile,
        learned,
        report,
        best.forms.program,
        recovery,
        front,
        best.forms.written,
    )
    tell("measuring", 0, 1)
    report = measure_deployed(deployment, threads)
    notes = note_limits(report, request.release.limits, threads)
    asked = [*report.asked, *judge_limits(report, request.release.limits, threads)]
    deployment = replace(
        deployment, report=replace(report, asked=asked, notes=[*report.notes, *notes])
    )
    tell("measuring", 1, 1)
    return deployment
