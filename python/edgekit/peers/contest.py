"""Holds a contest: every contestant prepares its own file of one network, then all are timed in turns."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import _native
from edgekit.agreement import Proportion, relative_error
from edgekit.data import Sample
from edgekit.peers.contestant import Contestant, Outputs, Signature
from edgekit.peers.contestants import CONTESTANTS, OURS
from edgekit.peers.disturbance import Watch
from edgekit.peers.fix_shapes import fix_shapes
from edgekit.peers.process import Process
from edgekit.peers.result import Contest, Entry, Rounds
from edgekit.peers.samples_file import read_samples_file, write_samples
from edgekit.progress import Progress, ignore_progress
from edgekit.session import OnnxSession
from edgekit.targets.errors import EdgekitError
from edgekit.timing import summarize

# What ncnn's OpenMP threads go on spinning for is 20 ms; no other runtime's default is longer.
_REST = 0.025
# Seconds of one turn; a network that takes longer runs once a turn.
_TURN = 0.02
_LEAST_ROUNDS = 7
# A round counts as calm if others took no more than this share of one core.
_CALM = 0.05
_TIMED = 4
# What answers are compared by; raised when that changes.
_MEASURE = 1
_COMPARED = 48
# Of equal answers, and the other way round of worthless ones.
_HIGHEST_SNR_DB = 300.0


@dataclass
class _Ready:
    """A contestant whose file was made.

    Attributes:
        contestant: Who.
        entry: What is known of it so far.
        file: What it opens.
        rounds: Milliseconds of each run, by round.
    """

    contestant: Contestant
    entry: Entry
    file: Path
    rounds: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Problem:
    """What the files are made from.

    Attributes:
        model: The float model with fixed shapes.
        signature: What it takes and gives.
        calibration: The samples to calibrate with.
        compared: The samples to compare answers for.
        folder: Holds a folder for each contestant.
    """

    model: Path
    signature: Signature
    calibration: Path
    compared: Path
    folder: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model and the samples."""
        digest = hashlib.sha256(self.model.read_bytes())
        digest.update(self.calibration.read_bytes())
        return digest.hexdigest()

    def answer_in_float(self) -> list[Outputs]:
        """Returns the float model's answers."""
        session = OnnxSession(self.model, 1)
        return [list(session.run(s).values()) for s in read_samples_file(self.compared)]


def hold_contest(
    network: str,
    model: Path,
    samples: Sequence[Sample],
    *,
    folder: Path,
    threads: Sequence[int] = (1, 2),
    seconds: float = 10.0,
    contestants: Sequence[Contestant] = CONTESTANTS,
    description: str = "",
    random_samples: bool = False,
    only_prepare: bool = False,
    progress: Progress | None = None,
) -> Contest:
    """Prepares every contestant that is installed, then times them in rounds, each in a process of its own.

    Args:
        network: The name to show.
        model: The float model, an ONNX file.
        samples: Calibration samples, all of one shape; the first are also those that are timed and compared.
        folder: Keeps what was prepared; what is there already from the same model, samples and versions is used again.
        threads: Numbers of threads to time with.
        seconds: About how long to measure for each number of threads.
        contestants: Who takes part.
        description: Where the samples came from, in words.
        random_samples: Whether they are random numbers.
        only_prepare: Leaves the timing out.
        progress: Called with the name of a stage, how much is done and how much there is.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
        EdgekitError: There is no sample, or it does not fit the model.
    """
    if not samples:
        raise EdgekitError("a contest needs at least one sample")
    tell = progress or ignore_progress
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    fixed = folder / "float.onnx"
    signature = fix_shapes(model, fixed, samples[0])
    calibration, compared = folder / "calibration.npz", folder / "compared.npz"
    write_samples(calibration, samples)
    write_samples(compared, samples[:_COMPARED])
    timed = folder / "timed.npz"
    write_samples(timed, samples[:_TIMED])
    problem = _Problem(fixed, signature, calibration, compared, folder)

    entries: dict[str, Entry] = {}
    ready: list[_Ready] = []
    for index, contestant in enumerate(contestants):
        tell(f"{network}: preparing", index, len(contestants))
        entry = Entry(contestant.name, contestant is OURS, contestant.form)
        missing = contestant.list_missing()
        if missing:
            reason = f"not installed: pip install {' '.join(missing)}"
            entries[contestant.name] = replace(entry, reason=reason)
            continue
        entry = replace(entry, version=contestant.get_version())
        made = _prepare(contestant, problem)
        if "reason" in made:
            entries[contestant.name] = replace(entry, reason=made["reason"])
            continue
        file = Path(made["file"])
        entry = replace(
            entry,
            how=made["how"],
            file_bytes=_count_bytes(file),
            integer=tuple(made["integer"]) if made["integer"] else None,
            snr_db=made["snr_db"],
            agreement=Proportion(*made["agreement"]) if made["agreement"] else None,
        )
        ready.append(_Ready(contestant, entry, file))
    tell(f"{network}: preparing", len(contestants), len(contestants))

    rounds: dict[int, Rounds] = {}
    for done, count in enumerate(() if only_prepare else threads):
        tell(f"{network}: timing", done, len(threads))
        rounds[count] = _time(ready, signature, timed, count, seconds)
        tell(f"{network}: timing", done + 1, len(threads))
    entries.update({one.contestant.name: one.entry for one in ready})
    return Contest(
        network=network,
        samples=description,
        random_samples=random_samples,
        isa=_native.best_isa(),
        entries=tuple(entries[contestant.name] for contestant in contestants),
        rounds=rounds,
    )


