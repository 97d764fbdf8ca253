"""Runs a network with one part at a time in another number format, by the native kernels of this machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgekit import _native
from edgekit.choosing.closest import build_closest, run_float
from edgekit.choosing.goal import Evaluate
from edgekit.choosing.restore import spread_samples
from edgekit.converters.answers import Outputs
from edgekit.converters.calibrate import METHODS, Calibration, RangeChoice
from edgekit.converters.changed_answers import share_unsettled
from edgekit.converters.compensate import Hessians
from edgekit.converters.full_disk import name_full_disk
from edgekit.converters.lower import lower
from edgekit.converters.noise import relative_noise, tells_answers
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.quantize import quantize
from edgekit.converters.sensitivity import CHANGES, Part, diverge, list_parts, spell_formats
from edgekit.costs.layer_costs import open_plan
from edgekit.data import Preprocessing, Sample
from edgekit.open_sizes import bind_shapes
from edgekit.progress import Progress, ignore_progress
from edgekit.request import check_request
from edgekit.sensitivity.cache import EffectCache, Key, digest_subject
from edgekit.sensitivity.effect import Effect, Sensitivity
from edgekit.session import Session
from edgekit.sizes import Sizes, calibrate_sizes, is_of
from edgekit.subject import read_subject
from edgekit.targets.errors import CalibrationError, EdgekitError, ModelError

# Plans that are measured before the cache is written again, so that a killed run loses little.
_KEPT_EVERY = 64


@dataclass(frozen=True)
class _Trial:
    """Everything that one plan is made and run with."""

    graph: ir.Model
    calibration: Calibration
    ranges: RangeChoice
    parts: Sequence[Part]
    others: Sequence[Part]
    samples: Sequence[Sample]
    wanted: Sequence[Outputs]
    isa: str
    batch: int
    folder: Path
    hessians: Hessians | None = None

    def open(self, part: Part | None, format: NumberFormat) -> tuple[Session, int]:
        """Returns a session with ``part`` alone in ``format``, None for all in float32, and the plan's bytes."""
        chosen = {} if part is None else {part.name: format}
        formats = spell_formats(self.graph.graph, [*self.parts, *self.others], chosen)
        quantized = quantize(
            self.graph,
            self.calibration,
            method=self.ranges,
            formats=formats,
            tables=False,
            hessians=self.hessians,
            fits_scales=any(format.has_parts for part in self.parts for format in part.formats),
        )
        number = "float" if part is None else f"{self.parts.index(part)}-{format.value}"
        path = self.folder / f"{number}.plan"
        session = open_plan(lower(quantized, self.batch), self.isa, 1, path)
        return session, path.stat().st_size

    def run(self, part: Part, format: NumberFormat, float_bytes: int) -> tuple[Effect, Session]:
        """Returns what ``part`` in ``format`` does to the answers, without the caller's measure."""
        session, size = self.open(part, format)
        given = []
        for sample in self.samples:
            session.reset()
            given.append(session.run(sample))
        noise = relative_noise(self.wanted, given)
        moved = share_unsettled(self.wanted, given) if tells_answers(self.wanted) else None
        divergence = diverge(self.wanted, given)
        return Effect(noise, divergence, size - float_bytes, moved=moved), session


