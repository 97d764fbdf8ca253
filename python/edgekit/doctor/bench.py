"""Measures what findings cost: the file as it is against a file without them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.converters.doctor.compare_answers import signal_to_noise
from edgekit.converters.doctor.rule import Cost, Finding, Rule
from edgekit.converters.doctor.subject import Subject
from edgekit.targets.errors import ModelError
from edgekit.timing import measure_interleaved


def time_against_float(subject: Subject, seconds: float) -> tuple[float, float] | None:
    """Returns the milliseconds of a run of a file and of the float network behind it, in turns; None without one."""
    if not seconds or not subject.samples or subject.load_problem:
        return None
    with tempfile.TemporaryDirectory() as folder:
        own, real = (Path(folder) / f"{name}{subject.path.suffix}" for name in ("own", "float"))
        try:
            if not subject.save_float(real):
                return None
            subject.save(own)
            calls = {"own": subject.open(own), "float": subject.open(real)}
        except ModelError:
            return None
        timings = measure_interleaved(calls, threads=1, seconds=seconds)
    return timings["own"].median_ms, timings["float"].median_ms


class FixBench:
    """Runs a file in turns with itself, fixed.

    Args:
        subject: The file; it is left as it is.
        seconds: How long one comparison times, about; 0 times nothing.
    """

    def __init__(self, subject: Subject, seconds: float) -> None:
        self._subject = subject
        self._seconds = seconds

    def compare(self, rule: Rule[Any], findings: Sequence[Finding]) -> Cost:
        """Returns time and noise with ``findings`` and without; what cannot be run is not measured."""
        subject = self._subject
        if not subject.samples:
            return Cost(basis="not measured: no inputs could be made; give calibration data")
        fixed = subject.copy()
        if not rule.fix(fixed, findings):
            return Cost(basis="not measured: the fix changes nothing by itself")
        fixed.settle()
        try:
            return Cost(
                ms=self._time(fixed),
                db=self._compare_answers(fixed, rule),
                basis=f"measured, 1 thread, {subject.samples_kind}",
            )
        except ModelError as error:
            return Cost(basis=f"not measured: {' '.join(str(error).split())}")

    def _time(self, fixed: Subject) -> tuple[float, float] | None:
        if not self._seconds:
            return None
        with tempfile.TemporaryDirectory() as folder:
            calls = {}
            for name, subject in (("as is", self._subject), ("fixed", fixed)):
                path = Path(folder) / f"{name}{subject.path.suffix}"
                subject.save(path)
                calls[name] = subject.open(path)
            timings = measure_interleaved(calls, threads=1, seconds=self._seconds)
        return timings["as is"].median_ms, timings["fixed"].median_ms

    def _compare_answers(self, fixed: Subject, rule: Rule[Any]) -> tuple[float, float] | None:
        """Returns the noise of both against the float network; None where the fix keeps every byte."""
        if rule.promise is None or rule.promise.slack_db is None:
            return None
        reference = self._subject.reference_answers
        return (
            signal_to_noise(reference, self._subject.answers),
            signal_to_noise(reference, fixed.answers),
        )