def _count_bytes(file: Path) -> int:
    """Returns the size of a file and of the weights beside it."""
    weights = file.with_suffix(".bin")
    return file.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def _prepare(contestant: Contestant, problem: _Problem) -> dict[str, Any]:
    """Has the file made and its answers compared, unless a former run did so from the same files and versions.

    Returns:
        What is known of the file, or "reason": why there is none.
    """
    home = problem.folder / contestant.name.replace(" ", "_")
    code = hashlib.sha256(Path(inspect.getfile(type(contestant))).read_bytes()).hexdigest()
    key = [problem.digest, contestant.get_version(), code]

    def make() -> dict[str, Any]:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        with Process(contestant) as process:
            return process.ask(
                "prepare",
                model=str(problem.model),
                signature=asdict(problem.signature),
                samples=str(problem.calibration),
                folder=str(home),
            )

    def compare() -> dict[str, Any]:
        answers = home / "answers.npz"
        with Process(contestant) as process:
            process.ask(
                "open",
                file=made["file"],
                signature=asdict(problem.signature),
                samples=str(problem.compared),
                threads=1,
            )
            process.ask("answer", path=str(answers))
        try:
            return _compare(answers, problem.answer_in_float())
        finally:
            answers.unlink(missing_ok=True)

    made = _remember(home / "prepared.json", key, make)
    if "reason" in made:
        return made
    return {**made, **_remember(home / "compared.json", [_MEASURE, *key], compare)}


def _remember(record: Path, key: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what ``make`` returns, or "reason": why it fails; from ``record`` where that has the same key."""
    if record.is_file():
        known: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if known.pop("key") == key:
            return known
    try:
        made = make()
    except EdgekitError as error:
        made = {"reason": str(error)}
    record.write_text(json.dumps({"key": key, **made}), encoding="utf-8")
    return made


def _compare(answers: Path, wanted: list[Outputs]) -> dict[str, Any]:
    """Returns what the answers are worth.

    Raises:
        EdgekitError: An answer has another shape than the float model's.
    """
    same, total = 0, 0
    given: dict[int, list[npt.NDArray[Any]]] = {}
    with np.load(answers, allow_pickle=False) as arrays:
        for index, outputs in enumerate(wanted):
            for place, reference in enumerate(outputs):
                answer = arrays[f"{index}/{place}"]
                if answer.shape != reference.shape:
                    raise EdgekitError(f"answers {answer.shape}, not {reference.shape}")
                given.setdefault(place, []).append(answer)
            if _is_scores(outputs[0]):
                rows = outputs[0].argmax(axis=-1)
                same += int((rows == given[0][-1].argmax(axis=-1)).sum())
                total += rows.size
    errors = [
        relative_error({"": np.stack([outputs[place] for outputs in wanted])}, {"": np.stack(of)})
        for place, of in given.items()
        if of[0].dtype.kind == "f"
    ]
    error = max((e if math.isfinite(e) else math.inf for e in errors), default=0.0)
    lowest = 10.0 ** (-_HIGHEST_SNR_DB / 10)
    snr = -10.0 * math.log10(min(max(error, lowest), 1 / lowest))
    return {"snr_db": snr, "agreement": (same, total) if total else None}


def _is_scores(array: npt.NDArray[Any]) -> bool:
    """Returns whether an output holds a score for each class in its last axis."""
    return array.ndim in (2, 3) and array.shape[-1] > 1


def _time(
    ready: list[_Ready], signature: Signature, samples: Path, threads: int, seconds: float
) -> Rounds:
    """Times all contestants with one number of threads."""
    with contextlib.ExitStack() as stack:
        running: list[tuple[_Ready, Process]] = []
        for one in ready:
            process = stack.enter_context(Process(one.contestant))
            try:
                opened = process.ask(
                    "open",
                    file=str(one.file),
                    signature=asdict(signature),
                    samples=str(samples),
                    threads=threads,
                )
            except EdgekitError as error:
                one.entry = replace(one.entry, reason=str(error))
                continue
            one.entry.first_ms[threads] = opened["first_ms"]
            one.rounds = []
            running.append((one, process))
        calm, disturbance = _take_turns(running, seconds)
        for one, process in running:
            times = [ms for index in calm for ms in one.rounds[index]]
            one.entry.timings[threads] = summarize(times, threads)
            if one.entry.peak_bytes is None:
                one.entry = replace(one.entry, peak_bytes=process.ask("peak")["peak_bytes"])
        total = max((len(one.rounds) for one, _ in running), default=0)
    return Rounds(counted=len(calm), total=total, disturbance=disturbance)


def _take_turns(running: list[tuple[_Ready, Process]], seconds: float) -> tuple[list[int], float]:
    """Times everyone in rounds for a while, up to three times as long where too few of them are calm.

    Returns:
        The rounds that count: the calm ones, or where there are too few the calmest; and the share of a core that
        others took in the median of these.
    """
    watch = Watch([process.identifier for _, process in running])
    disturbances: list[float] = []
    calm: list[int] = []
    start = time.perf_counter()
    while True:
        watch.read()
        for one, process in running:
            time.sleep(_REST)
            one.rounds.append(process.ask("measure", seconds=_TURN, runs=1)["times_ms"])
        disturbances.append(watch.read())
        if disturbances[-1] <= _CALM:
            calm.append(len(disturbances) - 1)
        spent = time.perf_counter() - start
        enough = len(calm) >= _LEAST_ROUNDS
        if len(disturbances) >= _LEAST_ROUNDS and spent > (seconds if enough else 3 * seconds):
            break
    if not enough:
        order = sorted(range(len(disturbances)), key=disturbances.__getitem__)
        calm = sorted(order[:_LEAST_ROUNDS])
    return calm, statistics.median(disturbances[index] for index in calm)
