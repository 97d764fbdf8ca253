"""Feeds forged plans to a program that loads and runs them, and keeps each that brings it down or makes it hang.

The program reads paths line by line and answers each with a line: tests/native/run_plans.cc, built with sanitizers.

    python tests/fuzz/fuzz_plans.py --minutes 10 --program build/sanitize/tests/native/edgekit_run_plans PLAN...

Exits 1 where a plan was kept.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from forge import Forger, UnforgeableError

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?|'[^']*'|\[[^]]*\]")


@dataclass
class Findings:
    """What feeding showed.

    Attributes:
        answers: How often each answer was given, without its names and numbers.
        kept: Plans that brought the program down, and its last words.
    """

    answers: Counter[str] = field(default_factory=Counter)
    kept: dict[Path, str] = field(default_factory=dict)


class Runner:
    """The program, started again after each fall."""

    def __init__(self, command: list[str], limit_s: float, words: Path) -> None:
        self._command = command
        self._limit_s = limit_s
        self._words = words
        self._begun_s = 0.0
        self._process: subprocess.Popen[str] | None = None

    def ask(self, path: Path) -> tuple[str, bool]:
        """Returns the program's answer to a plan, or its last words, and whether it lives."""
        if self._process is None:
            with self._words.open("w") as words:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    text=True,
                )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._begun_s = self._cpu_seconds()
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        ready = False
        # A program that waits for itself computes nothing.
        end = time.monotonic() + 20 * self._limit_s
        while (
            not ready
            and time.monotonic() < end
            and self._cpu_seconds() < self._begun_s + self._limit_s
        ):
            ready = bool(select.select([self._process.stdout], [], [], 0.5)[0])
        answer = self._process.stdout.readline().strip() if ready else ""
        if answer:
            return answer, True
        self.stop()
        return self._words.read_text()[
            :4000
        ] if ready else f"no answer in {self._limit_s:g} s", False

    def _cpu_seconds(self) -> float:
        """Returns what the program has computed for: a busy machine is no endless loop."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Ends the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def fuzz(
    seeds: list[bytes], command: list[str], keep: Path, *, forgeries: int, seconds: float, seed: int
) -> Findings:
    """Feeds forgeries of `seeds`, and of forgeries that got an answer not heard before."""
    findings = Findings()
    source = random.Random(seed)
    pool = [Forger(plan) for plan in seeds]
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="edgekit-fuzz-") as folder:
        path = Path(folder) / "forged.plan"
        runner = Runner(command, 30.0, Path(folder) / "words")
        try:
            for index in range(forgeries):
                if time.monotonic() > end:
                    break
                # Half of the time a plan that is not forged yet.
                older = source.random() < 0.5
                forger = source.choice(pool[: len(seeds)] if older else pool)
                try:
                    forged = forger.forge(source)
                except UnforgeableError:
                    if forger in pool[: len(seeds)]:
                        raise
                    pool.remove(forger)
                    continue
                path.write_bytes(forged)
                answer, lives = runner.ask(path)
                if not lives:
                    keep.mkdir(parents=True, exist_ok=True)
                    kept = keep / f"{seed}-{index}.plan"
                    kept.write_bytes(forged)
                    findings.kept[kept] = answer
                    continue
                heard = _NUMBER.sub("_", answer)
                if heard not in findings.answers and len(pool) < 2000:
                    pool.append(Forger(forged))
                findings.answers[heard] += 1
        finally:
            runner.stop()
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plans", nargs="+", type=Path)
    parser.add_argument("--program", required=True, help="the program and its options, as one word")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="takes what fell")
    parser.add_argument("--forgeries", type=int, default=1 << 60)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    findings = fuzz(
        [path.read_bytes() for path in arguments.plans],
        shlex.split(arguments.program),
        arguments.keep,
        forgeries=arguments.forgeries,
        seconds=60 * arguments.minutes,
        seed=arguments.seed,
    )
    for answer, count in findings.answers.most_common():
        print(f"{count:8} {answer}")
    print(f"{sum(findings.answers.values())} answers, {len(findings.answers)} different")
    for path, words in findings.kept.items():
        print(f"KEPT {path}\n{words}")
    return 1 if findings.kept else 0


if __name__ == "__main__":
    sys.exit(main())
