"""Makes plans of a network for `promises.py`, from calibration samples alone, and keeps what they score.

Plans come in sets: those that `deploy` makes when it searches for the fastest that keeps a promise, and others that
lose more, so that promises have something to break.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import onnx
from onnx import numpy_helper

import edgekit
from edgekit import Classification, _native
from edgekit.choosing.closest import Candidate
from edgekit.converters.noise import relative_noise, worst_noise
from edgekit.data import Sample
from edgekit.promise import Scores
from edgekit.search.front import Point, keep_front
from edgekit.session import Session
from edgekit.targets.errors import EdgekitError
from filetypes import score_files
from find_data import find_data, read_idx
from hearing import score_voice, score_wake_word
from networks import Network, normalize_clothes

# Sets of plans: of a search for time, of one for bytes too, and made to lose something.
FAST, SMALL, MADE = "search", "search for bytes", "made to lose"
RANGES = ("minmax", "percentile", "mse", "entropy")
BITS = (5, 4, 3)
# More than any plan takes.
_PLENTY = 1e6


@dataclass(frozen=True)
class Plan:
    """A plan of a network.

    Attributes:
        name: How it was made.
        noise: Power of its differences from float over that of float's answers, on calibration samples.
        worst: The same of the sample that suffers most.
        plain_noise, plain_worst, changed: As of a `Candidate`.
        plan_bytes: Of the file.
        memory_bytes: That it holds while it runs.
        scores: On all labelled samples.
        session: Runs it.
        moved: As of a `Point`.
    """

    name: str
    noise: float
    worst: float
    plain_noise: float
    plain_worst: float
    changed: float | None
    plan_bytes: int
    memory_bytes: int
    scores: Scores
    session: Session
    moved: float | None = None

    def to_point(self, milliseconds: float) -> Point:
        """Returns it as the search knows it."""
        size, memory = self.plan_bytes, self.memory_bytes
        return Point(self.name, None, self.noise, milliseconds, size, memory, moved=self.moved)


@dataclass(frozen=True)
class Plans:
    """A set of plans, and the float model's scores."""

    kind: str
    plans: tuple[Plan, ...]
    reference: Scores


def score_clothes(session: Session) -> Scores:
    """Returns 1 for each of Fashion-MNIST's 10,000 test images whose class is found, and 0 for the others."""
    folder = find_data("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist")
    images = normalize_clothes(read_idx(folder / "t10k-images-idx3-ubyte.gz"))
    answers = read_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    return Classification([{"image": image} for image in images], answers).scores(session)


SCORES: dict[str, Callable[[Session], Scores]] = {
    "DS-CNN": score_clothes,
    "CNN": score_clothes,
    "magika": score_files,
    "openWakeWord embedding": score_wake_word,
    "silero-vad": score_voice,
}


