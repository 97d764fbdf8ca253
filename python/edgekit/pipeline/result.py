"""What a gate found: a check for each promise, and what both networks are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.agreement import Proportion
from edgekit.promise import DropPromise, LatencyPromise, SizePromise, Verdict

KEPT, BROKEN, BAD_INPUT, UNDECIDED = 0, 1, 2, 3
_EXIT_CODES = {Verdict.KEPT: KEPT, Verdict.BROKEN: BROKEN, Verdict.UNDECIDED: UNDECIDED}


@dataclass(frozen=True)
class FigureDrop:
    """A drop of a figure that has no score for each sample, so that no confidence can be stated.

    Attributes:
        max_drop: The most that may be lost.
        reference, candidate: Both networks' figures.
        verdict: Kept or broken, by the figures alone.
    """

    max_drop: float
    reference: float
    candidate: float
    verdict: Verdict

    @property
    def drop(self) -> float:
        """How much lower the candidate's figure is."""
        return self.reference - self.candidate

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {**asdict(self), "drop": self.drop, "verdict": self.verdict.value}

    def __str__(self) -> str:
        return f"drop {self.drop:.4g}, without a confidence (max_drop={self.max_drop:.4g}): {self.verdict}"


@dataclass(frozen=True)
class Check:
    """One promise.

    Attributes:
        rule: "max-drop", "max-ms" or "max-mb".
        promise: What was found.
        file: Of the bundle, which a finding is about.
    """

    rule: str
    promise: DropPromise | FigureDrop | LatencyPromise | SizePromise
    file: Path

    @property
    def verdict(self) -> Verdict:
        """Of the promise."""
        return self.promise.verdict

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "rule": self.rule,
            "verdict": self.verdict.value,
            "message": str(self.promise),
            "file": self.file.as_posix(),
            "promise": self.promise.to_dict(),
        }


@dataclass(frozen=True)
class Facts:
    """What one of the two networks is.

    Attributes:
        path: The bundle or model.
        figure: Of the caller's measure; None where there is none.
        latency_ms: Median with its bounds, on the machine that `where` of the result names; None where not measured.
        memory_bytes: What the native form holds while it runs, plan included; None for other forms.
        file_bytes: Of the network's file.
        sha256: Of that file.
    """

    path: Path
    figure: float | None
    latency_ms: tuple[float, float, float] | None
    memory_bytes: int | None
    file_bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        facts = {**asdict(self), "path": self.path.as_posix()}
        if self.latency_ms is not None:
            facts["latency_ms"] = dict(zip(("median", "low", "high"), self.latency_ms, strict=True))
        return facts


@dataclass(frozen=True)
class GateResult:
    """What a gate found.

    Attributes:
        bundle, baseline: The network that is to pass, and the one that it is compared with.
        checks: One for each promise that was asked for.
        changed: On how many samples the answers differ, None where they were not compared.
        where: What latencies were measured on.
        confidence: That promises have to hold with, None where figures are compared alone.
        notes: What a reader must know.
    """

    bundle: Facts
    baseline: Facts
    checks: tuple[Check, ...]
    changed: Proportion | None
    where: str
    confidence: float | None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Broken where any promise is, else undecided where any is, else kept."""
        return worst_of([check.verdict for check in self.checks])

    @property
    def exit_code(self) -> int:
        """What `edgekit gate` exits with: 0 kept, 1 broken, 3 undecided."""
        return _EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything in a form that JSON can hold."""
        return {
            "verdict": self.verdict.value,
            "exit_code": self.exit_code,
            "confidence": self.confidence,
            "checks": [check.to_dict() for check in self.checks],
            "bundle": self.bundle.to_dict(),
            "baseline": self.baseline.to_dict(),
            "changed": None if self.changed is None else self.changed.to_dict(),
            "where": self.where,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.bundle.path} against {self.baseline.path}"]
        lines += [f"  {check.rule}: {check.promise}" for check in self.checks]
        if self.changed is not None:
            lines.append(f"  answers changed: {self.changed}")
        lines += [f"  {line}" for line in _compare(self.bundle, self.baseline)]
        lines += [f"  NOTE: {note}" for note in self.notes]
        return "\n".join(lines)


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Returns the worst verdict: broken, undecided, kept."""
    order = (Verdict.BROKEN, Verdict.UNDECIDED)
    return next((verdict for verdict in order if verdict in verdicts), Verdict.KEPT)


def _compare(bundle: Facts, baseline: Facts) -> list[str]:
    """Returns a line for each thing that is known of both."""
    lines = []
    if bundle.latency_ms and baseline.latency_ms:
        ms, was = bundle.latency_ms[0], baseline.latency_ms[0]
        lines.append(f"latency: {was:.3g} ms -> {ms:.3g} ms ({ms / was:.2f} of it)")
    if bundle.memory_bytes is not None and baseline.memory_bytes is not None:
        lines.append(
            f"memory: {baseline.memory_bytes / 1e6:.4g} MB -> {bundle.memory_bytes / 1e6:.4g} MB"
        )
    lines.append(f"file: {baseline.file_bytes} bytes -> {bundle.file_bytes} bytes")
    return lines
