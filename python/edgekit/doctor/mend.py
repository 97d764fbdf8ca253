"""Writes a file without the faults that can be fixed, after checking what each fix promised."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.converters.doctor.compare_answers import find_breach
from edgekit.converters.doctor.rule import Finding, Rule
from edgekit.converters.doctor.subject import Subject
from edgekit.targets.errors import EdgekitError, ModelError

# A fix may uncover what another rule then finds.
_ROUNDS = 3


@dataclass(frozen=True)
class Mending:
    """What became of a file.

    Attributes:
        path: The file that was written.
        applied: Rules whose fixes are in it, with how many findings each mended.
        refused: Rules whose fixes were left out, and why.
        left: What the doctor still finds in it.
    """

    path: Path
    applied: dict[str, int]
    refused: dict[str, str]
    left: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in a form that JSON can hold."""
        return {
            "file": str(self.path),
            "applied": self.applied,
            "refused": self.refused,
            "left": [
                {"rule": item.rule, "nodes": list(item.nodes), "message": item.message}
                for item in self.left
            ],
        }


def mend(
    subject: Subject,
    rules: Sequence[Rule[Any]],
    path: Path,
    look_again: Callable[[Subject], list[Finding]],
) -> Mending:
    """Fixes what can be fixed in a copy of ``subject`` and writes it to ``path`` in one step.

    Each rule's fix is tried on its own: if the runtime cannot load what comes of it, or the answers to the samples move
    beyond the rule's promise, it is left out.

    Args:
        subject: The file.
        rules: For its kind.
        path: The file to write.
        look_again: Says what is wrong with the fixed file.

    Raises:
        EdgekitError: The file cannot be written.
        ModelError: The runtime cannot load what was made; nothing is written.
    """
    applied: dict[str, int] = {}
    refused: dict[str, str] = {}
    current = subject
    for _ in range(_ROUNDS):
        changed = False
        for rule in rules:
            if rule.promise is None or rule.id in refused:
                continue
            findings = [item for item in rule.check(current) if item.fixable]
            if not findings:
                continue
            trial = current.copy()
            count = rule.fix(trial, findings)
            if not count:
                continue
            trial.settle()
            breach = _check(rule, current, trial, subject)
            if breach:
                refused[rule.id] = breach
                continue
            applied[rule.id] = applied.get(rule.id, 0) + count
            current, changed = trial, True
        if not changed:
            break
    _write(current, path, loads=not current.load_problem)
    return Mending(path, applied, refused, tuple(look_again(current)))


def _check(rule: Rule[Any], before: Subject, after: Subject, original: Subject) -> str:
    """Returns why a fix is not to be kept, or ''."""
    assert rule.promise is not None
    if not before.samples:
        return (
            "" if rule.promise.slack_db is None else "it cannot be checked: no inputs could be made"
        )
    try:
        answers = after.answers
    except ModelError as error:
        return f"the runtime cannot run what comes of it: {' '.join(str(error).split())}"
    try:
        former, reference = before.answers, original.reference_answers
    except ModelError:
        return (
            ""
            if rule.promise.slack_db is None
            else "the file as it is cannot be run to compare with"
        )
    return find_breach(rule.promise, former, answers, reference)


def _write(subject: Subject, path: Path, *, loads: bool) -> None:
    """Writes to a folder beside ``path``, loads the file there if it ``loads``, and moves it into place."""
    if path.is_dir():
        raise EdgekitError(f"{path}: is a folder; name the file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise EdgekitError(
            f"{path}: cannot be written: no folder can be made in {path.parent}: {error.strerror}"
        ) from error
    try:
        subject.save(workplace / path.name)
        if loads and subject.samples:
            subject.open(workplace / path.name)()
        # What the file refers to has to be there when it is.
        for file in sorted(workplace.iterdir(), key=lambda item: item.name == path.name):
            os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
