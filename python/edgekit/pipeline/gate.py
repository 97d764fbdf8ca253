"""`gate`: does a bundle keep what was promised, compared with another one or with the float model?"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgekit.data import Preprocessing
from edgekit.pipeline.measure_pair import (
    Measure,
    Pair,
    SameAnswers,
    describe_times,
    measure_pair,
    time_pair,
)
from edgekit.pipeline.result import Check, Facts, FigureDrop, GateResult
from edgekit.pipeline.subject import Record, Subject, opened, read_record
from edgekit.promise import (
    CONFIDENCE,
    check_confidence,
    compare_latency,
    promise_drop,
    promise_latency,
    promise_size,
)
from edgekit.promise.verdict import check_drop, check_most, judge
from edgekit.targets.errors import EdgekitError
from edgekit.timing import describe_machine


def gate(
    bundle: str | Path,
    *,
    baseline: str | Path,
    evaluate: Measure | None = None,
    samples: Any = None,
    preprocessing: Preprocessing | None = None,
    max_drop: float | None = None,
    max_ms: float | None = None,
    max_mb: float | None = None,
    confidence: float | None = CONFIDENCE,
    threads: int = 1,
    seconds: float = 3.0,
    record: str | Path | None = None,
) -> GateResult:
    """Compares a bundle with a baseline and says whether it keeps what is asked.

    Args:
        bundle: A bundle, its folder or its one file; or a ``.plan``, ``.onnx`` or ``.tflite`` file.
        baseline: What it is compared with: an older bundle, or the float model.
        evaluate: Takes a session and returns a figure, higher is better, or a score for each sample, which lets drops
            be tested on pairs; a `Classification` is one.
        samples: In place of ``evaluate``: inputs without labels, of which the share is measured that the bundle answers
            as the baseline does. What `deploy` takes as ``calibration``.
        preprocessing: How the pictures of a folder become inputs; by default as the bundle says.
        max_drop: How much of the figure may be lost; of ``samples``, the share of answers that may change.
        max_ms: The most milliseconds that a run may take, by the median: here, or on the device of ``record``.
        max_mb: The most memory that the native form may hold, plan included, in 10^6 bytes.
        confidence: That promises have to hold with; None compares figures alone.
        threads: That each network may use here.
        seconds: How long to time both networks here, in turns; 0 leaves that out.
        record: What `edgekit bench BUNDLE --on DEVICE --json` printed, to take times and memory from.

    Returns:
        What was found; its ``exit_code`` is 0 where everything is kept.

    Raises:
        EdgekitError: Nothing was asked for, something is missing or damaged, or cannot be measured on this machine.
    """
    if max_drop is None and max_ms is None and max_mb is None:
        raise EdgekitError("give max_drop, max_ms or max_mb: a gate without a bound lets all pass")
    if confidence is not None:
        check_confidence(confidence)
    if max_drop is not None:
        check_drop(max_drop)
    for name, most in (("max_ms", max_ms), ("max_mb", max_mb)):
        if most is not None:
            check_most(name, most)
    if max_drop is not None and evaluate is None and samples is None:
        raise EdgekitError("max_drop needs evaluate, or samples to compare answers on")
    if evaluate is not None and samples is not None:
        raise EdgekitError("samples without labels go in place of evaluate: give one of the two")
    if seconds < 0:
        raise EdgekitError(f"seconds must not be below 0, but is {seconds:g}")
    kept = None if record is None else read_record(Path(record))
    with ExitStack() as stack:
        candidate = stack.enter_context(opened(Path(bundle), threads))
        reference = stack.enter_context(opened(Path(baseline), threads))
        if kept is not None and kept.plan_sha256 != candidate.sha256:
            raise EdgekitError(f"{record}: measured on another plan than that of {bundle}")
        pair = None
        if evaluate is not None or samples is not None:
            pair = _measure(evaluate, samples, preprocessing, candidate, reference)
        times, baseline_times = _time(candidate, reference, threads, seconds)
        checks = []
        if max_drop is not None:
            assert pair is not None
            checks.append(_check_drop(pair, max_drop, confidence, candidate))
        if max_ms is not None:
            checks.append(_check_latency(times, kept, max_ms, confidence, candidate))
        if max_mb is not None:
            checks.append(_check_memory(kept, max_mb, candidate))
        level = CONFIDENCE if confidence is None else confidence
        return GateResult(
            _describe(candidate, None if pair is None else pair.candidate, times, level),
            _describe(reference, None if pair is None else pair.reference, baseline_times, level),
            tuple(checks),
            None if pair is None else pair.changed,
            str(describe_machine()) if kept is None else kept.label,
            confidence,
            tuple(_list_notes(pair, kept, max_drop, max_ms, confidence)),
        )


def _measure(
    evaluate: Measure | None,
    samples: Any,
    preprocessing: Preprocessing | None,
    candidate: Subject,
    reference: Subject,
) -> Pair:
    first = reference.run_here("measuring answers")
    second = candidate.run_here("measuring answers")
    if evaluate is None:
        evaluate = SameAnswers(samples, first, preprocessing or second.preprocessing)
    return measure_pair(evaluate, first, second)


def _time(
    candidate: Subject, reference: Subject, threads: int, seconds: float
) -> tuple[list[float] | None, list[float] | None]:
    if not seconds or candidate.session is None:
        return None, None
    before, now = time_pair(reference.session, candidate.session, threads=threads, seconds=seconds)
    return now, before


def _check_drop(pair: Pair, max_drop: float, confidence: float | None, candidate: Subject) -> Check:
    if pair.scores is None or confidence is None:
        drop = pair.reference - pair.candidate
        figures = FigureDrop(max_drop, pair.reference, pair.candidate, judge(drop, drop, max_drop))
        return Check("max-drop", figures, candidate.file)
    promise = promise_drop(*pair.scores, max_drop, confidence=confidence, bounds=pair.bounds)
    return Check("max-drop", promise, candidate.file)


def _check_latency(
    times: list[float] | None,
    kept: Record | None,
    max_ms: float,
    confidence: float | None,
    candidate: Subject,
) -> Check:
    if kept is not None:
        if kept.median_ms is None:
            raise EdgekitError(f"max_ms needs times, and the record has none: {kept.label}")
        found = compare_latency(kept.median_ms, max_ms, runs=kept.runs, where=kept.label)
        return Check("max-ms", found, candidate.file)
    if times is None:
        candidate.run_here("max_ms without a record of the board")
        raise EdgekitError("max_ms needs times: give seconds above 0, or a record")
    where = str(describe_machine())
    if confidence is None:
        median = statistics.median(times)
        found = compare_latency(median, max_ms, runs=len(times), where=where)
    else:
        found = promise_latency(times, max_ms, confidence=confidence, where=where)
    return Check("max-ms", found, candidate.file)


def _check_memory(kept: Record | None, max_mb: float, candidate: Subject) -> Check:
    held = candidate.memory_bytes
    if kept is not None and kept.peak_bytes is not None:
        held = kept.peak_bytes
    if held is None:
        raise EdgekitError(
            f"{candidate.path}: max_mb is what the native form holds, and this is none"
        )
    return Check("max-mb", promise_size(held, max_mb), candidate.file)


def _describe(
    subject: Subject, figure: float | None, times: list[float] | None, confidence: float
) -> Facts:
    return Facts(
        subject.path,
        figure,
        None if times is None else describe_times(times, confidence),
        subject.memory_bytes,
        subject.file_bytes,
        subject.sha256,
    )


def _list_notes(
    pair: Pair | None,
    kept: Record | None,
    max_drop: float | None,
    max_ms: float | None,
    confidence: float | None,
) -> list[str]:
    notes = []
    if max_drop is not None and pair is not None and pair.scores is None:
        notes.append(
            "no confidence can be stated of the drop: the measure gives a figure, and no score for each sample"
        )
    if confidence is None:
        notes.append("figures are compared alone: with other samples they may differ")
    if max_ms is not None and kept is not None:
        notes.append("the record holds a median without its bounds: it is compared as it is")
    return notes