def measure_sensitivity(
    graph: ir.Model,
    calibration: Calibration,
    ranges: RangeChoice,
    samples: Sequence[Sample],
    outputs: Sequence[Outputs],
    *,
    formats: Sequence[NumberFormat] = CHANGES,
    fixed: Sequence[str] = (),
    batch: int = 1,
    evaluate: Evaluate | None = None,
    float_session: Session | None = None,
    most_parts: int = 160,
    hessians: Hessians | None = None,
    skipped: Collection[Key] = (),
    cache: bool = True,
    progress: Progress = ignore_progress,
) -> Sensitivity:
    """Measures what each part costs the answers in each format that it can have, all others in float32.

    Each is a plan of its own, which the kernels of this machine run; several are measured side by side. What was
    measured before of the same network, calibration, samples and version comes from the user's cache.

    Args:
        graph: The float model, simplified.
        calibration: What calibration learned of it.
        ranges: How ranges are chosen.
        samples: Inputs to run; some of them, spread evenly, are taken.
        outputs: What the float model answers to each.
        formats: Those to try.
        fixed: Names of nodes that are left alone.
        batch: What an open first dimension becomes.
        evaluate: The caller's measure, which then is taken of every plan: as many runs more as it makes.
        float_session: Runs the float model; for ``evaluate``.
        most_parts: Where a network has more, neighbours change together.
        hessians: Of layers' inputs, which weights are rounded by; None rounds by moments.
        skipped: Names of parts, and formats of theirs that are not measured.
        cache: Whether to use the user's cache; the caller's measure is never taken from there.
        progress: Is told how many plans were run.

    Raises:
        ModelError: The native form cannot hold the network in float32.
        CalibrationError: No sample is of the graph's size.
    """
    graph = bind_shapes(graph, samples)
    pairs = [(a, b) for a, b in zip(samples, outputs, strict=True) if is_of(graph, a)]
    taken = spread_samples([sample for sample, _ in pairs])
    if not taken:
        raise CalibrationError("no sample is of the size that layers are measured at")
    wanted = [next(out for sample, out in pairs if sample is each) for each in taken]
    parts = list_parts(graph.graph, formats, fixed=fixed, most=most_parts)
    isa = _native.best_isa()
    made = str(batch) if hessians is None else f"{batch} {hessians.digest}"
    if any(format.has_parts for part in parts for format in part.formats):
        made += " fitted"
    alone = list_parts(graph.graph, most=len(graph.graph))
    if not {part.nodes for part in parts} <= {part.nodes for part in alone}:
        # A part's name does not say which neighbours change with it.
        made += f" {[part.nodes for part in parts]}"
    measured = {name for part in parts for name in part.nodes}
    others = [part for part in alone if measured.isdisjoint(part.nodes)]
    store = EffectCache(digest_subject(graph, calibration, ranges, taken, isa, made))
    known = store.read() if cache else {}
    passed = set(skipped)
    keys: list[Key] = [
        (part.name, format)
        for part in parts
        for format in part.formats
        if (part.name, format) not in passed
    ]
    effects = {key: known[key] for key in keys if key in known and evaluate is None}
    refused: dict[Key, str] = {}
    missing = [key for key in keys if key not in effects]
    recalled = len(effects)
    by_name = {part.name: part for part in parts}
    told = "measuring layers"
    progress(told, recalled, len(keys))
    if missing:
        with (
            tempfile.TemporaryDirectory(prefix="edgekit-") as folder,
            name_full_disk(folder, "plans are tried there; free some space, or set TMPDIR"),
        ):
            trial = _Trial(
                graph,
                calibration,
                ranges,
                parts,
                others,
                taken,
                wanted,
                isa,
                batch,
                Path(folder),
                hessians,
            )
            _, float_bytes = trial.open(None, NumberFormat.FLOAT32)
            # Weights are rounded once for all plans.
            quantize(graph, calibration, method=ranges, tables=False, hessians=hessians)

            def attempt(key: Key) -> Effect | str:
                try:
                    effect, session = trial.run(by_name[key[0]], key[1], float_bytes)
                except ModelError as error:
                    return str(error)
                if evaluate is not None:
                    effect = replace(effect, accuracy=float(evaluate(session)))
                os.unlink(session.path)
                return effect

            with ThreadPoolExecutor(1 if evaluate is not None else _count_cores()) as pool:
                waiting = {pool.submit(attempt, key): key for key in missing}
                try:
                    for count, job in enumerate(as_completed(waiting), 1):
                        found = job.result()
                        if isinstance(found, str):
                            refused[waiting[job]] = found
                        else:
                            effects[waiting[job]] = found
                        if cache and evaluate is None and count % _KEPT_EVERY == 0:
                            store.write({**known, **effects})
                        progress(told, recalled + count, len(keys))
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        if cache and evaluate is None:
            store.write({**known, **effects})
    figure = None
    if evaluate is not None and float_session is not None:
        figure = float(evaluate(float_session))
    ordered = {key: effects[key] for key in keys if key in effects}
    return Sensitivity(tuple(parts), ordered, refused, len(taken), figure, recalled)


def sense(
    model: Any,
    *,
    calibration: Any,
    example_inputs: Any = None,
    preprocessing: Preprocessing | None = None,
    checkpoint: str | Path | None = None,
    ranges: str = "auto",
    formats: Sequence[NumberFormat] = CHANGES,
    evaluate: Evaluate | None = None,
    shapes: Sizes | None = None,
    constants: Any = None,
    batch: int = 1,
    cache: bool = True,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measures what each layer of a model costs its answers in each number format.

    Args:
        model: As for `deploy`, and so are the arguments of the same names.
        calibration: Samples to calibrate with, and to run.
        example_inputs: Of a torch.nn.Module.
        preprocessing: How pictures become inputs.
        checkpoint: A file that calibration continues from and saves to.
        ranges: How ranges are chosen.
        formats: Those to try.
        evaluate: The caller's measure, taken of every layer in every format.
        shapes: All dimensions of an input by its name.
        constants: Inputs that are always the same.
        batch: What an open first dimension becomes.
        cache: Whether what was measured before is taken from the user's cache.
        progress: Called with the name of a stage, how much is done and how much there is.

    Raises:
        ModelError: The model cannot be read, or the native form cannot hold it.
        CalibrationError: Samples are missing or do not fit the model.
        EdgekitError: An argument is out of its range.
    """
    tell = progress or ignore_progress
    request = check_request(
        inputs=(),
        target="host",
        format="native",
        output="dist",
        shapes=shapes,
        quantize="int8",
        ranges=ranges,
        preprocessing=preprocessing,
        constants=constants,
        batch=batch,
    )
    if len(request.sizes) > 1:
        raise EdgekitError("layers are measured at one size: give shapes for one")
    subject = read_subject(model, example_inputs, calibration, request, tell)
    learned = calibrate_sizes(subject.graphs, subject.samples, tell, checkpoint)
    reference = run_float(subject.float_session, subject.samples, tell)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        best = build_closest(
            subject.graph,
            learned,
            tuple(METHODS) if ranges == "auto" else (ranges,),
            subject.recipe,
            reference,
            Path(folder),
            tell,
            lambda _: True,
        )
    return measure_sensitivity(
        subject.graph,
        learned,
        best.forms.ranges,
        reference.samples,
        reference.outputs,
        formats=formats,
        batch=batch,
        evaluate=evaluate,
        float_session=subject.float_session,
        cache=cache,
        progress=tell,
    )


def _count_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, 8))