class Maker:
    """Makes plans of a network and keeps them in a folder, where another run finds them.

    Args:
        network: Of `SCORES`.
        folder: Of the network alone.
        tell: Is told of plans that cannot be made.

    Raises:
        FileNotFoundError: Its data is not there.
    """

    def __init__(self, network: Network, folder: Path, tell: Callable[[str], object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._network, self._folder, self._tell = network, folder, tell
        self._model = folder / f"float{network.suffix}"
        network.write(self._model)
        self._samples: list[Sample] = network.read_samples(folder)
        self._score = SCORES[network.name]
        content = self._model.read_bytes() + edgekit.__version__.encode()
        self._key = hashlib.sha256(content).hexdigest()

    def make(self, kind: str) -> Plans:
        """Returns a set of plans, those of an earlier run where there was one."""
        folder = self._folder / kind.replace(" ", "_")
        record = folder / "plans.json"
        if record.is_file():
            known = json.loads(record.read_text(encoding="utf-8"))
            if known["key"] == self._key:
                return self._read(kind, folder, known["plans"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        facts = self._make_on_purpose(folder) if kind == MADE else self._search(kind, folder)
        scores = [self._score(edgekit.load(self._model))]
        for index, fact in enumerate(facts):
            self._tell(f"{self._network.name}, {kind}: scores of {fact['name']}")
            scores.append(self._score(edgekit.load(folder / f"{index}.plan")))
        np.save(folder / "scores.npy", np.array(scores))
        record.write_text(json.dumps({"key": self._key, "plans": facts}), encoding="utf-8")
        return self._read(kind, folder, facts)

    def _read(self, kind: str, folder: Path, facts: Sequence[dict[str, Any]]) -> Plans:
        reference, *scores = np.load(folder / "scores.npy")
        plans = [
            Plan(**fact, scores=own, session=edgekit.load(folder / f"{index}.plan"))
            for index, (fact, own) in enumerate(zip(facts, scores, strict=True))
        ]
        return Plans(kind, tuple(plans), reference)

    def _search(self, kind: str, folder: Path) -> list[dict[str, Any]]:
        """Has `deploy` search, and takes all plans that it chooses from."""
        found: list[dict[str, Any]] = []
        listed: list[Point] = []

        def list_points(points: Sequence[Point]) -> list[Point]:
            listed.extend(points)
            return keep_front(points)

        def take(_points: object, built: dict[str, Candidate], *_others: object) -> NoReturn:
            for point in listed:
                candidate = built[point.name]
                assert candidate.forms.plan is not None
                shutil.copyfile(candidate.forms.plan, folder / f"{len(found)}.plan")
                found.append({**_describe(point, candidate), "moved": point.moved})
            raise _PlansFound

        bounds = {"max_drop": 0.01, "max_ms": _PLENTY, "max_mb": _PLENTY}
        if kind == FAST:
            del bounds["max_mb"]
        self._tell(f"{self._network.name}: {kind}")
        module = importlib.import_module("edgekit.search.find_plan")
        with mock.patch.multiple(module, keep_front=list_points, choose_point=take):
            try:
                self._deploy(self._model, folder / "none", evaluate=_ask_nobody, **bounds)
            except _PlansFound:
                return found
        raise AssertionError("deploy did not search")

    def _make_on_purpose(self, folder: Path) -> list[dict[str, Any]]:
        """Makes int8 by several ranges, some layers or all in float32 or int4, and weights of fewer bits."""
        float_session = edgekit.load(self._model)
        wanted = [float_session.run(sample) for sample in self._samples]
        facts: list[dict[str, Any]] = []

        def make(name: str, source: Path, **how: Any) -> edgekit.Deployment | None:
            self._tell(f"{self._network.name}, {MADE}: {name}")
            try:
                deployment = self._deploy(source, folder / name, **how)
            except EdgekitError as error:
                self._tell(f"left out {self._network.name}, {name}: {error}")
                return None
            session = deployment.load()
            given = [session.run(sample) for sample in self._samples]
            noise, worst = relative_noise(wanted, given), worst_noise(wanted, given)
            path = folder / f"{len(facts)}.plan"
            shutil.copyfile(next((folder / name).rglob("*.plan")), path)
            memory = _count_memory(path)
            size = path.stat().st_size
            facts.append(_spell(name, noise, worst, noise, worst, None, size, memory))
            return deployment

        how = {"ranges": "mse", "precision": "int8", "recover": "none"}
        int8 = None
        for ranges in RANGES:
            int8 = make(f"int8 {ranges}", self._model, **{**how, "ranges": ranges}) or int8
        assert int8 is not None
        layers = [
            layer.name
            for layer in int8.report.layers
            if layer.kind in ("Conv", "DepthwiseConv", "FullyConnected", "MatMul")
        ]
        for name, chosen, format in (
            ("float32", layers, "float32"),
            ("ends float32", [layers[0], layers[-1]], "float32"),
            ("half float32", layers[::2], "float32"),
            ("int4", layers, "int4"),
            ("half int4", layers[1::2], "int4"),
        ):
            make(name, self._model, **how, formats=dict.fromkeys(chosen, format))
        for bits in BITS:
            rounded = round_weights(self._model, bits, folder / f"{bits}.onnx")
            make(f"weights of {bits} bits", rounded, **how)
        return facts

    def _deploy(self, source: Path, output: Path, **how: Any) -> edgekit.Deployment:
        given = {"calibration": self._samples, "format": "native", **self._network.arguments}
        return edgekit.deploy(source, output=output, **{**given, **how})


class _PlansFound(Exception):  # noqa: N818 - it is no error
    """The plans are there."""


def _ask_nobody(_session: Session) -> NoReturn:
    raise AssertionError("plans have to be made before any labelled sample is looked at")


_FACTS = (
    "name", "noise", "worst", "plain_noise", "plain_worst", "changed", "plan_bytes", "memory_bytes",
)  # fmt: skip


def _spell(*facts: Any) -> dict[str, Any]:
    return dict(zip(_FACTS, facts, strict=True))


def _describe(point: Point, candidate: Candidate) -> dict[str, Any]:
    return _spell(
        point.name,
        candidate.noise,
        candidate.worst,
        candidate.plain_noise,
        candidate.plain_worst,
        candidate.changed,
        point.plan_bytes,
        point.memory_bytes,
    )


def _count_memory(plan: Path) -> int:
    """Returns what a plan holds while one thread runs it, as the search counts it."""
    needs = _native.Plan.open(plan).memory
    return int(needs.plan + needs.arena + needs.scratch + needs.external)


def round_weights(model: Path, bits: int, path: Path) -> Path:
    """Writes a network whose weights take ``2^bits - 1`` values in each output channel, evenly spaced around 0."""
    proto = onnx.load(model)
    most = 2 ** (bits - 1) - 1
    for tensor in proto.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2:
            continue
        others = tuple(range(1, weights.ndim)) if weights.ndim > 2 else (0,)
        scale = np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-30) / most
        rounded = (np.rint(weights / scale) * scale).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(proto, path)
    return path
