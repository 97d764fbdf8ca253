"""Examines a model file: `edgekit doctor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit import _native
from edgekit.converters.doctor.processor import Processor
from edgekit.converters.doctor.rule import Cost, Finding, Rule
from edgekit.converters.doctor.subject import Subject
from edgekit.converters.write_onnx.styles import get_style
from edgekit.data import Preprocessing
from edgekit.doctor.bench import FixBench, time_against_float
from edgekit.doctor.mend import Mending, mend
from edgekit.doctor.open_subject import EXAMINED, open_subject
from edgekit.targets.errors import EdgekitError
from edgekit.targets.profile import load_profile

# More findings of one rule than this are measured together: each alone would take too long.
_MEASURED_ALONE = 4


@dataclass(frozen=True)
class Diagnosed:
    """A finding with its cost.

    Attributes:
        finding: What was found.
        cost: What it costs; where `shared` is true, with the rule's other findings together.
        shared: Whether the cost is that of all findings of the rule.
        source: Where the fault is described.
        promise: What the fix keeps, in words; '' where there is none.
    """

    finding: Finding
    cost: Cost
    shared: bool
    source: str
    promise: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "rule": self.finding.rule,
            "nodes": list(self.finding.nodes),
            "message": self.finding.message,
            "remedy": self.finding.remedy,
            "fixable": self.finding.fixable,
            "promise": self.promise,
            "cost": {**self.cost.to_dict(), "of_all_findings_of_the_rule": self.shared},
            "source": self.source,
        }


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a file.

    Attributes:
        path: The file.
        target: The CPU that it was judged for.
        samples: What it was run on, in words.
        findings: Its faults.
        mending: What was done about them; None where nothing was asked for.
    """

    path: Path
    target: str
    samples: str
    findings: tuple[Diagnosed, ...]
    mending: Mending | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether no fault is left: none was found, or the fixed file has none."""
        return not (self.findings if self.mending is None else self.mending.left)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "file": str(self.path),
            "target": self.target,
            "samples": self.samples,
            "findings": [item.to_dict() for item in self.findings],
            "fixed": None if self.mending is None else self.mending.to_dict(),
        }


def examine(
    path: str | Path,
    *,
    target: str = "host",
    calibration: Any = None,
    preprocessing: Preprocessing | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    fix: str | Path | None = None,
    overwrite: bool = False,
    seconds: float = 0.5,
) -> Diagnosis:
    """Examines an ``.onnx`` or ``.tflite`` file, and writes a better one where asked.

    Args:
        path: The file; it is left as it is.
        target: A board, or a profile's path: some faults are faults on some processors only.
        calibration: Samples as `deploy` takes them; random inputs, labelled so, where there are none.
        preprocessing: How pictures become inputs.
        shapes: Sizes for random inputs whose own are open.
        fix: Where to write the file with what can be fixed fixed, or None.
        overwrite: Whether ``fix`` may be ``path`` itself.
        seconds: How long to time each finding, about; 0 measures no time.

    Raises:
        ModelError: The file is missing or damaged.
        EdgekitError: It is neither, or ``fix`` is the file itself or named as another kind, or ``shapes`` name no input
            or not its dimensions.
    """
    path = Path(path)
    if fix is not None and not overwrite and Path(fix).resolve() == path.resolve():
        raise EdgekitError(
            f"{fix}: is the file that is examined; give another, or allow --overwrite"
        )
    if fix is not None and Path(fix).suffix != path.suffix:
        raise EdgekitError(
            f"{fix}: the fixed file is of the same kind: give it a name in {path.suffix}"
        )
    subject, rules = open_subject(
        path, _processor(target), calibration, preprocessing, shapes or {}
    )
    subject.times = time_against_float(subject, seconds)
    findings = find_faults(subject, rules)
    diagnosed = _weigh(subject, rules, findings, FixBench(subject, seconds))
    mending = None
    if fix is not None:

        def look_again(mended: Subject) -> list[Finding]:
            mended.times = time_against_float(mended, seconds)
            return find_faults(mended, rules)

        mending = mend(subject, rules, Path(fix), look_again)
    samples = subject.samples_kind if subject.samples else "none: nothing could be run"
    return Diagnosis(path, subject.processor.name, samples, tuple(diagnosed), mending)


def list_examinable(path: str | Path) -> list[Path]:
    """Returns ``path``, or the ``.onnx`` and ``.tflite`` files in it if it is a folder, such as `deploy` writes.

    Raises:
        EdgekitError: The folder holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in EXAMINED)
    if not files:
        raise EdgekitError(
            f"{path}: the folder holds no {' and no '.join(EXAMINED)} file, which is what can be examined"
        )
    return files


def find_faults(subject: Subject, rules: Sequence[Rule[Any]]) -> list[Finding]:
    """Returns the findings of all rules; of what follows from faults that can be fixed, what would be left."""
    findings = []
    mended = subject.copy()
    for rule in rules:
        if rule.follows:
            continue
        own = rule.check(subject)
        findings += own
        if rule.promise is not None and any(finding.fixable for finding in rule.check(mended)):
            rule.fix(mended, [finding for finding in rule.check(mended) if finding.fixable])
            mended.settle()
    blamed = {name for finding in findings if not finding.fixable for name in finding.nodes}
    for rule in rules:
        if rule.follows:
            findings += [item for item in rule.check(mended) if not blamed & set(item.nodes)]
    return findings


def _weigh(
    subject: Subject, rules: Sequence[Rule[Any]], findings: Sequence[Finding], bench: FixBench
) -> list[Diagnosed]:
    diagnosed = []
    for rule in rules:
        own = [finding for finding in findings if finding.rule == rule.id]
        together = len(own) > _MEASURED_ALONE
        fixable = [finding for finding in own if finding.fixable]
        common = bench.compare(rule, fixable) if together and fixable else None
        for finding in own:
            shared = common is not None and finding.fixable
            cost = common if shared and common is not None else rule.cost(subject, finding, bench)
            promise = rule.promise.words if rule.promise is not None and finding.fixable else ""
            diagnosed.append(Diagnosed(finding, replace(cost), shared, rule.source, promise))
    return diagnosed


def _processor(target: str) -> Processor:
    profile = load_profile(target)
    isa = _native.best_isa() if profile.isa == "auto" else profile.isa
    name = f"{profile.name} ({isa})"
    engine = get_style(profile.onnx_style).engine
    return Processor.of(name, isa, profile.system.architecture, engine)
