"""Keeps what was measured of a file, so that a run that is cut off or repeated measures only what is new."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.session import Session
from intervals import Evidence, Figure, describe_evidence, read_evidence

# Bytes of answers that are kept of one network.
_MOST_BYTES = 1 << 28
_SOURCES = (Path(__file__).parent, Path(__file__).parent.parent / "examples")


@dataclass(frozen=True)
class Measured:
    """What a network's answers are worth.

    Attributes:
        figures: With the samples that they rest on.
        agreement: The share of answers that are float's, None where outputs are no answers or it is float itself.
        snr_db: Of the outputs, None for float itself.
    """

    figures: list[Figure]
    agreement: Figure | None = None
    snr_db: float | None = None


class RememberedSession(Session):
    """A session that keeps its answers in a file, so that what it is asked again costs nothing.

    Args:
        session: Answers what is not known.
        path: An npz file that hangs on the session's network alone.
    """

    def __init__(self, session: Session, path: Path) -> None:
        self.path, self.threads = session.path, session.threads
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session, self._file = session, path
        self._known: dict[str, dict[str, npt.NDArray[Any]]] = {}
        self._bytes = 0
        if path.is_file():
            with np.load(path) as held:
                names, keys = [name for name in held.files if name], held[""]
                arrays = {name: held[name] for name in names}
            for place, key in enumerate(keys.tolist()):
                self._keep(key, {name: arrays[name][place] for name in names})

    def save(self) -> None:
        """Writes what is known, where all answers have the same shapes."""
        if not self._known:
            return
        answers = list(self._known.values())
        shapes = {tuple(array.shape for array in answer.values()) for answer in answers}
        if len(shapes) == 1:
            stacked = {name: np.stack([each[name] for each in answers]) for name in answers[0]}
            np.savez(self._file, **{"": np.array(list(self._known)), **stacked})

    def _run(self, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        digest = hashlib.sha256()
        for name in sorted(inputs):
            digest.update(np.ascontiguousarray(inputs[name]).tobytes())
        key = digest.hexdigest()
        if key not in self._known:
            answer = self._session.run(inputs)
            if self._bytes >= _MOST_BYTES:
                return answer
            self._keep(key, answer)
        return self._known[key]

    def _keep(self, key: str, answer: dict[str, npt.NDArray[Any]]) -> None:
        self._known[key] = answer
        self._bytes += sum(array.nbytes for array in answer.values())


def recall(path: Path, key: str, measure: Callable[[], Measured]) -> Measured:
    """Returns what a file of ours holds under ``key``, and otherwise what ``measure`` returns, which is kept there.

    Args:
        path: JSON; what it holds under another key is replaced.
        key: Of everything that the figures hang on.
        measure: Takes long.
    """
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["key"] == key:
            return Measured(
                [_read_figure(figure) for figure in known["figures"]],
                known["agreement"] and _read_figure(known["agreement"]),
                known["snr_db"],
            )
    measured = measure()
    content = {
        "key": key,
        "figures": [_describe(figure) for figure in measured.figures],
        "agreement": measured.agreement and _describe(measured.agreement),
        "snr_db": measured.snr_db,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return measured


def make_key(look: Callable[..., Any], files: Iterable[Path], *words: object) -> str:
    """Returns a digest of files, words, and the source of ``look`` with all that it imports from here.

    Args:
        look: A function, or a `functools.partial` of one.
        files: Of the network, and the float model; of a folder all files count.
        words: Whatever else figures hang on.
    """
    found = hashlib.sha256(repr(words).encode())
    function = look.func if isinstance(look, partial) else look
    for path in sorted(_list_sources(sys.modules[function.__module__], set())):
        found.update(path.read_bytes())
    for path in files:
        parts = sorted(path.rglob("*")) if path.is_dir() else [path]
        for part in parts:
            if part.is_file():
                found.update(part.read_bytes())
    return found.hexdigest()


def _list_sources(module: ModuleType, known: set[Path]) -> set[Path]:
    """Returns the files of a module and of those that it takes things from, as far as they lie here."""
    file = getattr(module, "__file__", None)
    path = Path(file) if file else None
    if path is None or path in known or not any(path.is_relative_to(root) for root in _SOURCES):
        return known
    known.add(path)
    for each in list(vars(module).values()):
        source = each if isinstance(each, ModuleType) else None
        name = getattr(each, "__module__", None)
        if source is None and isinstance(name, str):
            source = sys.modules.get(name)
        if source is not None:
            _list_sources(source, known)
    return known


def _describe(figure: Figure) -> dict[str, Any]:
    evidence = None if figure.evidence is None else describe_evidence(figure.evidence)
    return {**figure.to_dict(), "evidence": evidence}


def _read_figure(fields: dict[str, Any]) -> Figure:
    told = fields.pop("evidence")
    evidence: Evidence | None = told and read_evidence(told)
    return Figure(**fields, evidence=evidence)
