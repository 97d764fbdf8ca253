"""Holds a contest: every contestant prepares its own file of one network, then all are timed in turns."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import _native
from edgekit.agreement import Proportion, relative_error
from edgekit.data import Sample
from edgekit.peers.contestant import Contestant, Outputs, Signature
from edgekit.peers.contestants import CONTESTANTS, OURS
from edgekit.peers.fix_shapes import fix_shapes
from edgekit.peers.process import Process
from edgekit.peers.result import Contest, Entry
from edgekit.peers.samples_file import write_samples
from edgekit.progress import Progress, ignore_progress
from edgekit.session import OnnxSession
from edgekit.targets.errors import EdgekitError
from edgekit.timing import summarize

# What ncnn's OpenMP threads go on spinning for is 20 ms; no other runtime's default is longer.
_REST = 0.025
# Seconds of one turn; a network that takes longer runs once a turn.
_TURN = 0.02
_LEAST_ROUNDS = 7
_COMPARED = 8


@dataclass
class _Ready:
    """A contestant whose file was made."""

    contestant: Contestant
    entry: Entry
    file: Path
    times: list[float] = field(default_factory=list)


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
    source = _digest(fixed, calibration)

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
        made = _prepare(contestant, fixed, signature, calibration, folder, source)
        if "reason" in made:
            entries[contestant.name] = replace(entry, reason=made["reason"])
            continue
        file = Path(made["file"])
        entry = replace(
            entry,
            how=made["how"],
            file_bytes=_count_bytes(file),
            integer=tuple(made["integer"]) if made["integer"] else None,
        )
        ready.append(_Ready(contestant, entry, file))
    tell(f"{network}: preparing", len(contestants), len(contestants))

    wanted = _answer_in_float(fixed, samples[:_COMPARED])
    for count in () if only_prepare else threads:
        _time(ready, signature, compared, count, wanted, seconds)
        tell(f"{network}: timing", list(threads).index(count) + 1, len(threads))
    entries.update({one.contestant.name: one.entry for one in ready})
    return Contest(
        network=network,
        samples=description,
        random_samples=random_samples,
        isa=_native.best_isa(),
        entries=tuple(entries[contestant.name] for contestant in contestants),
    )


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _count_bytes(file: Path) -> int:
    """Returns the size of a file and of the weights beside it."""
    weights = file.with_suffix(".bin")
    return file.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def _prepare(
    contestant: Contestant,
    model: Path,
    signature: Signature,
    samples: Path,
    folder: Path,
    source: str,
) -> dict[str, Any]:
    """Returns what the worker's `prepare` answers or the reason why it can't; a former run's where nothing changed."""
    home = folder / contestant.name.replace(" ", "_")
    record = home / "prepared.json"
    key = [source, contestant.get_version()]
    if record.is_file():
        made: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if made["key"] == key:
            return made
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        with Process(contestant) as process:
            made = process.ask(
                "prepare",
                model=str(model),
                signature=asdict(signature),
                samples=str(samples),
                folder=str(home),
            )
    except EdgekitError as error:
        made = {"reason": str(error)}
    record.write_text(json.dumps({"key": key, **made}), encoding="utf-8")
    return made


def _answer_in_float(model: Path, samples: Sequence[Sample]) -> list[Outputs]:
    session = OnnxSession(model, 1)
    return [list(session.run(sample).values()) for sample in samples]


def _time(
    ready: list[_Ready],
    signature: Signature,
    samples: Path,
    threads: int,
    wanted: list[Outputs],
    seconds: float,
) -> None:
    """Times all contestants with one number of threads, and compares their answers with float."""
    with contextlib.ExitStack() as stack:
        running: list[tuple[_Ready, Process]] = []
        for one in ready:
            process = stack.enter_context(Process(one.contestant))
            one.times = []
            try:
                opened = process.ask(
                    "open",
                    file=str(one.file),
                    signature=asdict(signature),
                    samples=str(samples),
                    threads=threads,
                )
                answers = samples.with_name("answers.npz")
                process.ask("answer", path=str(answers))
                one.entry = _compare(one.entry, answers, wanted)
            except EdgekitError as error:
                one.entry = replace(one.entry, reason=str(error))
                continue
            one.entry.first_ms[threads] = opened["first_ms"]
            running.append((one, process))
        end = time.perf_counter() + seconds
        rounds = 0
        while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
            rounds += 1
            for one, process in running:
                time.sleep(_REST)
                one.times += process.ask("measure", seconds=_TURN, runs=1)["times_ms"]
        for one, process in running:
            one.entry.timings[threads] = summarize(one.times, threads)
            if one.entry.peak_bytes is None:
                one.entry = replace(one.entry, peak_bytes=process.ask("peak")["peak_bytes"])


def _compare(entry: Entry, answers: Path, wanted: list[Outputs]) -> Entry:
    """Returns the entry with what its answers are worth.

    Raises:
        EdgekitError: An answer has another shape than the float model's.
    """
    error, same, total = 0.0, 0, 0
    with np.load(answers, allow_pickle=False) as arrays:
        for index, outputs in enumerate(wanted):
            for place, reference in enumerate(outputs):
                given = arrays[f"{index}/{place}"]
                if given.shape != reference.shape:
                    raise EdgekitError(f"answers {given.shape}, not {reference.shape}")
                if reference.dtype.kind != "f":
                    continue
                difference = relative_error({"": reference}, {"": given})
                error = max(error, difference if math.isfinite(difference) else math.inf)
            if _is_scores(outputs[0]):
                rows = outputs[0].argmax(axis=-1)
                same += int((rows == arrays[f"{index}/0"].argmax(axis=-1)).sum())
                total += rows.size
    snr = math.inf if error == 0.0 else -10.0 * math.log10(error) if error < math.inf else -math.inf
    return replace(entry, snr_db=snr, agreement=Proportion(same, total) if total else None)


def _is_scores(array: np.ndarray[Any, Any]) -> bool:
    """Returns whether an output holds a score for each class in its last axis."""
    return array.ndim in (2, 3) and array.shape[-1] > 1
