"""The process of one contestant: ``python -m edgekit.peers.worker``.

Reads commands from its input, one JSON object a line, and answers each with one on its output; what libraries print
goes to its error stream. A process of its own for each contestant means that thread pools do not meet, that a crash
ends one contestant and not the contest, and that memory can be told apart.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.peers.contestant import Contestant, Problem, Run, Signature, Value
from edgekit.peers.contestants import find_contestant
from edgekit.peers.samples_file import read_samples_file


class Worker:
    """Does what the commands say; their words are the names of its methods."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._run: Run | None = None
        self._samples: list[dict[str, Any]] = []
        self._turn = 0
        self._base = 0

    def prepare(
        self, model: str, signature: dict[str, Any], samples: str, folder: str
    ) -> dict[str, Any]:
        """Makes the contestant's file and counts how much of it is integer."""
        prepared = self._contestant.prepare(
            Problem(
                Path(model),
                parse_signature(signature),
                read_samples_file(Path(samples)),
                Path(folder),
            )
        )
        return {
            "file": str(prepared.file),
            "how": prepared.how,
            "integer": self._contestant.count_integer(prepared.file),
        }

    def open(
        self, file: str, signature: dict[str, Any], samples: str, threads: int
    ) -> dict[str, Any]:
        """Loads the file and runs it once; answers the time of both together."""
        self._samples = read_samples_file(Path(samples))
        self._base = _reset_peak()
        self._contestant.load_library()
        start = time.perf_counter()
        self._run = self._contestant.open(Path(file), parse_signature(signature), threads)
        self._run(self._samples[0])
        return {"first_ms": 1000 * (time.perf_counter() - start)}

    def measure(self, seconds: float, runs: int) -> dict[str, Any]:
        """Runs once uncounted, then times runs for about ``seconds`` but at least ``runs``."""
        assert self._run is not None
        sample = self._samples[self._turn % len(self._samples)]
        self._turn += 1
        self._run(sample)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < runs or time.perf_counter() < end:
            start = time.perf_counter()
            self._run(sample)
            times.append(1000 * (time.perf_counter() - start))
        return {"times_ms": times}

    def answer(self, path: str) -> dict[str, Any]:
        """Writes the outputs for every sample as an ``.npz``."""
        assert self._run is not None
        arrays = {
            f"{index}/{place}": np.array(output)
            for index, sample in enumerate(self._samples)
            for place, output in enumerate(self._run(sample))
        }
        np.savez(Path(path), allow_pickle=False, **arrays)
        return {}

    def peak(self) -> dict[str, Any]:
        """Answers the peak of resident memory since `open`, above what the interpreter held before."""
        peak = _read_peak()
        return {"peak_bytes": peak - self._base if peak else None}


def parse_signature(fields: dict[str, Any]) -> Signature:
    """Returns the signature that `dataclasses.asdict` made ``fields`` of."""
    return Signature(
        *(
            tuple(Value(spec["name"], tuple(spec["shape"]), spec["dtype"]) for spec in fields[side])
            for side in ("inputs", "outputs")
        )
    )


def _reset_peak() -> int:
    """Sets the peak of resident memory to what is resident now and returns that, 0 where the system can't say."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return 0
    return _read_peak()


def _read_peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def main() -> None:
    """Serves commands until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker(find_contestant(sys.argv[1]))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command.pop("do"))(**command)
        except Exception as error:  # Whatever a runtime raises is the contest's to tell.
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
